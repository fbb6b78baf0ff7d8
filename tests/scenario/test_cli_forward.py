"""towline forward: a port here is a port there, and stays one."""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import struct
import threading
import time

import pytest
from conftest import wait_until
from towline_cli import box  # noqa: F401


@contextlib.contextmanager
def service(serve, host="127.0.0.1"):
    """The local driver's sandboxes share our loopback: a service of ours is one of theirs."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family, backlog=64) as listener:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def echo(connection):
    with connection, contextlib.suppress(OSError):
        while data := connection.recv(65536):
            connection.sendall(data)


def converse(address, data):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host.strip("[]"), int(port)), timeout=30) as connection:

        def send():
            with contextlib.suppress(OSError):  # what is wrong is seen by the reader
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        try:
            return b"".join(iter(lambda: connection.recv(1 << 20), b""))
        finally:
            sender.join()


@contextlib.contextmanager
def forwarding(box, *words):
    """A forward in the foreground; gives its process and address."""
    process = box.popen("forward", *words)
    try:
        address = process.stdout.readline().decode().strip()
        assert address, process.communicate(timeout=10)
        yield process, address
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=30)


def test_foreground(box):
    data = os.urandom(3_000_000)
    with service(echo) as port:
        with forwarding(box, "start", f"0:{port}", "box") as (process, address):
            assert address.startswith("127.0.0.1:")
            assert converse(address, data) == data
            assert converse(address, b"") == b""
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 128 + signal.SIGINT
        assert box("-o", "json", "forward", "list").json == []


def test_background(box):
    with service(echo) as port:
        started = box("-o", "json", "forward", "start", "-d", f"0:{port}", "box").json
        assert started["pid"] in box.running()
        address = f"{started['bind']}:{started['port']}"
        assert converse(address, b"hello") == b"hello"
        (listed,) = box("-o", "json", "forward", "list").json
        assert listed == started
        table = box("forward", "list").out.splitlines()
        assert table[0].split()[:4] == ["LOCAL", "SANDBOX", "TARGET", "PID"]
        assert table[1].split()[:4] == [address, "box", f"127.0.0.1:{port}", str(started["pid"])]
        assert "stopped" in box("forward", "stop", str(started["port"])).err
        assert started["pid"] not in box.running()
        with pytest.raises(ConnectionRefusedError):
            converse(address, b"")
    assert "not forwarded" in box("forward", "stop", str(started["port"]), code=1).err


def test_background_lets_go_of_its_pipes(box):
    began = time.monotonic()
    started = box("forward", "start", "-d", "0:9", "box").out.strip()
    assert time.monotonic() - began < 20
    box("forward", "stop", started.rsplit(":", 1)[1])


def test_same_port_and_service(box):
    with service(echo) as port, socket.create_server(("127.0.0.2", 0)) as other:
        free = other.getsockname()[1]
        with forwarding(box, "start", f"127.0.0.3:{free}:{port}", "box") as (_, address):
            assert address == f"127.0.0.3:{free}"
            assert converse(address, b"x") == b"x"
        with forwarding(box, "service", "box", "--target-port", str(port), "--local", "127.0.0.4:0") as (_, address):
            assert address.startswith("127.0.0.4:")
            assert converse(address, b"y") == b"y"
        with forwarding(box, "start", f"127.0.0.5:{port}", "box") as (_, address):
            assert converse(address, b"z") == b"z"


def test_ipv6(box):
    with service(echo, "::1") as port:
        words = ("service", "box", "--target-port", str(port), "--target-host", "::1", "--local", "[::1]:0")
        with forwarding(box, *words) as (_, address):
            assert address.startswith("[::1]:")
            assert converse(address, b"six") == b"six"
            assert address in box("forward", "list").out or "::1" in box("forward", "list").out


def test_port_taken(box):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words in ([], ["-d"]):
            assert str(port) in box("forward", "start", *words, f"{port}:9", "box", code=1).err
    started = box("forward", "start", "-d", "0:9", "box").out.strip().rsplit(":", 1)[1]
    assert "in use" in (text := box("forward", "start", "-d", f"{started}:9", "box", code=1).err) or "another" in text
    box("forward", "stop", started)


def test_no_such_sandbox(box):
    for words in ([], ["-d"]):
        assert "nonesuch" in box("forward", "start", *words, "0:9", "nonesuch", code=1).err


def test_a_connection_that_fails_does_not_end_it(box):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with forwarding(box, "start", f"0:{port}", "box") as (process, address):
            with pytest.raises((ConnectionResetError, AssertionError)):
                assert converse(address, b"x") == b"x"
            (listed,) = box("-o", "json", "forward", "list").json
            assert str(port) in listed["error"]
            unused.listen()
            threading.Thread(target=lambda: echo(unused.accept()[0]), daemon=True).start()
            assert converse(address, b"again") == b"again"
            process.terminate()
            assert str(port).encode() in process.communicate(timeout=30)[1]


def test_it_outlives_its_gateway(box):
    with service(echo) as port, forwarding(box, "start", f"0:{port}", "box") as (process, address):
        assert converse(address, b"before") == b"before"
        endpoint = box.gateway.target
        box.gateway.kill()
        with pytest.raises((ConnectionResetError, AssertionError)):
            assert converse(address, b"x") == b"x"
        box.gateway.listen = (endpoint,)
        box.gateway.start()
        box.gateway.wait_phase("box", "READY")

        def again():
            with contextlib.suppress(OSError):
                return converse(address, b"after") == b"after"

        wait_until(again, 60, "it works again")
        assert process.poll() is None


def test_half_close_both_ways(box):
    def last_word(connection):
        with connection:
            while connection.recv(65536):
                pass
            connection.sendall(b"all read")

    with service(last_word) as port, forwarding(box, "start", f"0:{port}", "box") as (_, address):
        assert converse(address, bytes(1 << 20)) == b"all read"


def test_reset_is_not_an_end(box):
    def cut(connection):
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()

    with service(cut) as port, forwarding(box, "start", f"0:{port}", "box") as (_, address):
        with pytest.raises(ConnectionResetError):
            converse(address, b"x")


def test_many_at_once(box):
    data = os.urandom(200_000)
    with service(echo) as port, forwarding(box, "start", f"0:{port}", "box") as (_, address):
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(converse(address, data))) for _ in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(answers) == 200 and all(answer == data for answer in answers)


@contextlib.contextmanager
def quiet_service():
    """Greets who comes, and keeps them."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        kept = []

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])
                    kept[-1].sendall(b"!")

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for connection in kept:
            connection.close()


