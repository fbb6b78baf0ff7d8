"""Making, showing, listing, stopping, starting and deleting sandboxes."""

import re
import threading

import grpc
import pytest
import towline_api
from conftest import fails, wait_until
from openshell._proto import openshell_pb2 as pb

NAME = re.compile(r"[a-z][a-z0-9-]{0,18}")
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def create(gateway, **fields):
    return gateway.stub.CreateSandbox(pb.CreateSandboxRequest(**fields), timeout=10).sandbox


def listed(gateway, **fields):
    answer = gateway.stub.ListSandboxes(pb.ListSandboxesRequest(**fields), timeout=10)
    return [sandbox.metadata.name for sandbox in answer.sandboxes]


def test_create_and_get(gateway):
    made = create(
        gateway,
        name="web",
        labels={"tier": "web"},
        annotations={"note": "any text, = too"},
        spec=pb.SandboxSpec(environment={"A": "1"}, log_level="debug"),
    )
    assert UUID.fullmatch(made.metadata.id)
    assert made.metadata.name == "web"
    assert made.metadata.workspace == "default"
    assert made.metadata.resource_version >= 1
    assert made.metadata.created_time.seconds > 0
    assert made.status.phase == pb.SANDBOX_PHASE_PROVISIONING
    got = gateway.get("web")
    assert got.metadata.id == made.metadata.id
    assert dict(got.metadata.labels) == {"tier": "web"}
    assert dict(got.metadata.annotations) == {"note": "any text, = too"}
    assert dict(got.spec.environment) == {"A": "1"}
    assert gateway.get(made.metadata.id).metadata.name == "web"


def test_becomes_ready(gateway):
    create(gateway, name="web")
    ready = gateway.wait_phase("web", "READY")
    conditions = {condition.type: condition for condition in ready.status.conditions}
    assert conditions["Ready"].status == "True"
    assert conditions["Ready"].transition_time.seconds > 0
    assert "SupervisorNotConnected" not in conditions
    assert ready.status.agent_pod
    assert set(conditions) - {"Ready"}, "the driver says how isolated it is"


def test_a_name_is_made_up(gateway):
    names = {create(gateway).metadata.name for _ in range(5)}
    assert len(names) == 5
    assert all(NAME.fullmatch(name) for name in names)


@pytest.mark.parametrize("name", ["a" * 20, "Web", "1web", "-web", "we_b", "we b", "wéb", "a/b"])
def test_bad_names(gateway, name):
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "name"):
        create(gateway, name=name)


def test_a_name_is_taken(gateway):
    create(gateway, name="web")
    with fails(grpc.StatusCode.ALREADY_EXISTS, "web"):
        create(gateway, name="web")
    assert listed(gateway) == ["web"]


def test_the_same_request_again(gateway):
    first = create(gateway, name="web", request_id="r1")
    again = create(gateway, name="web", request_id="r1")
    assert again.metadata.id == first.metadata.id
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "r1"):
        create(gateway, name="other", request_id="r1")
    with fails(grpc.StatusCode.ALREADY_EXISTS):
        create(gateway, name="web", request_id="r2")
    gateway.stop()
    gateway.start()
    assert create(gateway, request_id="r1").metadata.id == first.metadata.id

    delete = pb.DeleteSandboxRequest(name="web", request_id="d1")
    assert gateway.stub.DeleteSandbox(delete, timeout=20).sandbox_id == first.metadata.id
    again = gateway.stub.DeleteSandbox(delete, timeout=20)
    assert again.sandbox_id == first.metadata.id
    assert again.outcome == pb.DELETION_OUTCOME_COMPLETED
    with fails(grpc.StatusCode.NOT_FOUND, "r1"):
        create(gateway, request_id="r1")


UNSERVED = {
    "service_exposures": {"service_exposures": [pb.SandboxServiceExposure(target_port=80)]},
    "workload_template": {"workload_template": "big"},
    "await_main_process_attachment": {"await_main_process_attachment": True},
    "spec.policy": {"spec": {"policy": {"version": 1}}},
    "spec.providers": {"spec": {"providers": ["github"]}},
    "spec.command": {"spec": {"command": ["sleep", "1"]}},
    "spec.resource_requirements.gpu": {"spec": {"resource_requirements": {"gpu": {"count": 1}}}},
    "spec.restart_policy": {"spec": {"restart_policy": pb.SANDBOX_RESTART_POLICY_ALWAYS}},
    "spec.template.image": {"spec": {"template": {"image": "debian"}}},
    "spec.template.runtime_class_name": {"spec": {"template": {"runtime_class_name": "kata"}}},
    "spec.template.resources": {"spec": {"template": {"resources": {"cpu": "1"}}}},
    "spec.template.driver_config": {"spec": {"template": {"driver_config": {"a": 1}}}},
    "spec.template.user_namespaces": {"spec": {"template": {"user_namespaces": False}}},
}


