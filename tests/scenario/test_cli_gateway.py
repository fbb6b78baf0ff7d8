"""towline gateway: started, found, asked and stopped."""

import json
import os
import signal
import socket

import pytest
from conftest import WORKSPACE, processes_of, wait_until
from openshell import SandboxClient
from towline_cli import home  # noqa: F401


def test_start_with_no_flags_is_found_by_the_sdk(home, monkeypatch):
    started = home("gateway", "start")
    endpoint = started.out.strip()
    assert endpoint.startswith("http://127.0.0.1:")
    assert "has started" in started.err
    assert (home.config / "active_gateway").read_text() == "local"
    metadata = json.loads((home.config / "gateways/local/metadata.json").read_text())
    assert metadata["gateway_endpoint"] == endpoint and metadata["name"] == "local"
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, home.env[name])
    with SandboxClient.from_active_cluster() as client:
        sandbox = client.create(workspace=WORKSPACE)
        client.wait_ready(sandbox.name, workspace=WORKSPACE, timeout_seconds=30)
        assert client.exec(sandbox.name, ["echo", "hello"], workspace=WORKSPACE).stdout == "hello\n"
        assert sandbox.name in home("sandbox", "list").out
        client.delete(sandbox.name, workspace=WORKSPACE)
        client.wait_deleted(sandbox.name, workspace=WORKSPACE, timeout_seconds=30)
    home("gateway", "stop")


def test_status(home):
    assert "towline gateway start" in home("gateway", "status", code=1).err
    started = home("-o", "json", "gateway", "start").json
    assert started["started"] is True and started["name"] == "local"
    status = home("gateway", "status", "-o", "json").json
    assert status["status"] == "HEALTHY" and status["driver"] == "local"
    assert status["pid"] == started["pid"] and status["pid"] in home.running()
    assert status["endpoint"] == started["endpoint"]
    table = dict(line.rsplit("  ", 1) for line in home("gateway", "status").out.splitlines())
    assert {key.strip(): value for key, value in table.items()}["process"] == str(status["pid"])
    other = home.with_env(OPENSHELL_GATEWAY_ENDPOINT=status["endpoint"])
    assert other("-o", "json", "gateway", "status").json["name"] is None
    home("gateway", "stop")
    gone = home("-o", "json", "gateway", "status", code=1)
    assert gone.json["status"] == "UNREACHABLE" and gone.json["pid"] is None
    assert json.loads(gone.err)["error"]["code"] == "UNAVAILABLE"


def test_start_twice_stop_twice(home):
    first = home("-o", "json", "gateway", "start").json
    second = home("-o", "json", "gateway", "start").json
    assert second == {**first, "started": False}
    assert "stopped" in home("gateway", "stop").err
    assert "does not run" in home("gateway", "stop", code=1).err


def test_a_killed_one_starts_again_where_it_was(home):
    first = home("-o", "json", "gateway", "start").json
    home("sandbox", "create", "--name", "stays")
    os.kill(first["pid"], signal.SIGKILL)
    wait_until(lambda: first["pid"] not in home.running(), 10, "it is gone")
    assert home("gateway", "status", code=1).out.split()[-1] == "-"
    second = home("-o", "json", "gateway", "start").json
    assert second["started"] and second["pid"] != first["pid"]
    assert second["endpoint"] == first["endpoint"]
    wait_until(lambda: home("sandbox", "exec", "-n", "stays", "--", "true", code=None).code == 0, 60, "it is back")


def test_two_by_name(home):
    home("gateway", "start")
    home("gateway", "start", "--name", "two")
    assert home("-o", "json", "gateway", "status").json["name"] == "two"
    assert home("-g", "local", "-o", "json", "gateway", "status").json["name"] == "local"
    home("-g", "two", "sandbox", "create", "--name", "b", "--detach")
    assert "b" not in home("-g", "local", "sandbox", "list").out
    env = home.with_env(OPENSHELL_GATEWAY="two")
    assert "b" in env("sandbox", "list").out
    assert "b" not in env("sandbox", "list", "--gateway", "local").out
    env("sandbox", "delete", "b")
    for name in ("two", "local"):
        home("gateway", "stop", name)


def test_foreground(home):
    process = home.popen("gateway", "start", "--foreground", "--listen", "127.0.0.1:0", "--log-level", "info")
    endpoint = process.stdout.readline().decode().strip()
    assert home("-o", "json", "gateway", "status").json["endpoint"] == endpoint
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert b"level=info" in err


def test_what_cannot_be_started_says_why(home):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        failed = home("gateway", "start", "--listen", f"127.0.0.1:{port}", code=1)
    assert "ended at once" in failed.err and str(port) in failed.err
    assert not (home.config / "active_gateway").exists()
    assert "driver" in home("gateway", "start", "--driver", "nonesuch", code=1).err
    assert "--nonesuch" in home("gateway", "start", "--", "--nonesuch", code=1).err
    assert "name" in home("gateway", "start", "--name", "../up", code=1).err
    assert not home.running()


def test_words_behind_two_dashes_are_the_gateways(home):
    home("gateway", "start", "--", "--loops", "2")
    (pid,) = (pid for pid, command in home.running().items() if "gateway" in command)
    assert "--loops 2" in home.running()[pid]
    home("gateway", "stop")


@pytest.mark.parametrize(
    "endpoint,word",
    [("http://127.0.0.1:1", "refused"), ("unix:/nowhere/at/all", "/nowhere"), ("ftp://x", "ftp"), ("", "gateway start")],
)
def test_unreachable(home, endpoint, word):
    words = ["--gateway-endpoint", endpoint] if endpoint else []
    assert word in home(*words, "sandbox", "list", code=1).err
    failed = home(*words, "sandbox", "exec", "-n", "x", "--", "true", code=255)
    assert word in failed.err


def test_unknown_name(home):
    assert '"nonesuch"' in home("-g", "nonesuch", "sandbox", "list", code=1).err


def test_endpoint_of_a_unix_socket(home):
    path = home.folder / "gw.sock"
    home("gateway", "start", "--listen", f"unix:{path}", "--listen", "127.0.0.1:0")
    unix = home.with_env(OPENSHELL_GATEWAY_ENDPOINT=f"unix:{path}")
    assert unix("gateway", "status").code == 0
    home("gateway", "stop")
    assert not processes_of(home.folder)
