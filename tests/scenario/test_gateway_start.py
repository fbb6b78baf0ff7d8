"""Starting and ending: what appears when, what is refused, and what stays."""

import json
import os
import signal
import socket
import stat
import subprocess
import time

import grpc
import pytest
from conftest import BIN, fails
from openshell._proto import openshell_pb2 as pb

SANITIZED = os.environ.get("TOWLINE_SANITIZED") == "1"  # figures mean nothing then


def run(gateway, *more):
    """Runs the program to its end."""
    return subprocess.run(
        gateway.command(*more), capture_output=True, text=True, timeout=20, check=False
    )


def test_ready_file(gateway):
    ready = json.loads(gateway.ready_file.read_text())
    assert set(ready) == {"endpoint", "pid", "version"}
    assert ready["endpoint"].startswith("http://127.0.0.1:")
    assert ready["pid"] == gateway.process.pid
    answer = gateway.stub.Health(pb.HealthRequest(), timeout=5)
    assert answer.status == pb.SERVICE_STATUS_HEALTHY
    assert answer.version == "0.1.5"
    version = subprocess.run(
        [BIN / "towline-gateway", "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert ready["version"] in version


def test_serves_when_the_file_is_there(make_gateway):
    """No call is refused after the file has appeared."""
    gateway = make_gateway()
    for _ in range(5):
        gateway.stop()
        gateway.start()
        assert gateway.stub.Health(pb.HealthRequest(), timeout=5).version


def test_help():
    text = subprocess.run(
        [BIN / "towline-gateway", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for flag in ("data-dir", "listen", "driver", "supervisor", "ready-file", "loops", "log-level"):
        assert f"--{flag}" in text


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_ends_at_once_when_nothing_is_under_way(gateway, sig):
    gateway.stub.Health(pb.HealthRequest(), timeout=5)
    began = time.monotonic()
    gateway.stop(sig)
    assert time.monotonic() - began < 3  # a drain takes 4


def test_a_dead_gateways_ready_file_is_replaced(gateway):
    gateway.kill()
    assert gateway.ready_file.exists()
    gateway.start()
    assert json.loads(gateway.ready_file.read_text())["pid"] == gateway.process.pid


def test_one_gateway_a_directory(gateway):
    second = run(gateway, f"--ready-file={gateway.ready_file}.second")
    assert second.returncode == 1
    assert str(gateway.process.pid) in second.stderr
    assert str(gateway.data_dir) in second.stderr
    assert gateway.stub.Health(pb.HealthRequest(), timeout=5).version


@pytest.mark.parametrize(
    "address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:80", "example.com:80", "127.0.0.1", ""]
)
def test_listens_on_loopback_only(make_gateway, address):
    gateway = make_gateway(start=False, listen=[address])
    result = run(gateway)
    assert result.returncode == 2
    assert "--listen" in result.stderr
    assert not gateway.data_dir.exists()


@pytest.mark.parametrize("flag", ["--driver=moon", "--loops=many", "--nonsense", "word"])
def test_mistakes_of_whoever_starts_it(make_gateway, flag):
    result = run(make_gateway(start=False), flag)
    assert result.returncode == 2
    assert flag.split("=")[-1].lstrip("-") in result.stderr


def test_an_address_that_is_taken(make_gateway):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(make_gateway(start=False, listen=[f"127.0.0.1:{port}"]))
    assert result.returncode == 1
    assert str(port) in result.stderr


def test_unix_socket(make_gateway, tmp_path):
    path = tmp_path / "gateway.sock"
    gateway = make_gateway(listen=["127.0.0.1:0", f"unix:{path}"])
    assert gateway.endpoint.startswith("http://")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    from openshell._proto import openshell_pb2_grpc

    stub = openshell_pb2_grpc.OpenShellStub(gateway.channel(f"unix:{path}"))
    assert stub.Health(pb.HealthRequest(), timeout=5).version == "0.1.5"
    gateway.kill()
    gateway.start()  # over the dead socket
    stub = openshell_pb2_grpc.OpenShellStub(gateway.channel(f"unix:{path}"))
    assert stub.Health(pb.HealthRequest(), timeout=5).version == "0.1.5"


def test_the_port_is_kept(gateway):
    """Clients and supervisors find a gateway again that was told to choose a port."""
    port = gateway.endpoint
    gateway.kill()
    gateway.start()
    assert gateway.endpoint == port
    gateway.stop()
    with socket.create_server(("127.0.0.1", int(port.rsplit(":", 1)[1]))):
        gateway.start()
        assert gateway.endpoint != port


def test_nobody_else_reads_the_state(gateway):
    assert stat.S_IMODE(gateway.data_dir.stat().st_mode) == 0o700
    names = {path.name for path in gateway.data_dir.glob("gateway.db*")}
    assert names == {"gateway.db", "gateway.db-wal", "gateway.db-shm"}
    for name in names:
        assert stat.S_IMODE((gateway.data_dir / name).stat().st_mode) == 0o600


def test_environment_and_file(make_gateway, monkeypatch, tmp_path):
    file = tmp_path / "gateway.conf"
    file.write_text("# a comment\nlog-format = json\n")
    monkeypatch.setenv("TOWLINE_LOG_LEVEL", "loud")
    gateway = make_gateway(f"--config={file}", start=False)
    # The flag in conftest's command is stronger than the variable.
    gateway.start()
    first = gateway.log().splitlines()[0]
    assert json.loads(first)["level"]


def test_a_newer_database_is_left_alone(gateway):
    import sqlite3

    gateway.stop()
    with sqlite3.connect(gateway.data_dir / "gateway.db") as db:
        db.execute("INSERT INTO schema VALUES (1000, 0)")
    db.close()
    result = run(gateway)
    assert result.returncode == 1
    assert "newer" in result.stderr
    with sqlite3.connect(gateway.data_dir / "gateway.db") as db:
        db.execute("DELETE FROM schema WHERE version = 1000")
    db.close()


def resident_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's memory is not ours")
def test_idle_memory(gateway):
    gateway.stub.Health(pb.HealthRequest(), timeout=5)
    assert resident_kib(gateway.process.pid) < 12 << 10


def test_calls_end_before_the_gateway_does(gateway):
    """A watch is told that the gateway leaves, rather than cut off."""
    gateway.create("box", wait=False)
    watch = gateway.stub.WatchSandbox(
        pb.WatchSandboxRequest(sandbox="box", follow_status=True), timeout=20
    )
    next(iter(watch))
    gateway.process.send_signal(signal.SIGTERM)
    with fails(grpc.StatusCode.UNAVAILABLE, "shutting down"):
        for _ in watch:
            pass
    assert gateway.process.wait(10) == 0
    gateway.start()
