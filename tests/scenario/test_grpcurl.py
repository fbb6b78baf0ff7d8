"""A client that knows the API by nothing but the gateway's reflection."""

import json
import pathlib
import subprocess

import pytest

GRPCURL = pathlib.Path(__file__).resolve().parents[2] / "build" / "go" / "bin" / "grpcurl"

pytestmark = pytest.mark.skipif(
    not GRPCURL.exists(), reason="no grpcurl: it takes Go 1.24 or later, then ./dev setup"
)


def grpcurl(gateway, *arguments):
    command = [GRPCURL, "-plaintext", "-max-time", "10", gateway.target, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_lists_services_and_methods(gateway):
    services = grpcurl(gateway, "list").split()
    assert {"openshell.v1.OpenShell", "grpc.health.v1.Health"} <= set(services)
    assert "openshell.v1.OpenShell.CreateSandbox" in grpcurl(
        gateway, "list", "openshell.v1.OpenShell"
    )


def test_describes_a_message_with_what_it_imports(gateway):
    text = grpcurl(gateway, "describe", "openshell.v1.CreateSandboxRequest")
    assert "message CreateSandboxRequest" in text


def test_calls_by_reflection(gateway):
    assert json.loads(grpcurl(gateway, "grpc.health.v1.Health/Check"))["status"] == "SERVING"
    assert json.loads(grpcurl(gateway, "openshell.v1.OpenShell/Health"))
