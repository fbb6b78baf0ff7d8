"""ForwardTcp: bytes as they are, half-close kept, and loopback only."""

import contextlib
import os
import queue
import socket
import threading

import grpc
import pytest
import towline_api
from conftest import fails
from openshell._proto import openshell_pb2 as pb


@contextlib.contextmanager
def service(serve, host="127.0.0.1"):
    """Runs serve(connection) for each connection, in a thread of its own; gives the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def echo(connection):
    with connection, contextlib.suppress(ConnectionError):
        while data := connection.recv(65536):
            connection.sendall(data)


def init_of(ready, port, host="127.0.0.1"):
    target = pb.TcpRelayTarget(host=host, port=port)
    return pb.TcpForwardFrame(init=pb.TcpForwardInit(sandbox=ready.name, tcp=target))


def forward(ready, port, frames, host="127.0.0.1", timeout=30):
    requests = iter([init_of(ready, port, host), *(pb.TcpForwardFrame(data=data) for data in frames)])
    call = ready.gateway.stub.ForwardTcp(requests, timeout=timeout)
    return b"".join(frame.data for frame in call)


@pytest.mark.parametrize("size", [0, 1, 65536, 5 << 20])
def test_echo(ready, size):
    data = os.urandom(size)
    frames = [data[i : i + 100_000] for i in range(0, size, 100_000)]
    with service(echo) as port:
        assert forward(ready, port, frames) == data


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f.1", "2130706433", "0177.0.0.1",
                                  "::ffff:127.0.0.1", "::ffff:7f00:1", "LOCALHOST"])
def test_loopback_in_any_spelling(ready, host):
    with service(echo) as port:
        assert forward(ready, port, [b"hello"], host) == b"hello"


def test_loopback_of_ipv6(ready):
    with service(echo, "::1") as port:
        assert forward(ready, port, [b"hello"], "::1") == b"hello"
        assert forward(ready, port, [b"hello"], "localhost") == b"hello"


def test_confirmation(ready):
    """An empty frame comes when the service has been reached, before it says anything."""
    api = towline_api.load()
    frame = api["openshell.v1.TcpForwardFrame"]

    def call(port):
        init = api["openshell.v1.TcpForwardInit"](sandbox=ready.name, confirm=True)
        init.tcp.host, init.tcp.port = "127.0.0.1", port
        requests.put(frame(init=init))
        method = api.method(ready.gateway.channel(), "openshell.v1.OpenShell/ForwardTcp")
        return method(iter(requests.get, None), timeout=10)

    requests = queue.Queue()
    with service(echo) as port:
        answer = call(port)
        assert next(answer) == frame()
        requests.put(frame(data=b"hello"))
        assert next(answer).data == b"hello"
        requests.put(None)
        assert list(answer) == []
    with fails(grpc.StatusCode.UNAVAILABLE, "nothing answers"):
        next(call(1))


REFUSED = """
    0 0.0.0.0 0x0 00000000000 :: [::] ::ffff:0.0.0.0 ::0.0.0.0 128.0.0.1 126.255.255.255 2147483648 0x80000000
    10.0.0.1 10.1 0xa.1 012.0.0.1 167772161 192.168.0.1 172.16.0.1 100.64.0.1 224.0.0.1 255.255.255.255 1.1.1.1
    169.254.169.254 169.254.43518 0xa9fea9fe 2852039166 0251.0376.0251.0376 ::ffff:169.254.169.254 ::ffff:a9fe:a9fe
    ::ffff:10.0.0.1 64:ff9b::7f00:1 2002:7f00:1:: ::2 fe80::1 fe80::1%lo ::1%lo%lo fc00::1 ff02::1 2001:db8::1
    ::127.0.0.1 ::ffff:0:127.0.0.1 example.com localhost. localhost.localdomain ip6-localhost 127.0.0.1.nip.io
    127.0.0.1. 127.0.0.256 127.0.0.1.1 0x7f000001x 127.0.0.0x 08.0.0.1 4294967296 -1 127,0,0,1 127.0.0.1:80
    [::1] http://127.0.0.1 127.0.0.1/8 127.0.0.1@1.1.1.1 lo
""".split()


def test_other_targets_are_refused(ready):
    """Decided on the address that would be dialled, however it is spelt."""
    for host in ["", " ", "127.0.0.1 ", " 127.0.0.1 1.1.1.1", "127.0.0.1\n", "x" * 5000, *REFUSED]:
        with fails(grpc.StatusCode.PERMISSION_DENIED, "loopback"):
            forward(ready, 80, [], host)


def test_nothing_listens(ready):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with fails(grpc.StatusCode.UNAVAILABLE, f"127.0.0.1:{port}"):
            forward(ready, port, [b"x"])
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "port"):
        forward(ready, 0, [])


def test_client_half_close_reaches_the_service(ready):
    """The service answers only when its input has ended."""

    def count(connection):
        with connection:
            total = 0
            while data := connection.recv(65536):
                total += len(data)
            connection.sendall(str(total).encode())

    with service(count) as port:
        assert forward(ready, port, [b"x" * 1000] * 50) == b"50000"


def test_service_resets(ready):
    def reset(connection):
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    with service(reset) as port, fails(grpc.StatusCode.UNAVAILABLE, f"127.0.0.1:{port}"):
        forward(ready, port, [b"x"])


def test_client_goes(ready):
    gone = queue.Queue()

    def wait_for_end(connection):
        with connection:
            connection.sendall(b"up")
            with contextlib.suppress(OSError):
                while connection.recv(65536):
                    pass
            gone.put(True)

    with service(wait_for_end) as port:
        requests = queue.Queue()
        requests.put(init_of(ready, port))
        call = ready.gateway.stub.ForwardTcp(iter(requests.get, None), timeout=30)
        assert next(call).data == b"up"
        call.cancel()
        requests.put(None)
        assert gone.get(timeout=10)


def test_second_init_is_refused(ready):
    with service(echo) as port:
        frames = iter([init_of(ready, port), init_of(ready, port)])
        with fails(grpc.StatusCode.INVALID_ARGUMENT, "second init"):
            list(ready.gateway.stub.ForwardTcp(frames, timeout=30))


def test_stalled_stream_stops_nobody(ready):
    """One service never reads; its neighbour on the same tunnel moves on."""
    stop = threading.Event()

    def never_read(connection):
        stop.wait(30)
        connection.close()

    def endless(port):
        yield init_of(ready, port)
        while not stop.is_set():
            yield pb.TcpForwardFrame(data=b"z" * 65536)

    with service(never_read) as deaf, service(echo) as port:
        stalled = ready.gateway.stub.ForwardTcp(endless(deaf), timeout=60)
        data = os.urandom(8 << 20)
        frames = [data[i : i + 65536] for i in range(0, len(data), 65536)]
        for _ in range(3):
            assert forward(ready, port, frames) == data
        stop.set()
        stalled.cancel()
