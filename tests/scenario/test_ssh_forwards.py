"""Forwards of SSH, either way, and what else a connection is asked for as a whole."""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
from conftest import wait_until
from raw_ssh import (
    CHANNEL_OPEN,
    CHANNEL_OPEN_CONFIRMATION,
    CHANNEL_OPEN_FAILURE,
    DISCONNECT,
    channel_open,
    string,
    take_string,
)
from ssh_box import box  # noqa: F401
from ssh_channel import (
    EXTENDED_DATA,
    GLOBAL_REQUEST,
    MIB,
    REQUEST_FAILURE,
    REQUEST_SUCCESS,
    command,
    drain,
    open_session,
    read_some,
    request,
    send_data,
)
from test_forward import echo, service


def fetch(port, data):
    """Says data to an echo, and gives what comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
        sender.start()
        got = b"".join(iter(lambda: s.recv(MIB), b""))
        sender.join()
        return got


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


def test_local_forward(box):
    data, local = os.urandom(5 * MIB), free_port()
    with service(echo) as port, box.forwards("-L", f"{local}:127.0.0.1:{port}"):
        assert fetch(local, b"") == b""
        assert fetch(local, data) == data
        with socket.create_connection(("127.0.0.1", local)) as first:
            first.sendall(b"x")
            assert first.recv(1) == b"x"
            assert fetch(local, b"other") == b"other"


def socks(local, host, port):
    s = socket.create_connection(("127.0.0.1", local), timeout=10)
    s.sendall(b"\x05\x01\x00")
    assert s.recv(2) == b"\x05\x00"
    s.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + struct.pack(">H", port))
    return s, s.recv(10)


def test_dynamic_forward(box):
    local = free_port()
    with service(echo) as port, box.forwards("-D", str(local)):
        s, answer = socks(local, "localhost", port)
        with s:
            assert answer[1] == 0
            s.sendall(b"hello")
            assert s.recv(5) == b"hello"
        for host in ("10.0.0.1", "example.com"):
            s, answer = socks(local, host, port)
            s.close()
            assert answer[1:2] != b"\0"
        s, answer = socks(local, "127.0.0.1", free_port())
        s.close()
        assert answer[1:2] != b"\0"


def test_stdio_forward(box):
    with service(echo) as port:
        done = subprocess.run(box.words(options=("-W", f"127.0.0.1:{port}")), input=b"in", capture_output=True,
                              timeout=20)
        assert done.stdout == b"in"
    refused = subprocess.run(box.words(options=("-v", "-W", f"127.0.0.1:{free_port()}")), input=b"",
                             capture_output=True, timeout=20)
    assert refused.returncode != 0 and b"nothing answers at 127.0.0.1" in refused.stderr


def test_why_a_forward_was_refused(box):
    """OpenSSH's client shows no reason that comes with a refusal; commands of the connection do."""
    local, nobody = free_port(), free_port()
    line = box.words("echo here; sleep 1; echo there", options=("-L", f"{local}:127.0.0.1:{nobody}"))
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"here\n"
        for _ in range(3):
            with socket.create_connection(("127.0.0.1", local), timeout=10) as s:
                with contextlib.suppress(ConnectionResetError):
                    assert s.recv(1) == b""
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (0, b"there\n")
    assert err.count(b"towline: a forward was refused: nothing answers at 127.0.0.1") == 1
    # What is asked for before there is a command.
    _, out, err = box.run("echo here", options=("-R", "10.0.0.1:0:127.0.0.1:1"))
    assert out == b"here\n" and b"towline: a forward was refused: '10.0.0.1' cannot be listened on" in err


def test_reasons_come_one_a_second(box):
    raw = box.raw()
    theirs = open_session(raw)
    request(raw, theirs, "exec", string("read x"))
    err = b""
    for wait, number in ((0, 1), (0, 2), (1.1, 3), (0, 4)):
        time.sleep(wait)
        target = string(f"host{number}.example") + struct.pack(">I", 80) + string("127.0.0.1") + struct.pack(">I", 1)
        raw.send(channel_open("direct-tcpip", 10 + number, more=target))
        while (packet := raw.read_until(CHANNEL_OPEN_FAILURE, EXTENDED_DATA))[0] == EXTENDED_DATA:
            err += take_string(packet, 9)[0]
    send_data(raw, theirs, b"\n")
    err += drain(raw).err
    assert [b"host%d.example" % number in err for number in range(1, 5)] == [True, False, True, False]


