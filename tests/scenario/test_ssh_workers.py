"""The gateway's own SSH endpoints: started, watched, started again, and ended with it."""

import contextlib
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import grpc
import pytest
import ssh_sessions
from conftest import BIN, descriptors_of, fails, wait_until
from test_clock_is_set import clock  # noqa: F401

CODE = grpc.StatusCode

FLAGS = ("--ssh-workers=2", "--ssh-listen=127.0.0.1:0")


def sshd():
    if not (BIN / "towline-sshd").exists():
        pytest.skip("towline-sshd is not built")
    return FLAGS


@pytest.fixture
def gateway(make_gateway):
    gateway = make_gateway(*sshd())
    gateway.create("box")
    wait_until(lambda: len(workers(gateway)) == 2, 10, "both workers run")
    return gateway


def workers(gateway):
    """Their process numbers, by the endpoint's."""
    found = {}
    for line in gateway.log().splitlines():
        started = re.search(r"event=worker_started worker=(\d+) pid=(\d+)", line)
        ended = re.search(r"event=worker_ended worker=(\d+)", line)
        if started:
            found[int(started[1])] = int(started[2])
        elif ended:
            found.pop(int(ended[1]), None)
    return {number: pid for number, pid in found.items() if is_alive(pid)}


def is_alive(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return pathlib.Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    return False


def banner(made):
    with socket.create_connection((made.host, made.port), timeout=10) as connection:
        return connection.recv(64)


def attending(gateway):
    log = gateway.log()
    return log.count("endpoint_attends") - log.count("endpoint_left")


def test_serve(gateway):
    made = ssh_sessions.Sessions(gateway).create()
    assert made.host == "127.0.0.1" and made.port > 0
    assert banner(made).startswith(b"SSH-2.0-")
    wait_until(lambda: attending(gateway) == 2, 10, "both attend")


def test_login(gateway, tmp_path):
    sessions = ssh_sessions.Sessions(gateway)
    made = sessions.create()
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(made.private_key)
    known = tmp_path / "known_hosts"
    known.write_text(f"[{made.host}]:{made.port} {made.host_key}\n")
    command = [
        "ssh", "-F", "none", "-i", key, "-p", str(made.port), "-o", f"UserKnownHostsFile={known}",
        "-o", "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes",
        "-N", f"{made.username}@{made.host}",
    ]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.PIPE) as client:
        wait_until(lambda: sessions.list().sessions[0].connections == 1, 10, "it is counted")
        began = time.monotonic()
        sessions.revoke(token=made.token)
        client.wait(5)
        assert time.monotonic() - began < 1.5
        assert client.returncode == 255
    wait_until(
        lambda: sessions.list(include_ended=True).sessions[0].connections == 0, 5, "it is gone"
    )


def through_forward(gateway, made, folder, *command):
    """ssh as upstream's client runs it: a ProxyCommand, a token and no key."""
    known = folder / "known_hosts"
    known.write_text(f"box {made.host_key}\n")
    proxy = pathlib.Path(__file__).with_name("upstream_proxy.py")
    return [
        "ssh", "-F", "none", "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes",
        "-o", "StrictHostKeyChecking=yes", "-o", "PubkeyAuthentication=no",
        "-o", f"ProxyCommand={sys.executable} {proxy} {gateway.target} box {made.token}",
        *command, "sandbox@box",
    ]  # fmt: skip


def test_upstreams_way(gateway, tmp_path):
    sessions = ssh_sessions.Sessions(gateway)
    made = sessions.create()
    command = through_forward(gateway, made, tmp_path, "-N")
    with subprocess.Popen(command, stderr=subprocess.PIPE) as client:
        wait_until(lambda: sessions.list().sessions[0].connections == 1, 10, "it is counted")
        sessions.revoke(session_id=made.session_id)
        said = client.communicate(timeout=5)[1]
        assert client.returncode == 255
        assert b"revoked" in said, said
    done = subprocess.run(command, capture_output=True, timeout=20)
    assert done.returncode == 255 and b"UNAUTHENTICATED" in done.stderr, done.stderr


def test_killed_worker_comes_back(gateway):
    made = ssh_sessions.Sessions(gateway).create()
    before = workers(gateway)
    wait_until(lambda: attending(gateway) == 2, 10, "both attend")
    os.kill(before[1], signal.SIGKILL)
    wait_until(lambda: workers(gateway).get(1) not in (None, before[1]), 5, "another is there")
    assert workers(gateway)[2] == before[2]
    assert "event=worker_ended worker=1" in gateway.log()
    wait_until(lambda: attending(gateway) == 2, 10, "it attends")
    assert banner(made).startswith(b"SSH-2.0-")


def test_all_killed(gateway):
    """Who comes while nobody serves waits for the next."""
    made = ssh_sessions.Sessions(gateway).create()
    for pid in workers(gateway).values():
        os.kill(pid, signal.SIGKILL)
    assert banner(made).startswith(b"SSH-2.0-")


