"""ListenTcp and AcceptTcp: ports in a sandbox whose connections a client takes."""

import contextlib
import queue
import socket
import threading
import time

import grpc
import pytest
import towline_api
from conftest import fails, wait_until

API = towline_api.load()
ACCEPT, INIT = API["towline.v1.AcceptTcpRequest"], API["towline.v1.AcceptTcpInit"]
PENDING_MAX = 32


class Listener:
    """A ListenTcp call: its port, and its connections as they come."""

    def __init__(self, ready, host="localhost", port=0):
        self.ready = ready
        self.channel = ready.gateway.channel()
        request = API["towline.v1.ListenTcpRequest"](sandbox=ready.name, host=host, port=port)
        self.call = API.method(self.channel, "towline.v1.Ports/ListenTcp")(request, timeout=60)
        self.port = next(self.call).bound.port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.call.cancel()

    def next(self):
        return next(self.call).connection

    def take(self, connection_id=None):
        return Taken(self, connection_id or self.next().connection_id)


class Taken:
    """An AcceptTcp call, as a socket of sorts."""

    def __init__(self, listener, connection_id):
        self.requests = queue.Queue()
        self.requests.put(ACCEPT(init=INIT(sandbox=listener.ready.name, connection_id=connection_id)))
        call = API.method(listener.channel, "towline.v1.Ports/AcceptTcp")
        self.call = call(iter(self.requests.get, None), timeout=30)
        self.rest = b""

    def send(self, data):
        self.requests.put(ACCEPT(data=data))

    def end(self):
        self.requests.put(None)

    def recv_exactly(self, n):
        while len(self.rest) < n:
            self.rest += next(self.call).data
        data, self.rest = self.rest[:n], self.rest[n:]
        return data

    def recv_all(self):
        return self.rest + b"".join(message.data for message in self.call)


def dial(port, host="127.0.0.1"):
    return socket.create_connection((host, port), timeout=10)


def test_there_and_back(ready):
    with Listener(ready) as listener, dial(listener.port) as s:
        connection = listener.next()
        assert (connection.peer_host, connection.peer_port) == ("127.0.0.1", s.getsockname()[1])
        taken = listener.take(connection.connection_id)
        s.sendall(b"hello")
        assert taken.recv_exactly(5) == b"hello"
        taken.send(b"you too")
        assert s.recv(100) == b"you too"


def test_refused(ready):
    """At once; only while it waits; and the next one is not affected."""
    with Listener(ready) as listener, dial(listener.port) as s, dial(listener.port) as other:
        first, second = (listener.next().connection_id for _ in "12")
        refuse = ACCEPT(init=INIT(sandbox=ready.name, connection_id=first, refuse=True))
        accept = API.method(listener.channel, "towline.v1.Ports/AcceptTcp")
        assert list(accept(iter([refuse]), timeout=10)) == []
        s.settimeout(2)
        with pytest.raises(ConnectionResetError):
            s.recv(1)
        with fails(grpc.StatusCode.NOT_FOUND, "was taken"):
            list(accept(iter([refuse]), timeout=10))
        taken = listener.take(second)
        taken.send(b"here")
        assert other.recv(4) == b"here"
        refuse = ACCEPT(init=INIT(sandbox=ready.name, connection_id=second, refuse=True))
        with fails(grpc.StatusCode.NOT_FOUND, "was taken"):
            list(accept(iter([refuse]), timeout=10))


@pytest.mark.parametrize("first", ["program", "client"])
def test_half_close(ready, first):
    with Listener(ready) as listener, dial(listener.port) as s:
        taken = listener.take()
        if first == "program":
            s.sendall(b"all of it")
            s.shutdown(socket.SHUT_WR)
            assert taken.recv_all() == b"all of it"
        else:
            taken.send(b"late")
            taken.end()
            assert s.recv(100) == b"late" and s.recv(100) == b""
            s.sendall(b"later")
            s.shutdown(socket.SHUT_WR)
            assert taken.recv_all() == b"later"


def test_large(ready):
    data = bytes(range(256)) * (64 << 10)
    with Listener(ready) as listener, dial(listener.port) as s:
        taken = listener.take()
        for i in range(0, len(data), 1 << 20):
            taken.send(data[i : i + (1 << 20)])
        taken.end()
        assert b"".join(iter(lambda: s.recv(1 << 20), b"")) == data
        sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
        sender.start()
        assert taken.recv_all() == data
        sender.join(30)


