"""Workspaces: names that sandboxes live under."""

import grpc
import pytest
from conftest import fails
from openshell._proto import datamodel_pb2
from openshell._proto import openshell_pb2 as pb
from openshell.sandbox import DeletionOutcome, WorkspaceClient


def scope(name):
    return datamodel_pb2.WorkspaceSelector(workspace=name)


EVERYWHERE = datamodel_pb2.WorkspaceSelector(all_workspaces=datamodel_pb2.AllWorkspaces())


@pytest.fixture
def workspaces(gateway):
    return WorkspaceClient.from_sandbox_client(gateway.client)


def create(gateway, name, workspace):
    request = pb.CreateSandboxRequest(name=name, workspace_scope=scope(workspace))
    return gateway.stub.CreateSandbox(request, timeout=10).sandbox


def names(gateway, selector=None):
    answer = gateway.stub.ListSandboxes(
        pb.ListSandboxesRequest(workspace_scope=selector), timeout=5
    )
    return [f"{s.metadata.workspace}/{s.metadata.name}" for s in answer.sandboxes]


def test_default_is_there(gateway, workspaces):
    assert workspaces.get("default").phase == "WORKSPACE_PHASE_ACTIVE"
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "default"):
        workspaces.delete("default")


def test_life(gateway, workspaces):
    assert workspaces.create("team", labels={"a": "b"}).labels == {"a": "b"}
    with fails(grpc.StatusCode.ALREADY_EXISTS, "team"):
        workspaces.create("team")
    assert workspaces.get("team").labels == {"a": "b"}
    gateway.kill()
    gateway.start()
    workspaces = WorkspaceClient.from_sandbox_client(gateway.client)
    assert [w.name for w in workspaces.list_all()] == ["default", "team"]
    assert workspaces.delete("team").outcome == DeletionOutcome.COMPLETED
    with fails(grpc.StatusCode.NOT_FOUND, "team"):
        workspaces.get("team")
    with fails(grpc.StatusCode.NOT_FOUND, "team"):
        workspaces.delete("team")
    assert workspaces.delete("team", allow_missing=True).outcome == DeletionOutcome.ALREADY_ABSENT


@pytest.mark.parametrize("name", ["", "Team", "a_b", "9", "a" * 64])
def test_bad_names(workspaces, name):
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "name"):
        workspaces.create(name)


def test_pages_and_selectors(workspaces):
    for name in ("a", "b", "c"):
        workspaces.create(name, labels={"even": "yes"} if name == "b" else None)
    assert [w.name for w in workspaces.list_all(page_size=1)] == ["a", "b", "c", "default"]
    assert [w.name for w in workspaces.list_all(label_selector="even=yes")] == ["b"]
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        next(workspaces.list(page_token="nonsense"))


def test_the_same_name_in_two(gateway, workspaces):
    workspaces.create("team")
    first, second = create(gateway, "web", "default"), create(gateway, "web", "team")
    assert first.metadata.id != second.metadata.id
    assert gateway.get("web").metadata.id == first.metadata.id
    request = pb.GetSandboxRequest(name="web", workspace_scope=scope("team"))
    assert gateway.stub.GetSandbox(request, timeout=5).sandbox.metadata.id == second.metadata.id
    assert gateway.get(second.metadata.id).metadata.workspace == "team"
    wrong = pb.GetSandboxRequest(name=second.metadata.id, workspace_scope=scope("default"))
    with fails(grpc.StatusCode.NOT_FOUND):
        gateway.stub.GetSandbox(wrong, timeout=5)

    assert names(gateway) == ["default/web"]
    assert names(gateway, scope("team")) == ["team/web"]
    assert names(gateway, EVERYWHERE) == ["default/web", "team/web"]
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "1 sandboxes"):
        workspaces.delete("team")


def test_unknown_ones(gateway):
    with fails(grpc.StatusCode.NOT_FOUND, "nowhere"):
        create(gateway, "web", "nowhere")
    with fails(grpc.StatusCode.NOT_FOUND, "nowhere"):
        names(gateway, scope("nowhere"))
    with fails(grpc.StatusCode.NOT_FOUND, "nowhere"):
        request = pb.GetSandboxRequest(name="web", workspace_scope=scope("nowhere"))
        gateway.stub.GetSandbox(request, timeout=5)


def test_all_of_them_is_for_lists(gateway):
    for call, request in (
        (gateway.stub.GetSandbox, pb.GetSandboxRequest(name="a", workspace_scope=EVERYWHERE)),
        (gateway.stub.CreateSandbox, pb.CreateSandboxRequest(workspace_scope=EVERYWHERE)),
        (gateway.stub.DeleteSandbox, pb.DeleteSandboxRequest(name="a", workspace_scope=EVERYWHERE)),
    ):
        with fails(grpc.StatusCode.INVALID_ARGUMENT, "all_workspaces"):
            call(request, timeout=5)
