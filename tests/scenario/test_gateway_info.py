"""What the gateway says of itself: health, reflection, and what it does not serve."""

import grpc
import pytest
import towline_api
from conftest import fails
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from openshell._proto import openshell_pb2 as pb

SERVED = (
    "Health GetCurrentUser GetGatewayInfo CreateSandbox GetSandbox ListSandboxes DeleteSandbox "
    "StopSandbox StartSandbox WatchSandbox CreateWorkspace GetWorkspace ListWorkspaces "
    "DeleteWorkspace ExecSandbox ExecSandboxInteractive ForwardTcp UploadFile DownloadFile "
    "CreateSshSession RevokeSshSession ConnectSupervisor RelayStream"
)


def test_user_and_gateway(gateway):
    user = gateway.stub.GetCurrentUser(pb.GetCurrentUserRequest(), timeout=5)
    assert user.subject == "local"
    info = gateway.stub.GetGatewayInfo(pb.GetGatewayInfoRequest(), timeout=5)
    assert info.status == pb.SERVICE_STATUS_HEALTHY
    assert info.gateway_version
    assert [driver.name for driver in info.compute_drivers] == ["local"]
    assert not info.compute_drivers[0].capabilities.resource_capabilities.cpu.limit_supported


def unserved_methods():
    served = set(SERVED.split())
    pool = towline_api.load().pool
    for service in (
        "openshell.v1.OpenShell",
        "openshell.inference.v1.Inference",
    ):
        for method in pool.FindServiceByName(service).methods:
            if service != "openshell.v1.OpenShell" or method.name not in served:
                yield f"{service}/{method.name}", method


def test_unserved_methods_say_which_they_are(gateway):
    """Also those that need a token: nobody is asked for one in vain."""
    api = towline_api.load()
    channel = gateway.channel()
    count = 0
    for path, method in unserved_methods():
        request = api[method.input_type.full_name]()
        call = api.method(channel, path)
        with fails(grpc.StatusCode.UNIMPLEMENTED, path):
            answer = call(iter([request]) if method.client_streaming else request, timeout=5)
            if method.server_streaming:
                list(answer)
        count += 1
    assert count > 60


def test_unknown_methods(gateway):
    call = gateway.channel().unary_unary("/openshell.v1.OpenShell/Nonsense")
    with fails(grpc.StatusCode.UNIMPLEMENTED):
        call(b"", timeout=5)


def test_health(gateway):
    stub = health_pb2_grpc.HealthStub(gateway.channel())
    for service in ("", "openshell.v1.OpenShell", "grpc.health.v1.Health"):
        answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with fails(grpc.StatusCode.NOT_FOUND, "no.such.Service"):
        stub.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=5)


def test_health_watch(gateway):
    stub = health_pb2_grpc.HealthStub(gateway.channel())
    unknown = stub.Watch(health_pb2.HealthCheckRequest(service="no.such"), timeout=20)
    assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    gateway.process.terminate()
    assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.RpcError):
        next(watch)
    assert gateway.process.wait(10) == 0


class Reflection:
    """The same messages by either name of the service."""

    def __init__(self, channel, version):
        self.call = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )

    def ask(self, **question):
        request = reflection_pb2.ServerReflectionRequest(**question)
        return next(iter(self.call(iter([request]), timeout=5)))


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection(gateway, version):
    reflection = Reflection(gateway.channel(), version)
    services = {
        service.name for service in reflection.ask(list_services="").list_services_response.service
    }
    assert services >= {"openshell.v1.OpenShell", "grpc.health.v1.Health"}
    assert "openshell.compute.v1.ComputeDriver" not in services

    files = reflection.ask(file_containing_symbol="openshell.v1.OpenShell.GetSandbox")
    named = {}
    for data in files.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        named[file.name] = file
    for file in named.values():
        assert set(file.dependency) <= set(named), "an import is missing"
    assert "GetSandbox" in {
        method.name
        for file in named.values()
        for service in file.service
        for method in service.method
    }
    missing = reflection.ask(file_by_filename="no/such.proto")
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert missing.original_request.file_by_filename == "no/such.proto"


def test_reflection_answers_in_order(gateway):
    call = Reflection(gateway.channel(), "v1").call
    names = [f"n{i}.proto" for i in range(200)]
    requests = (reflection_pb2.ServerReflectionRequest(file_by_filename=name) for name in names)
    answers = [a.original_request.file_by_filename for a in call(requests, timeout=10)]
    assert answers == names
