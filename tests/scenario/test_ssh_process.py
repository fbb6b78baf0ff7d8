"""The process towline-sshd: what it is started with, what it holds, and how it ends."""

import contextlib
import os
import pathlib
import signal
import subprocess

import pytest
import ssh_endpoint
from conftest import BIN, wait_until
from raw_ssh import DISCONNECT, RawSsh
from ssh_endpoint import endpoint, make_endpoint  # noqa: F401

PROGRAM = BIN / "towline-sshd"
SANITIZED = b"__asan_" in PROGRAM.read_bytes()  # is let out of its sandbox, for its reports
USAGE, FAILED, REJECTED = 2, 1, 3


def run(*flags):
    done = subprocess.run([PROGRAM, *flags], capture_output=True, text=True, timeout=20)
    return done.returncode, done.stdout, done.stderr


def test_help_and_version():
    code, out, err = run("--help")
    assert code == 0 and "--startups START:RATE:FULL" in out and not err
    code, out, err = run("--version")
    assert code == 0 and out.startswith("towline-sshd ")


GIVEN = ("--gateway=unix:/x", "--endpoint-id=sshd-1", "--token-file=/x", "--host-key=/x")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ((), "must be given"),
        (GIVEN, "one of --listen and --listen-fd"),
        ((*GIVEN, "--listen=127.0.0.1:1", "--listen-fd=3"), "one of --listen and --listen-fd"),
        ((*GIVEN, "--listen=nonsense"), "--listen"),
        ((*GIVEN, "--listen=127.0.0.1:1", "--startups=1:2"), "START:RATE:FULL"),
        ((*GIVEN, "--listen=127.0.0.1:1", "--login-grace=1h"), "from 1s to 10m"),
        ((*GIVEN, "--listen=127.0.0.1:1", "--auth-tries=0"), "at least 1"),
        ((*GIVEN, "--listen=127.0.0.1:1", "--rekey-limit=1"), "from 64K to 1G"),
        ((*GIVEN, "--listen=127.0.0.1:1", "--log-format=xml"), "is no format"),
        (("--nonsense",), "nonsense"),
    ],
)
def test_a_wrong_command_line(flags, said):
    code, _, err = run(*flags)
    assert code == USAGE and said in err, err


def started_with(endpoint, **files):
    """Exit code and log of a start that fails, with other files."""
    endpoint.stop()
    endpoint.log_path.unlink()
    for name, content in files.items():
        (endpoint.folder / name).write_bytes(content)
    with contextlib.suppress(AssertionError):
        endpoint.start()
    code, endpoint.process = endpoint.process.wait(10), None
    return code, endpoint.log()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (b"", "is no Ed25519 private key"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "is no Ed25519"),
        (b"x" * 20000, "is longer than"),
    ],
)
def test_what_is_no_host_key(endpoint, key, said):
    code, log = started_with(endpoint, host_key=key)
    assert code == FAILED and said in log


def test_a_host_key_of_another_kind(endpoint, tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", tmp_path / "ecdsa"], check=True)
    code, log = started_with(endpoint, host_key=(tmp_path / "ecdsa").read_bytes())
    assert code == FAILED and "is no Ed25519 private key" in log


@pytest.mark.parametrize(("token", "said"), [(b"", "is empty"), (b"x" * 400, "is longer than")])
def test_what_is_no_token(endpoint, token, said):
    code, log = started_with(endpoint, token=token)
    assert code == FAILED and said in log


def test_a_token_that_the_gateway_does_not_know(endpoint):
    code, log = started_with(endpoint, token=b"sshd-test.ffff")
    assert code == REJECTED and "no token of an endpoint" in log


def status(endpoint):
    lines = pathlib.Path(f"/proc/{endpoint.process.pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def test_what_it_gives_up(endpoint):
    now = status(endpoint)
    assert now["NoNewPrivs"] == "1"
    limits = pathlib.Path(f"/proc/{endpoint.process.pid}/limits").read_text()
    (core,) = [line for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core.split()[4:6] == ["0", "0"]
    if not SANITIZED:
        assert now["Seccomp"] == "2"
    # With a client in and out again it still needs nothing that it has not.
    RawSsh(endpoint.connect()).log_in(endpoint.gateway.session()).close()
    wait_until(lambda: endpoint.counters()["now"] == 0, 5, "it is gone")
    assert "EPERM" not in endpoint.log() and "not permitted" not in endpoint.log()


def test_it_inherits_nothing_but_what_it_is_given(endpoint):
    """Descriptors of its parent are closed, secrets among them."""
    held = os.open(endpoint.folder / "token", os.O_RDONLY)
    os.set_inheritable(held, True)
    endpoint.stop()
    listener = ssh_endpoint.socket.create_server((endpoint.host, 0))
    listener.set_inheritable(True)
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    endpoint.log_path.unlink()
    with open(endpoint.log_path, "ab") as log:
        endpoint.process = subprocess.Popen(
            [
                PROGRAM,
                f"--gateway={endpoint.gateway.address}",
                f"--endpoint-id={ssh_endpoint.ENDPOINT}",
                f"--token-file=/dev/fd/{held}",
                f"--host-key={endpoint.folder / 'host_key'}",
                f"--listen-fd={listener.fileno()}",
                f"--parent-fd={reading}",
            ],
            close_fds=False,
            stdout=log,
            stderr=log,
        )
    wait_until(lambda: "gateway_up" in endpoint.log(), 10, "it serves")
    open_files = {os.readlink(path) for path in pathlib.Path(f"/proc/{endpoint.process.pid}/fd").iterdir()}
    assert not [name for name in open_files if name.endswith("/token") or name.endswith("/host_key")]
    # When its parent is gone, so is it.
    os.close(reading)
    os.close(held)
    peer = RawSsh(ssh_endpoint.socket.create_connection(listener.getsockname()))
    peer.log_in(endpoint.gateway.session())
    listener.close()
    os.close(writing)
    assert peer.read_until(DISCONNECT)
    peer.close()
    assert endpoint.process.wait(5) == 0
    endpoint.process = None


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_clients_are_told_at_the_end(endpoint, sig):
    peer = RawSsh(endpoint.connect()).log_in(endpoint.gateway.session())
    endpoint.process.send_signal(sig)
    assert b"the SSH endpoint ends" in peer.read_until(DISCONNECT)
    peer.close()
    assert endpoint.process.wait(5) == 0
    endpoint.process = None


def test_a_killed_endpoint_is_noticed(endpoint):
    """Its clients see the end of the connection, and the gateway of the report."""
    peer = RawSsh(endpoint.connect()).log_in(endpoint.gateway.session())
    endpoint.process.kill()
    endpoint.process.wait()
    endpoint.process = None
    assert peer.read_all() == []
    peer.close()
