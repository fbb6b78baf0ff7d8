"""Messages that no client of good will sends. The connection lives, and so does the gateway."""

import grpc
import pytest
from conftest import fails
from google.protobuf import struct_pb2
from openshell._proto import openshell_pb2 as pb

GET = "/openshell.v1.OpenShell/GetSandbox"
CREATE = "/openshell.v1.OpenShell/CreateSandbox"


def length_delimited(field, data):
    def varint(value):
        out = b""
        while value > 0x7F:
            out += bytes([value & 0x7F | 0x80])
            value >>= 7
        return out + bytes([value])

    return varint(field << 3 | 2) + varint(len(data)) + data


def nested(levels):
    """spec.template.resources with a Struct within a Struct within a Struct ..."""
    value = b""
    for _ in range(levels // 2):
        # Value.struct_value = 5; Struct.fields entry = 1: { key = 1, value = 2 }
        entry = length_delimited(1, b"k") + length_delimited(2, length_delimited(5, value))
        value = length_delimited(1, entry)
    return length_delimited(1, length_delimited(6, length_delimited(7, value)))


@pytest.fixture
def raw(gateway):
    channel = gateway.channel()

    def call(path, data):
        return channel.unary_unary(path)(data, timeout=10)

    yield call
    assert gateway.stub.Health(pb.HealthRequest(), timeout=5).version


@pytest.mark.parametrize("data", [b"\xff", b"\x0a", b"\x0a\xff\xff\xff\xff\x0f", b"\x0b", b"\x00"])
def test_garbage(raw, data):
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        raw(GET, data)


def test_nesting(raw):
    assert struct_pb2.Struct  # what nested() writes by hand
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "nested"):
        raw(CREATE, nested(9000))
    with fails(grpc.StatusCode.UNIMPLEMENTED, "resources"):
        raw(CREATE, nested(20))


def test_text(raw):
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        raw(GET, length_delimited(1, b"a\0b"))
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        raw(GET, length_delimited(1, b"\xff\xfe"))


def test_too_large(raw):
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED):
        raw(CREATE, length_delimited(2, b"a" * (2 << 20)))
    with fails(grpc.StatusCode.NOT_FOUND):
        raw(GET, length_delimited(1, b"a" * (512 << 10)))


def test_control_characters_do_not_reach_a_terminal(raw):
    with fails(grpc.StatusCode.NOT_FOUND) as caught:
        raw(GET, length_delimited(1, b"\x1b[2Jname\n"))
    assert "\x1b" not in caught.value.details()
    assert "\n" not in caught.value.details()


def test_no_message_and_two(gateway):
    raw = gateway.channel().stream_unary(GET)
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        raw(iter([]), timeout=5)
    with fails(grpc.StatusCode.INVALID_ARGUMENT):
        raw(iter([b"\x0a\x01a", b"\x0a\x01b"]), timeout=5)


def test_compression(gateway):
    channel = gateway.channel()
    request = pb.GetSandboxRequest(name="a" * 1000).SerializeToString()
    with fails(grpc.StatusCode.UNIMPLEMENTED):
        channel.unary_unary(GET)(request, timeout=5, compression=grpc.Compression.Gzip)