@pytest.mark.parametrize("host,reaches", [("localhost", ["127.0.0.1", "::1"]), ("", ["127.0.0.1", "::1"]),
                                          ("127.0.0.1", ["127.0.0.1"]), ("::1", ["::1"])])
def test_hosts(ready, host, reaches):
    with Listener(ready, host) as listener:
        for address in ["127.0.0.1", "::1"]:
            if address in reaches:
                with dial(listener.port, address):
                    assert listener.next().peer_host == address
            else:
                with pytest.raises(ConnectionRefusedError):
                    dial(listener.port, address)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "*", "10.0.0.1", "example.com", "127.0.0.2"])
def test_other_hosts_are_refused(ready, host):
    with fails(grpc.StatusCode.PERMISSION_DENIED, "cannot be listened on"):
        Listener(ready, host)


def test_ports(ready):
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "65536"):
        Listener(ready, port=65536)
    with Listener(ready) as listener:
        with fails(grpc.StatusCode.UNAVAILABLE, str(listener.port)):
            Listener(ready, port=listener.port)
        port = listener.port

    def again():
        with contextlib.suppress(grpc.RpcError):
            return Listener(ready, port=port)

    with wait_until(again, 5, "the port is free again") as listener:
        assert listener.port == port


def test_connection_that_is_not_taken(ready):
    with Listener(ready) as listener, dial(listener.port) as s:
        connection = listener.next()
        began = time.monotonic()
        s.settimeout(15)
        with pytest.raises(ConnectionResetError):
            s.recv(1)
        assert 9 < time.monotonic() - began < 13
        with fails(grpc.StatusCode.NOT_FOUND, "no connection waits"):
            listener.take(connection.connection_id).recv_all()


def test_connection_is_taken_once(ready):
    with Listener(ready) as listener, dial(listener.port):
        connection = listener.next()
        first = listener.take(connection.connection_id)
        first.send(b"x")
        with fails(grpc.StatusCode.NOT_FOUND, "it was taken"):
            listener.take(connection.connection_id).recv_all()


def test_end_of_listening(ready):
    """What waits is reset; what was taken goes on."""
    with Listener(ready) as listener, dial(listener.port) as kept, dial(listener.port) as waiting:
        taken = listener.take()
        listener.next()
        kept.sendall(b"a")
        assert taken.recv_exactly(1) == b"a"
        listener.call.cancel()
        with pytest.raises(ConnectionResetError):
            waiting.recv(1)
        taken.send(b"b")
        assert kept.recv(1) == b"b"
        with pytest.raises(ConnectionRefusedError):
            dial(listener.port)


def test_too_many_that_wait(ready):
    """More connections than may wait stay in the backlog until one is taken."""
    with Listener(ready) as listener, contextlib.ExitStack() as stack:
        for _ in range(PENDING_MAX + 4):
            stack.enter_context(dial(listener.port))
        ids = [listener.next().connection_id for _ in range(PENDING_MAX)]
        came = queue.Queue()
        threading.Thread(target=lambda: came.put(listener.next()), daemon=True).start()
        with pytest.raises(queue.Empty):
            came.get(timeout=0.5)
        taken = listener.take(ids[0])
        taken.send(b"x")
        assert came.get(timeout=5).connection_id not in ids


def test_too_many_listeners(ready):
    with contextlib.ExitStack() as stack:
        for _ in range(64):
            stack.enter_context(Listener(ready))
        with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "64 ports"):
            Listener(ready)


def test_slow_reader_stops_the_program(ready):
    with Listener(ready) as listener, dial(listener.port) as s:
        taken = listener.take()
        s.setblocking(False)
        sent = 0
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            try:
                sent += s.send(bytes(1 << 20))
            except BlockingIOError:
                time.sleep(0.05)
        assert sent < 64 << 20
        taken.call.cancel()


def test_first_message(ready):
    call = API.method(ready.gateway.channel(), "towline.v1.Ports/AcceptTcp")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "init"):
        list(call(iter([ACCEPT(data=b"x")]), timeout=10))
    with fails(grpc.StatusCode.NOT_FOUND, "no connection waits"):
        list(call(iter([ACCEPT(init=INIT(sandbox=ready.name, connection_id="x"))]), timeout=10))