def test_remote_forward(box):
    data, remote = os.urandom(5 * MIB), free_port()
    with service(echo) as port, box.forwards("-R", f"{remote}:127.0.0.1:{port}") as control:
        # The local driver's sandbox has this machine's loopback.
        assert fetch(remote, data) == data
        assert fetch(remote, b"") == b""
        cancel = ["ssh", "-F", "none", "-S", str(control), "-O", "cancel", "-R", f"{remote}:127.0.0.1:{port}", "x"]
        subprocess.run(cancel, check=True, capture_output=True)

        def is_closed():
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", remote)).close()
                return False
            return True

        wait_until(is_closed, 5, "the port is closed")


def test_remote_forwards_in_their_order(box):
    """Answers come as the requests did; 16 ports at most; others' addresses are refused."""
    raw = box.raw()
    for host in ["localhost"] * 8 + ["10.0.0.1"] + [""] * 8 + ["localhost"]:
        raw.send(bytes([GLOBAL_REQUEST]) + string("tcpip-forward") + b"\1" + string(host) + struct.pack(">I", 0))
    answers = [raw.read_until(REQUEST_SUCCESS, REQUEST_FAILURE) for _ in range(18)]
    granted = [answer[0] == REQUEST_SUCCESS for answer in answers]
    assert granted == [True] * 8 + [False] + [True] * 8 + [False]
    ports = [struct.unpack(">I", answer[1:5])[0] for answer in answers if answer[0] == REQUEST_SUCCESS]
    assert len(set(ports)) == 16
    raw.send(bytes([GLOBAL_REQUEST]) + string("cancel-tcpip-forward") + b"\1" + string("") + struct.pack(">I", ports[9]))
    assert raw.read_until(REQUEST_SUCCESS, REQUEST_FAILURE)[0] == REQUEST_SUCCESS
    raw.send(bytes([GLOBAL_REQUEST]) + string("cancel-tcpip-forward") + b"\1" + string("") + struct.pack(">I", ports[0]))
    assert raw.read_until(REQUEST_SUCCESS, REQUEST_FAILURE)[0] == REQUEST_FAILURE


def listen(raw):
    raw.send(bytes([GLOBAL_REQUEST]) + string("tcpip-forward") + b"\1" + string("localhost") + struct.pack(">I", 0))
    return struct.unpack(">I", raw.read_until(REQUEST_SUCCESS)[1:5])[0]


def asked(raw, port):
    """The number of the channel that the client is asked to open."""
    packet = raw.read_until(CHANNEL_OPEN)
    kind, at = take_string(packet, 1)
    number, _, _ = struct.unpack_from(">III", packet, at)
    host, at = take_string(packet, at + 12)
    assert (kind, host) == (b"forwarded-tcpip", b"localhost")
    assert struct.unpack_from(">I", packet, at) == (port,)
    return number


def refusal(number):
    return bytes([CHANNEL_OPEN_FAILURE]) + struct.pack(">II", number, 2) + string("no") + string("")


def test_connection_from_the_sandbox_that_is_taken(box):
    raw = box.raw()
    port = listen(raw)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as s:
        number = asked(raw, port)
        s.sendall(b"early")
        raw.send(bytes([CHANNEL_OPEN_CONFIRMATION]) + struct.pack(">IIII", number, 5, MIB, 1 << 15))
        assert read_some(raw, 5) == b"early"
        send_data(raw, number, b"back")
        assert s.recv(4) == b"back"


