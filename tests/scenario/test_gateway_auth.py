"""Supervisors and their tokens: what they open, and what they do not."""

import queue

import grpc
import pytest
from conftest import fails, processes_of, wait_until
from openshell._proto import openshell_pb2 as pb


@pytest.fixture
def leaky(make_gateway, stand_in):
    """A gateway whose supervisors leave a copy of their token where the test finds it."""
    gateway = make_gateway(f"--supervisor={stand_in('leaky')}")
    gateway.last_token = None

    def token(sandbox):
        """The sandbox's latest: not the one that was returned before."""

        def read():
            if stand_in(sandbox).exists():
                text = stand_in(sandbox).read_text()
                return text if text != gateway.last_token else None

        gateway.last_token = wait_until(read, 10, "the supervisor has its token")
        return gateway.last_token

    gateway.token = token
    return gateway


def bearer(token):
    return (("authorization", f"Bearer {token}"),)


def connect(gateway, token, sandbox_id, instance="test"):
    """A supervisor's session: the stream of the gateway's messages, and what to send by."""
    outbox = queue.Queue()
    outbox.put(
        pb.SupervisorMessage(
            hello=pb.SupervisorHello(sandbox_id=sandbox_id, instance_id=instance)
        )
    )
    stream = gateway.stub.ConnectSupervisor(
        iter(outbox.get, None), metadata=bearer(token), timeout=30
    )
    return stream, outbox


def test_no_token(gateway):
    with fails(grpc.StatusCode.UNAUTHENTICATED, "token"):
        list(gateway.stub.ConnectSupervisor(iter([]), timeout=5))
    with fails(grpc.StatusCode.UNAUTHENTICATED, "token"):
        list(gateway.stub.RelayStream(iter([]), timeout=5))


@pytest.mark.parametrize(
    "value", ["", "Bearer", "Basic abc", "Bearer x", "Bearer " + "0" * 101]
)
def test_bad_tokens(gateway, value):
    with fails(grpc.StatusCode.UNAUTHENTICATED):
        list(
            gateway.stub.ConnectSupervisor(
                iter([]), metadata=(("authorization", value),), timeout=5
            )
        )


def test_tokens_that_are_almost_right(leaky):
    made = leaky.create("box")
    token = leaky.token(made.metadata.id)
    other = leaky.create("other")
    for wrong in (
        token[:-1],
        token[:-1] + ("0" if token[-1] != "0" else "1"),
        token + "0",
        other.metadata.id + token[36:],
    ):
        with fails(grpc.StatusCode.UNAUTHENTICATED):
            list(leaky.stub.RelayStream(iter([]), metadata=bearer(wrong), timeout=5))


def test_a_sandbox_is_no_user(leaky):
    made = leaky.create("box")
    token = leaky.token(made.metadata.id)
    for call, request in (
        (leaky.stub.ListSandboxes, pb.ListSandboxesRequest()),
        (leaky.stub.DeleteSandbox, pb.DeleteSandboxRequest(name="box")),
    ):
        with fails(grpc.StatusCode.PERMISSION_DENIED, "users"):
            call(request, metadata=bearer(token), timeout=5)
    with fails(grpc.StatusCode.PERMISSION_DENIED):
        request = pb.ExecSandboxRequest(sandbox="box", command=["true"])
        list(leaky.stub.ExecSandbox(request, metadata=bearer(token), timeout=5))
    assert leaky.stub.Health(pb.HealthRequest(), metadata=bearer(token), timeout=5).version


def test_another_sandboxs_hello(leaky):
    first, second = leaky.create("one"), leaky.create("two")
    stream, _ = connect(leaky, leaky.token(first.metadata.id), second.metadata.id)
    with fails(grpc.StatusCode.PERMISSION_DENIED):
        for message in stream:
            assert message.WhichOneof("payload") == "session_rejected"
    assert leaky.phase("two") == "READY"


def test_tokens_of_before(leaky):
    """Stopping takes a token's worth away, and a start makes another."""
    made = leaky.create("box")
    first = leaky.token(made.metadata.id)
    leaky.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    leaky.wait_phase("box", "STOPPED")
    with fails(grpc.StatusCode.UNAUTHENTICATED):
        list(leaky.stub.RelayStream(iter([]), metadata=bearer(first), timeout=5))
    leaky.stub.StartSandbox(pb.StartSandboxRequest(name="box"), timeout=10)
    leaky.wait_phase("box", "READY")
    second = leaky.token(made.metadata.id)
    assert first != second
    with fails(grpc.StatusCode.UNAUTHENTICATED):
        list(leaky.stub.RelayStream(iter([]), metadata=bearer(first), timeout=5))
    leaky.stub.DeleteSandbox(pb.DeleteSandboxRequest(name="box"), timeout=20)
    with fails(grpc.StatusCode.UNAUTHENTICATED):
        list(leaky.stub.RelayStream(iter([]), metadata=bearer(second), timeout=5))


def test_a_token_is_nowhere_to_be_read(leaky):
    """Not in the store, not in a log, not in a command line or environment, not in a file."""
    made = leaky.create("box")
    token = leaky.token(made.metadata.id)
    secret = token.split(".")[1].encode()
    for path in leaky.data_dir.rglob("*"):
        if path.is_file():
            assert secret not in path.read_bytes(), path
    assert secret not in leaky.log().encode()
    for pid in processes_of(leaky.data_dir):
        for name in ("cmdline", "environ"):
            with open(f"/proc/{pid}/{name}", "rb") as file:
                assert secret not in file.read()
