"""Towline's own messages and methods, which OpenShell's stubs do not have.

The .proto files of this repository are compiled into a pool of their own, so that they live
beside those of the openshell package:

    api = towline_api.load()
    metadata = api["openshell.v1.UploadFileMetadata"](sandbox="box", remote_path="a")
    upload = api.method(channel, "openshell.v1.OpenShell/UploadFile")
    upload(iter([api["openshell.v1.UploadFileRequest"](metadata=metadata), ...]))
"""

import functools
import pathlib
import subprocess
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto"


def _compile():
    sources = [str(path.relative_to(PROTO)) for path in sorted(PROTO.rglob("*.proto"))]
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(
            ["protoc", "--include_imports", f"--descriptor_set_out={out.name}", "-I", ".", *sources],
            cwd=PROTO,
            check=True,
        )
        return descriptor_pb2.FileDescriptorSet.FromString(out.read())


class Api:
    def __init__(self):
        self.pool = descriptor_pool.DescriptorPool()
        for file in _compile().file:
            self.pool.Add(file)

    def __getitem__(self, name):
        """The class of a message, by its full name."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))

    def method(self, channel, path):
        """What calls "openshell.v1.OpenShell/UploadFile" on a channel."""
        service, name = path.split("/")
        method = self.pool.FindServiceByName(service).FindMethodByName(name)
        shape = {
            (False, False): channel.unary_unary,
            (False, True): channel.unary_stream,
            (True, False): channel.stream_unary,
            (True, True): channel.stream_stream,
        }[method.client_streaming, method.server_streaming]
        return shape(
            "/" + path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )


@functools.cache
def load():
    return Api()