@contextlib.contextmanager
def stopped(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def global_request(name, more=b"", reply=True):
    return bytes([GLOBAL_REQUEST]) + string(name) + bytes([reply]) + more


LISTEN = global_request("tcpip-forward", string("localhost") + struct.pack(">I", 0))
KEEPALIVE = global_request("keepalive@openssh.com")


def answers(raw, count):
    """F: refused, P: granted with a port, S: granted."""
    all_of_them = [raw.read_until(REQUEST_SUCCESS, REQUEST_FAILURE) for _ in range(count)]
    return "".join("F" if answer[0] == REQUEST_FAILURE else "SP"[len(answer) == 5] for answer in all_of_them)


@pytest.mark.parametrize("at_once", [True, False])
def test_global_requests_in_their_order(box, at_once):
    """RFC 4254, section 4: whatever they are, and however long one takes."""
    raw = box.raw()
    requests = [KEEPALIVE, LISTEN, KEEPALIVE, KEEPALIVE, global_request("cancel-tcpip-forward", LISTEN[-17:]), LISTEN,
                global_request("keepalive@openssh.com", reply=False), KEEPALIVE]
    with contextlib.nullcontext() if at_once else stopped(supervisor_of(box)):
        if at_once:
            raw.sock.sendall(b"".join(raw.pack(request) for request in requests))
        else:
            for request in requests:
                raw.send(request)
                time.sleep(0.05)
            assert answers(raw, 1) == "S"
            with pytest.raises(TimeoutError):
                raw.sock.settimeout(0.5)
                raw.read()
            raw.sock.settimeout(10)
    assert answers(raw, 6 if not at_once else 7) == ("S" if at_once else "") + "PSSFPS"


def test_global_requests_without_an_answer(box):
    """One is refused after 15 s; more than 64 end the connection."""
    raw, many = box.raw(), box.raw()
    with stopped(supervisor_of(box)):
        for request in (LISTEN, KEEPALIVE):
            raw.send(request)
        for request in [LISTEN] + [KEEPALIVE] * 64:
            many.send(request)
        assert b"requests to listen wait" in many.read_until(DISCONNECT)
        raw.sock.settimeout(20)
        assert answers(raw, 2) == "FS"
    assert command(raw, "echo here")[0] == b"here\n"


def supervisor_of(box):
    folder = box.real.sandbox_dir(box.real.get("box").metadata.id)
    return int((folder / "supervisor.pid").read_text().split()[0])


def is_reset(s, seconds):
    s.settimeout(seconds)
    try:
        s.recv(1)
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    raise AssertionError("it was closed in order")


@pytest.mark.parametrize("late", [None, "gateway", "supervisor"])
def test_connection_from_the_sandbox_that_is_refused(box, late):
    """At once, also when the sandbox has not heard before that it was to be taken."""
    raw = box.raw()
    port = listen(raw)
    pids = {"gateway": box.real.process.pid, "supervisor": supervisor_of(box)}
    with contextlib.ExitStack() as stack:
        with stopped(box.process.pid):
            s = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
            time.sleep(0.3)  # the gateway passes it on
            pause = stack.enter_context(contextlib.ExitStack())
            if late:
                pause.enter_context(stopped(pids[late]))
        raw.send(refusal(asked(raw, port)))
        time.sleep(0.3)  # the endpoint hears of it
        pause.close()
        assert is_reset(s, 5)


def test_connections_from_the_sandbox_that_are_too_many(box):
    """Those beyond 64 channels are reset at once, of 96 at once the first 16, and the others after 10 s."""
    raw = box.raw()
    for number in range(64):
        open_session(raw, number)
    ports = [listen(raw) for _ in range(3)]
    with contextlib.ExitStack() as stack:
        with stopped(box.process.pid):
            dial = [stack.enter_context(socket.create_connection(("127.0.0.1", ports[n % 3]))) for n in range(96)]
            time.sleep(0.5)
            pause = stack.enter_context(contextlib.ExitStack())
            pause.enter_context(stopped(supervisor_of(box)))
        time.sleep(0.5)
        pause.close()
        time.sleep(1)
        waiting = [s for s in dial if not is_reset(s, 0.001)]
        assert len(waiting) == 80
        assert all(is_reset(s, 12) for s in waiting)