@pytest.mark.parametrize("field", UNSERVED)
def test_nothing_is_ignored_in_silence(gateway, field):
    with fails(grpc.StatusCode.UNIMPLEMENTED, field):
        create(gateway, **UNSERVED[field])
    assert listed(gateway) == []


@pytest.mark.parametrize(
    "environment", [{"9A": ""}, {"A-B": ""}, {"OPENSHELL_TOKEN": "x"}, {"A": "x" * 200_000}]
)
def test_bad_environment(gateway, environment):
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "environment"):
        create(gateway, spec=pb.SandboxSpec(environment=environment))


def test_missing_ones(gateway):
    for call, request in (
        (gateway.stub.GetSandbox, pb.GetSandboxRequest(name="none")),
        (gateway.stub.StopSandbox, pb.StopSandboxRequest(name="none")),
        (gateway.stub.StartSandbox, pb.StartSandboxRequest(name="none")),
        (gateway.stub.DeleteSandbox, pb.DeleteSandboxRequest(name="none")),
    ):
        with fails(grpc.StatusCode.NOT_FOUND, "none"):
            call(request, timeout=5)
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        gateway.get("")
    absent = gateway.stub.DeleteSandbox(
        pb.DeleteSandboxRequest(name="none", allow_missing=True), timeout=5
    )
    assert absent.outcome == pb.DELETION_OUTCOME_ALREADY_ABSENT
    assert absent.sandbox_id == ""


def test_delete(gateway):
    made = create(gateway, name="web")
    answer = gateway.stub.DeleteSandbox(pb.DeleteSandboxRequest(name="web"), timeout=20)
    assert answer.outcome == pb.DELETION_OUTCOME_COMPLETED
    assert answer.sandbox_id == made.metadata.id
    with fails(grpc.StatusCode.NOT_FOUND):
        gateway.get("web")
    assert not gateway.sandbox_dir(made.metadata.id).exists()
    assert create(gateway, name="web").metadata.id != made.metadata.id


def test_older_clients_read_created_at_ms(gateway):
    create(gateway, name="web")
    api = towline_api.load()
    call = api.method(gateway.channel(), "openshell.v1.OpenShell/GetSandbox")
    meta = call(api["openshell.v1.GetSandboxRequest"](name="web"), timeout=5).sandbox.metadata
    assert meta.created_at_ms == meta.created_time.ToMilliseconds() > 0


def test_older_clients_read_deleted(gateway):
    """Field 1 of DeleteSandboxResponse, which today's stubs do not have."""
    create(gateway, name="web")
    call = gateway.channel().unary_unary("/openshell.v1.OpenShell/DeleteSandbox")
    assert call(b"\x0a\x03web", timeout=20).startswith(b"\x08\x01")
    absent = call(b"\x0a\x03web\x18\x01", timeout=20)
    assert not absent.startswith(b"\x08")


def test_stop_and_start(ready):
    gateway = ready.gateway
    (ready.workdir / "kept").write_text("still here")
    answer = gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    assert answer.sandbox.status.phase in (pb.SANDBOX_PHASE_STOPPING, pb.SANDBOX_PHASE_STOPPED)
    gateway.wait_phase("box", "STOPPED")
    gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    assert (ready.workdir / "kept").exists()
    first = gateway.get("box").status.agent_pod
    answer = gateway.stub.StartSandbox(pb.StartSandboxRequest(name="box"), timeout=10)
    assert answer.sandbox.status.phase in (pb.SANDBOX_PHASE_STARTING, pb.SANDBOX_PHASE_READY)
    again = gateway.wait_phase("box", "READY")
    assert again.metadata.id == ready.id
    assert again.status.agent_pod != first
    gateway.stub.StartSandbox(pb.StartSandboxRequest(name="box"), timeout=10)
    assert (ready.workdir / "kept").read_text() == "still here"


def test_a_request_to_stop_is_not_repeated(ready):
    stub = ready.gateway.stub
    stub.StopSandbox(pb.StopSandboxRequest(name="box", request_id="s1"), timeout=10)
    ready.gateway.wait_phase("box", "STOPPED")
    stub.StartSandbox(pb.StartSandboxRequest(name="box"), timeout=10)
    ready.gateway.wait_phase("box", "READY")
    late = stub.StopSandbox(pb.StopSandboxRequest(name="box", request_id="s1"), timeout=10)
    assert late.sandbox.status.phase == pb.SANDBOX_PHASE_READY


