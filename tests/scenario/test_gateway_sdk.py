"""OpenShell's own Python SDK, unchanged."""

import json
import pathlib
import sys

import grpc
import pytest
from conftest import fails
from openshell import Sandbox, SandboxClient, SandboxError
from openshell._proto import openshell_pb2 as pb
from openshell.mutations import DeletionOutcome

WORKSPACE = "default"


def test_life(gateway):
    with SandboxClient(gateway.target) as client:
        made = client.create(workspace=WORKSPACE)
        assert made.id and made.name
        ready = client.wait_ready(made.name, workspace=WORKSPACE, timeout_seconds=30)
        assert ready.phase == pb.SANDBOX_PHASE_READY
        assert client.get(made.name, workspace=WORKSPACE).id == made.id
        assert client.list_ids(workspace=WORKSPACE) == [made.id]
        assert client.list_ids_for_all_workspaces() == [made.id]

        client.stop(made.name, workspace=WORKSPACE)
        stopped = client.wait_stopped(made.name, workspace=WORKSPACE, timeout_seconds=30)
        assert stopped.phase == pb.SANDBOX_PHASE_STOPPED
        with pytest.raises(SandboxError, match="stopped before"):
            client.wait_ready(made.name, workspace=WORKSPACE)
        client.start(made.name, workspace=WORKSPACE)
        client.wait_ready(made.name, workspace=WORKSPACE, timeout_seconds=30)

        result = client.delete(made.name, workspace=WORKSPACE)
        assert result.sandbox_id == made.id
        client.wait_deleted(made.name, workspace=WORKSPACE, timeout_seconds=30)
        again = client.delete(made.name, workspace=WORKSPACE, allow_missing=True)
        assert again.outcome == DeletionOutcome.ALREADY_ABSENT
        with fails(grpc.StatusCode.NOT_FOUND):
            client.delete(made.name, workspace=WORKSPACE)


def test_exec(ready):
    client = ready.gateway.client
    result = client.exec(
        "box", ["sh", "-c", "cat; echo $A >&2; exit 7"], workspace=WORKSPACE, stdin=b"in", env={"A": "err"}
    )
    assert (result.exit_code, result.stdout, result.stderr) == (7, "in", "err\n")
    chunks = list(client.exec_stream("box", ["echo", "a\nb c"], workspace=WORKSPACE))
    assert b"".join(c.data for c in chunks[:-1]) == b"a\nb c\n"
    assert chunks[-1].exit_code == 0
    slow = client.exec("box", ["sleep", "30"], workspace=WORKSPACE, timeout_seconds=1)
    assert slow.exit_code == 124


def test_exec_by_id(ready):
    result = ready.gateway.client.exec(ready.id, ["pwd"], workspace=WORKSPACE)
    assert result.exit_code == 0


def test_exec_python(gateway):
    """The function runs in the sandbox, with the interpreter that is in its PATH."""
    here = pathlib.Path(sys.executable).parent
    spec = pb.SandboxSpec(environment={"PATH": f"{here}:/usr/bin:/bin"})
    client = gateway.client
    made = client.create(workspace=WORKSPACE, spec=spec)
    client.wait_ready(made.name, workspace=WORKSPACE, timeout_seconds=30)
    result = client.exec_python(
        made.name, lambda a, b: a * b, workspace=WORKSPACE, args=(6,), kwargs={"b": 7}
    )
    assert (result.exit_code, result.stdout) == (0, "42\n"), result.stderr


def test_active_cluster(gateway, tmp_path, monkeypatch):
    """from_active_cluster() and the context manager, on what `gateway start` writes."""
    folder = tmp_path / "openshell" / "gateways" / "local"
    folder.mkdir(parents=True)
    metadata = {"name": "local", "gateway_endpoint": gateway.endpoint}
    (folder / "metadata.json").write_text(json.dumps(metadata))
    (tmp_path / "openshell" / "active_gateway").write_text("local")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with Sandbox(workspace=WORKSPACE, labels={"a": "b"}) as sandbox:
        assert sandbox.exec(["true"]).exit_code == 0
        assert dict(sandbox.sandbox.labels) == {"a": "b"}
        name = sandbox.sandbox.name
    with fails(grpc.StatusCode.NOT_FOUND):
        gateway.get(name)


def test_interactive(ready):
    def inputs():
        start = pb.ExecSandboxRequest(sandbox="box", command=["cat"])
        yield pb.ExecSandboxInput(start=start)
        yield pb.ExecSandboxInput(stdin=b"one ")
        yield pb.ExecSandboxInput(stdin=b"two")

    events = list(ready.gateway.stub.ExecSandboxInteractive(inputs(), timeout=20))
    assert b"".join(e.stdout.data for e in events) == b"one two"
    assert events[-1].exit.exit_code == 0
