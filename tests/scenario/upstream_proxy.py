"""A ProxyCommand as upstream's client has it: ForwardTcp with the target ssh and a token.

    ssh -o ProxyCommand='python upstream_proxy.py TARGET SANDBOX TOKEN' anybody@sandbox
"""

import os
import sys

import grpc
from openshell._proto import openshell_pb2 as pb
from openshell._proto import openshell_pb2_grpc as pb_grpc


def frames(sandbox, token):
    init = pb.TcpForwardInit(sandbox=sandbox, ssh=pb.SshRelayTarget(), authorization_token=token)
    yield pb.TcpForwardFrame(init=init)
    while data := os.read(0, 65536):
        yield pb.TcpForwardFrame(data=data)


def main(target, sandbox, token):
    with grpc.insecure_channel(target) as channel:
        stub = pb_grpc.OpenShellStub(channel)
        try:
            for frame in stub.ForwardTcp(frames(sandbox, token)):
                os.write(1, frame.data)
        except grpc.RpcError as error:
            sys.exit(f"{error.code().name}: {error.details()}")


main(*sys.argv[1:])