def failures(made, source, tries):
    """How many connections were let in, of one that speaks no SSH."""
    let_in = 0
    for _ in range(tries):
        with socket.create_connection((made.host, made.port), 10, source_address=(source, 0)) as connection:
            if connection.recv(64):
                let_in += 1
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                with contextlib.suppress(ConnectionResetError):
                    while connection.recv(4096):
                        pass
    return let_in


def test_source_that_fails_has_no_more_tries_with_two_workers(gateway):
    """Nor with one that is new; others are let in."""
    made = ssh_sessions.Sessions(gateway).create()
    wait_until(lambda: attending(gateway) == 2, 10, "both attend")
    assert failures(made, "127.0.0.9", 40) == 4  # of 5 s each: more than 15 s
    before = workers(gateway)
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(workers(gateway)) == 2 and workers(gateway) != before, 10, "others are there")
    wait_until(lambda: attending(gateway) == 2, 10, "both attend")
    assert failures(made, "127.0.0.9", 10) == 0
    assert failures(made, "127.0.0.10", 1) == 1


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_end_with_the_gateway(gateway, end):
    made = ssh_sessions.Sessions(gateway).create()
    before = workers(gateway).values()
    getattr(gateway, end)()
    wait_until(lambda: not any(map(is_alive, before)), 5, "they have ended")
    gateway.start()
    again = ssh_sessions.Sessions(gateway).list().sessions
    assert [session.session_id for session in again] == [made.session_id]
    gateway.wait_phase("box", "READY")
    after = ssh_sessions.Sessions(gateway).create()
    assert (after.port, after.host_key) == (made.port, made.host_key)
    assert banner(made).startswith(b"SSH-2.0-")


def test_what_a_worker_has(gateway):
    """Nothing of the gateway's: no database, no capability, no variable, no other descriptor."""
    wait_until(lambda: attending(gateway) == 2, 10, "both attend")
    for pid in workers(gateway).values():
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        if os.geteuid() == 0:
            assert re.search(r"^CapBnd:\s+0+$", status, re.M), status
            assert re.search(r"^CapEff:\s+0+$", status, re.M), status
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.M), status
        held = descriptors_of(pid)
        assert not any("gateway.db" in name or "memfd" in name for name in held), held
        assert pathlib.Path(f"/proc/{pid}/environ").read_bytes() == b""
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"--token-file\0/dev/fd/3\0" in command


@pytest.mark.parametrize("too_long", [0, 1, 30])
def test_data_directory_with_a_long_path(make_gateway, tmp_path, too_long):
    """A Unix socket of at most 107 bytes is in it; who asked for SSH by name is told at once."""
    sshd()
    folder = tmp_path / ("x" * (107 - len("/sshd.sock") - len(str(tmp_path)) - 1 + too_long))
    flags = ("--ssh-workers=1", f"--data-dir={folder}")
    said = f"{too_long} bytes too long for the socket that SSH needs"
    gateway = make_gateway(*flags, "--ssh-listen=127.0.0.1:0", start=False)
    if too_long == 0:
        gateway.start()
        wait_until(lambda: len(workers(gateway)) == 1, 10, "the worker runs")
        return
    with pytest.raises(AssertionError, match="ended with 1"):
        gateway.start()
    assert said in gateway.log() and "use a shorter one" in gateway.log()
    gateway.process = None


def test_port_taken(make_gateway):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        sshd()
        gateway = make_gateway("--ssh-workers=1", f"--ssh-listen={address}", start=False)
        with pytest.raises(AssertionError, match="ended with 1"):
            gateway.start()
        assert address in gateway.log() and "--ssh-listen" in gateway.log()
        gateway.process = None


@pytest.mark.parametrize(
    ("flags", "host", "port"),
    [
        (["--ssh-listen=0.0.0.0:0"], socket.gethostname(), None),
        (["--ssh-listen=[::]:0"], socket.gethostname(), None),
        (["--ssh-listen=[::1]:0"], "::1", None),
        (["--ssh-listen=0.0.0.0:0", "--ssh-host=ssh.example", "--ssh-port=22"], "ssh.example", 22),
    ],
)
def test_what_clients_dial(make_gateway, flags, host, port):
    sshd()
    gateway = make_gateway("--ssh-workers=1", *flags)
    gateway.create("box")
    made = ssh_sessions.Sessions(gateway).create()
    listens = re.search(r"area=gateway.ssh event=listening address=\"?(\S+):(\d+)", gateway.log())
    assert (made.host, made.port) == (host, port or int(listens[2]))


def test_host_key_of_more_than_4_kib(make_gateway):
    """Is none, and SSH is off."""
    gateway = make_gateway(*sshd(), start=False)
    gateway.data_dir.mkdir(mode=0o700)
    key = gateway.data_dir / "ssh_host_ed25519_key"
    key.touch(0o600)
    key.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n" + "A" * 5000)
    gateway.start()
    gateway.create("box")
    with fails(CODE.FAILED_PRECONDITION, "SSH"):
        ssh_sessions.Sessions(gateway).create()
    assert "the SSH host key" in gateway.log()