def greeted(connections, count, seconds=30):
    """Those of them that the service speaks to, once there are so many, or after so long."""
    poll, seen = select.poll(), []
    by_fd = {connection.fileno(): connection for connection in connections}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    deadline = time.monotonic() + seconds
    while len(seen) < count and time.monotonic() < deadline:
        for fd, _ in poll.poll(100):
            assert by_fd[fd].recv(1) == b"!"
            poll.unregister(fd)
            seen.append(by_fd[fd])
    return seen


@pytest.fixture
def many_descriptors():
    """For us, and for the programs that we start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 4096:
        pytest.skip("too few descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_more_than_a_forward_takes(many_descriptors, box):
    """1024 connections at once; further ones wait for their turn, and get it."""
    with quiet_service() as port, forwarding(box, "start", f"0:{port}", "box") as (_, address):
        host, at = address.rsplit(":", 1)
        connections = [socket.create_connection((host, int(at)), timeout=10) for _ in range(1034)]
        first = greeted(connections, 1024)
        assert len(first) == 1024
        others = list(set(connections) - set(first))
        assert greeted(others, 1, seconds=0.3) == []
        for connection in first[:10]:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST
            connection.close()
        assert len(greeted(others, 10)) == 10
        for connection in connections:
            connection.close()


def test_a_killed_one_is_not_listed(box):
    started = box("-o", "json", "forward", "start", "-d", "0:9", "box").json
    records = list((box.state / "forwards").iterdir())
    assert len(records) == 1 and json.loads(records[0].read_text())["pid"] == started["pid"]
    os.kill(started["pid"], signal.SIGKILL)
    wait_until(lambda: started["pid"] not in box.running(), 10, "it is gone")
    assert box("-o", "json", "forward", "list").json == []
    assert not list((box.state / "forwards").iterdir())


def test_on_a_terminal_ctrl_c_ends_it(box):
    with box.terminal("forward", "start", "0:9", "box") as screen:
        screen.expect(rb"127\.0\.0\.1:\d+\r\n")
        screen.type("\x03")
        assert screen.end() in (130, -signal.SIGINT)


def test_what_create_forwards(box):
    with service(echo) as port:
        made = box("sandbox", "create", "-n", "f", "--forward", f"127.0.0.9:{port}", "--detach")
        assert made.out == "f\n"
        assert converse(f"127.0.0.9:{port}", b"via create") == b"via create"
        box("forward", "stop", f"127.0.0.9:{port}")
    box("sandbox", "delete", "f")


def test_deleting_the_sandbox_ends_its_forwards(box):
    box("sandbox", "create", "-n", "other", "--forward", "0:9", "--forward", "0:10", "--detach")
    kept = box("-o", "json", "forward", "start", "-d", "0:9", "box").json
    assert len(box("-o", "json", "forward", "list").json) == 3
    assert box("sandbox", "delete", "other").err.count("stopped 127.0.0.1:") == 2
    assert box("-o", "json", "forward", "list").json == [kept]
    box("forward", "stop", str(kept["port"]))