def test_deleted_in_every_phase(gateway):
    for i, prepare in enumerate(
        [
            lambda name: None,
            lambda name: gateway.wait_phase(name, "READY"),
            lambda name: gateway.stub.StopSandbox(pb.StopSandboxRequest(name=name), timeout=5),
            lambda name: (
                gateway.wait_phase(name, "READY"),
                gateway.stub.StopSandbox(pb.StopSandboxRequest(name=name), timeout=5),
                gateway.wait_phase(name, "STOPPED"),
            ),
        ]
    ):
        create(gateway, name=f"box{i}")
        prepare(f"box{i}")
        answer = gateway.stub.DeleteSandbox(pb.DeleteSandboxRequest(name=f"box{i}"), timeout=30)
        assert answer.outcome == pb.DELETION_OUTCOME_COMPLETED


def test_resource_version_grows(ready):
    before = ready.gateway.get("box").metadata.resource_version
    ready.gateway.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    stopped = ready.gateway.wait_phase("box", "STOPPED")
    assert stopped.metadata.resource_version > before


def test_a_program_that_does_not_start(make_gateway):
    gateway = make_gateway("--supervisor=/bin/false")
    create(gateway, name="web")
    failed = wait_until(
        lambda: gateway.phase("web") == "ERROR" and gateway.get("web"), 10, "it is in ERROR"
    )
    condition = next(c for c in failed.status.conditions if c.type == "Ready")
    assert condition.status == "False"
    assert "exit code 1" in condition.message
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "ERROR"):
        list(gateway.stub.ExecSandbox(pb.ExecSandboxRequest(sandbox="web", command=["true"])))


def test_list_pages(gateway):
    names = [f"box-{i:02}" for i in range(7)]
    for name in reversed(names):
        create(gateway, name=name)
    assert listed(gateway) == names
    assert listed(gateway, page_size=1000) == names
    seen, token = [], ""
    while True:
        page = gateway.stub.ListSandboxes(
            pb.ListSandboxesRequest(page_size=3, page_token=token), timeout=5
        )
        seen.append([sandbox.metadata.name for sandbox in page.sandboxes])
        token = page.next_page_token
        if not token:
            break
    assert seen == [names[0:3], names[3:6], names[6:]]
    assert [s.name for s in gateway.client.list_all(workspace="default", page_size=2)] == names


def test_a_list_that_changes_between_pages(gateway):
    for name in ("b", "d", "f"):
        create(gateway, name=name)
    first = gateway.stub.ListSandboxes(pb.ListSandboxesRequest(page_size=2), timeout=5)
    create(gateway, name="a")
    create(gateway, name="e")
    gateway.stub.DeleteSandbox(pb.DeleteSandboxRequest(name="d"), timeout=20)
    rest = listed(gateway, page_size=2, page_token=first.next_page_token)
    assert rest == ["e", "f"]


def test_bad_pages(gateway):
    create(gateway, name="a")
    create(gateway, name="b")
    token = gateway.stub.ListSandboxes(pb.ListSandboxesRequest(page_size=1), timeout=5)
    for request in (
        {"page_size": -1},
        {"page_token": "nonsense"},
        {"page_token": "00" * 20},
        {"page_token": token.next_page_token, "label_selector": "a=b"},
        {"label_selector": "nonsense"},
    ):
        with fails(grpc.StatusCode.INVALID_ARGUMENT):
            listed(gateway, **request)


def test_selectors(gateway):
    create(gateway, name="a", labels={"tier": "web", "env": "prod"})
    create(gateway, name="b", labels={"tier": "web"})
    create(gateway, name="c")
    assert listed(gateway, label_selector="tier=web") == ["a", "b"]
    assert listed(gateway, label_selector="tier=web, env=prod") == ["a"]
    assert listed(gateway, label_selector="tier=db") == []
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "labels"):
        create(gateway, labels={"a=b": "c"})


def test_many_at_once(make_gateway):
    """Each call gets its own answer, whichever loop its connection is on."""
    gateway = make_gateway(loops=3)
    stubs = [gateway.channel() for _ in range(6)]
    errors = []

    def work(channel, number):
        from openshell._proto import openshell_pb2_grpc

        stub = openshell_pb2_grpc.OpenShellStub(channel)
        try:
            for i in range(5):
                name = f"t{number}-{i}"
                made = stub.CreateSandbox(pb.CreateSandboxRequest(name=name), timeout=20).sandbox
                got = stub.GetSandbox(pb.GetSandboxRequest(name=name), timeout=20).sandbox
                assert got.metadata.id == made.metadata.id
                deleted = stub.DeleteSandbox(pb.DeleteSandboxRequest(name=name), timeout=30)
                assert deleted.sandbox_id == made.metadata.id
        except Exception as error:  # shown by the main thread
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(channel, i)) for i, channel in enumerate(stubs)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert listed(gateway) == []