def test_no_program(make_gateway, tmp_path):
    """A gateway without towline-sshd beside it runs, and says what to do."""
    gateway = make_gateway("--ssh-workers=1", "--ssh-listen=127.0.0.1:0", start=False)
    program = tmp_path / "towline-gateway"
    shutil.copy(BIN / "towline-gateway", program)
    plain = gateway.command
    gateway.command = lambda *more: [str(program), *plain(*more)[1:]]
    gateway.start()
    gateway.create("box")
    with fails(CODE.FAILED_PRECONDITION, "towline-sshd was not found", "--sshd"):
        ssh_sessions.Sessions(gateway).create()
    assert gateway.log().count("event=ssh_off") == 1


def test_program_that_hangs(clock, make_gateway, stand_in):  # noqa: F811
    """It is killed after 15 s, and another is started."""
    flags = ("--ssh-workers=1", "--ssh-listen=127.0.0.1:0", f"--sshd={stand_in('silent')}")
    gateway = make_gateway(*flags)
    clock.jump(10)
    time.sleep(1.2)  # it looks every second
    assert "event=worker_hangs" not in gateway.log()
    clock.jump(6)
    wait_until(lambda: "event=worker_hangs worker=1" in gateway.log(), 5, "it is noticed")
    wait_until(lambda: gateway.log().count("event=worker_started") == 2, 5, "another is there")


@pytest.fixture
def lease(tmp_path):
    """A copy of the program that cannot be read before the second is called."""
    program = tmp_path / "towline-sshd"
    shutil.copy(BIN / "towline-sshd", program)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # it says that somebody waits
    with open(program, "r+b") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError:
            pytest.skip("a file system without leases")
        yield program, file.close
    signal.signal(signal.SIGIO, before)


def test_program_on_a_disk_that_does_not_answer(make_gateway, lease):
    """The gateway serves meanwhile, and it runs as soon as it can."""
    program, release = lease
    gateway = make_gateway("--ssh-workers=2", "--ssh-listen=127.0.0.1:0", f"--sshd={program}")
    gateway.create("box")
    assert "event=worker_started worker=2" in gateway.log() and "endpoint_attends" not in gateway.log()
    release()
    wait_until(lambda: gateway.log().count("event=endpoint_attends") == 2, 10, "both run")


def test_program_that_is_none(make_gateway, tmp_path):
    program = tmp_path / "towline-sshd"
    program.write_bytes(b"\0 no program")
    program.chmod(0o755)
    gateway = make_gateway("--ssh-workers=1", "--ssh-listen=127.0.0.1:0", f"--sshd={program}")
    wait_until(lambda: gateway.log().count("event=worker_failed") >= 2, 10, "it is tried again")
    assert f"run {program}: Exec format error" in gateway.log()


@pytest.mark.skipif(not os.environ.get("TOWLINE_LONG"), reason="minutes: ./dev test --long")
@pytest.mark.timeout(400)
def test_waits_of_a_program_that_ends(make_gateway, tmp_path):
    """They grow to 30 s; after it has lived for a minute the next is short again."""
    program = tmp_path / "towline-sshd"
    shutil.copy("/bin/false", program)
    gateway = make_gateway("--ssh-workers=1", "--ssh-listen=127.0.0.1:0", f"--sshd={program}")
    waits = lambda: [int(wait) for wait in re.findall(r"event=worker_waits worker=1 wait_ms=(\d+)", gateway.log())]  # noqa: E731
    wait_until(lambda: len(waits()) == 9, 90, "the longest wait begins")
    assert 25600 <= waits()[7] <= 32000 and 30000 <= waits()[8] <= 37500
    program.unlink()
    shutil.copy(BIN / "towline-sshd", program)
    wait_until(lambda: workers(gateway), 45, "it runs")
    time.sleep(61)
    os.kill(workers(gateway)[1], signal.SIGKILL)
    wait_until(lambda: len(waits()) == 10, 5, "it has ended")
    assert 200 <= waits()[9] <= 250


@pytest.mark.skipif(not os.environ.get("TOWLINE_LONG"), reason="seconds: ./dev test --long")
def test_program_that_does_not_end(make_gateway):
    """It is killed when the gateway has waited for 3 s."""
    gateway = make_gateway(*sshd())
    wait_until(lambda: len(workers(gateway)) == 2, 10, "both workers run")
    for pid in workers(gateway).values():
        os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    gateway.process.terminate()
    gateway.process.wait(20)
    assert 2.9 < time.monotonic() - began < 15
    assert not any(map(is_alive, workers(gateway).values()))
    gateway.process = None


def test_program_that_ends(make_gateway):
    """It is tried again, less and less often, and the gateway serves what else it does."""
    gateway = make_gateway("--ssh-workers=1", "--ssh-listen=127.0.0.1:0", "--sshd=/bin/false")
    gateway.create("box")
    wait_until(lambda: gateway.log().count("worker_ended") >= 3, 10, "it has ended three times")
    waits = [int(wait) for wait in re.findall(r"worker_waits worker=1 wait_ms=(\d+)", gateway.log())]
    assert 200 <= waits[0] <= 250 and 400 <= waits[1] <= 500 and 800 <= waits[2] <= 1000
    assert ssh_sessions.Sessions(gateway).create().token
