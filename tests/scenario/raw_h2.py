"""HTTP/2 by hand: what a gRPC library would not send, and steps that it would not take.

    with raw_h2.connect(gateway.target) as client:
        stream = client.call("/openshell.v1.OpenShell/ForwardTcp", frame(message))
        stream.send(frame(another))
        stream.end()                       # half-close; stream.reset() cuts
        stream.messages, stream.status     # once client.wait(...) has seen them
"""

import contextlib
import socket
import struct
import time

import grpc
import h2.config
import h2.connection
import h2.errors
import h2.events
from conftest import wait_until

WAIT_SECONDS = 20
CODES = {code.value[0]: code for code in grpc.StatusCode}


def frame(message, length=None):
    """A gRPC message with its prefix; the length may be a lie."""
    data = message if isinstance(message, bytes) else message.SerializeToString()
    return struct.pack(">BI", 0, len(data) if length is None else length) + data


class Stream:
    def __init__(self, client, number):
        self.client = client
        self.number = number
        self.received = b""  # with the prefixes
        self.trailers = {}
        self.ended = False  # the server has ended its direction
        self.reset_code = None

    def send(self, data, piece=16384):
        """All of it, in DATA frames of a size, as the windows open."""
        h2 = self.client.h2
        for at in range(0, len(data), piece):
            part = data[at : at + piece]
            room = len(part)
            self.client.wait(lambda: self.over or h2.local_flow_control_window(self.number) >= room)
            if self.over:
                return
            h2.send_data(self.number, part)
            self.client.flush()

    def send_until_stalled(self, data):
        """The same bytes again and again, until the server has taken none for a while."""
        while True:
            self.client.idle(0.2)
            room = self.client.h2.local_flow_control_window(self.number)
            if room < len(data):
                return
            for _ in range(room // len(data)):
                self.send(data)

    def end(self):
        if not self.over:
            self.client.h2.end_stream(self.number)
            self.client.flush()

    def reset(self):
        self.client.h2.reset_stream(self.number, h2.errors.ErrorCodes.CANCEL)
        self.client.flush()

    @property
    def over(self):
        return self.reset_code is not None or self.client.gone

    @property
    def messages(self):
        """The whole ones so far, without their prefixes."""
        found, at = [], 0
        while len(self.received) - at >= 5:
            size = struct.unpack(">I", self.received[at + 1 : at + 5])[0]
            if len(self.received) - at - 5 < size:
                break
            found.append(self.received[at + 5 : at + 5 + size])
            at += 5 + size
        return found

    @property
    def status(self):
        """(code, details), None before the end; UNAVAILABLE if it was cut without one."""
        if "grpc-status" in self.trailers:
            return CODES[int(self.trailers["grpc-status"])], self.trailers.get("grpc-message", "")
        return (grpc.StatusCode.UNAVAILABLE, "no status") if self.over else None

    def wait_status(self):
        self.client.wait(lambda: self.status is not None)
        return self.status


class Client:
    def __init__(self, target):
        host, _, port = target.rpartition(":")
        self.socket = socket.create_connection((host.strip("[]"), int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.streams = {}
        self.gone = False  # the server has closed the connection
        self.goaway = None
        self.reads = True  # gives credit for what comes
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        with contextlib.suppress(OSError):
            self.socket.sendall(self.h2.data_to_send())

    def open(self, path, **more):
        headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
        headers += [("te", "trailers"), ("content-type", "application/grpc"), *more.items()]
        number = self.h2.get_next_available_stream_id()
        self.h2.send_headers(number, headers)
        self.flush()
        self.streams[number] = Stream(self, number)
        return self.streams[number]

    def call(self, path, data, end=False):
        stream = self.open(path)
        stream.send(data)
        if end:
            stream.end()
        return stream

    def pump(self, seconds):
        """Takes what has come; waits so long for the first of it."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1 << 20)
        except TimeoutError:
            return
        except OSError:
            data = b""
        if not data:
            self.gone = True
            return
        for event in self.h2.receive_data(data):
            self.take(event)
        self.flush()

    def take(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        match event:
            case h2.events.DataReceived():
                stream.received += event.data
                if self.reads:
                    self.h2.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
            case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                stream.trailers.update(event.headers)
            case h2.events.StreamEnded():
                stream.ended = True
            case h2.events.StreamReset():
                stream.reset_code = event.error_code
            case h2.events.ConnectionTerminated():
                self.goaway = event.error_code

    def wait(self, question):
        def answer():
            done = question()
            if not done and not self.gone:
                self.pump(0.1)
            return done or question()

        return wait_until(answer, WAIT_SECONDS, "the server says what is waited for")

    def idle(self, seconds):
        """Reads for a while, whatever comes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.gone:
            self.pump(max(0.001, end - time.monotonic()))

    def vanish(self):
        """As a client whose machine lost its power, if its kernel still says so: RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@contextlib.contextmanager
def connect(target):
    client = Client(target)
    try:
        yield client
    finally:
        client.socket.close()
