"""An SSH endpoint as the gateway sees one, without any SSH: a stand-in for towline-sshd."""

import base64
import contextlib
import queue
import threading

import grpc
import towline_api

SECONDS = 10


class Stream:
    """One Attend stream: reports go in, and what the gateway says comes out."""

    def __init__(self, endpoint, hello=True):
        self._reports = queue.Queue()
        self._report = endpoint.api["towline.v1.SshEndpointReport"]
        attend = endpoint.api.method(endpoint.channel, "towline.v1.SshEndpoint/Attend")
        self.call = attend(iter(self._reports.get, None), metadata=endpoint.metadata())
        if hello:
            self.report(hello={"instance_id": "stand-in"})

    def report(self, **fields):
        self._reports.put(self._report(**fields))

    def opened(self, connection, session_id, peer="192.0.2.1:4711"):
        self.report(opened={"connection": connection, "session_id": session_id, "peer": peer})

    def usage(self, connection, bytes_in, bytes_out):
        self.report(
            usage={"connection": connection, "bytes_in": bytes_in, "bytes_out": bytes_out}
        )

    def closed(self, connection):
        self.report(closed={"connection": connection})

    def next(self):
        """The next event; fails when none comes."""
        got = queue.Queue()
        threading.Thread(target=lambda: got.put(next(self.call, None)), daemon=True).start()
        return got.get(timeout=SECONDS)

    def end(self):
        """Ends it well, and answers the status."""
        self._reports.put(None)
        return self.status()

    def status(self):
        with contextlib.suppress(grpc.RpcError):
            for _ in self.call:
                pass
        return self.call.code()

    def break_off(self):
        self.call.cancel()


class Endpoint:
    def __init__(self, gateway, token, target=None):
        self.api = towline_api.load()
        self.id = token.partition(".")[0]
        self.token = token
        self.channel = gateway.channel(target)
        self.opens = queue.Queue()  # what came by RelayOpen

    def metadata(self, session=None):
        pairs = [("authorization", f"Bearer {self.token}")]
        return [*pairs, ("towline-ssh-session", session)] if session else pairs

    def authenticate(self, **fields):
        call = self.api.method(self.channel, "towline.v1.SshEndpoint/Authenticate")
        request = self.api["towline.v1.AuthenticateSshRequest"](**fields)
        return call(request, metadata=self.metadata(), timeout=SECONDS)

    def offer(self, made, key_line, signed=True):
        """What the client of a session does: offers a key, by its .pub line."""
        blob = base64.b64decode(key_line.split()[1])
        return self.authenticate(
            username=made.username, public_key=blob, peer="192.0.2.1:4711", signed=signed
        )

    def attend(self, hello=True):
        return Stream(self, hello)

    def act(self, session, path, *requests):
        """A call for a session."""
        method = self.api.method(self.channel, path)
        streams = isinstance(method, grpc.StreamUnaryMultiCallable | grpc.StreamStreamMultiCallable)
        argument = iter(requests) if streams else requests[0]
        answer = method(argument, metadata=self.metadata(session), timeout=SECONDS)
        return answer if not hasattr(answer, "__next__") else list(answer)

    def connect(self):
        """Opens its tunnel; every channel echoes what comes."""
        message = self.api["openshell.v1.SupervisorMessage"]
        self._outbox = queue.Queue()
        hello = {"sandbox_id": self.id, "instance_id": "stand-in", "features": ["call"]}
        self._outbox.put(message(hello=hello))
        connect = self.api.method(self.channel, "openshell.v1.OpenShell/ConnectSupervisor")
        self._session = connect(iter(self._outbox.get, None), metadata=self.metadata())
        assert next(self._session).WhichOneof("payload") == "session_accepted"
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def disconnect(self):
        self._outbox.put(None)

    def _serve(self):
        with contextlib.suppress(grpc.RpcError):
            for message in self._session:
                if message.WhichOneof("payload") == "relay_open":
                    self.opens.put(message.relay_open)
                    threading.Thread(
                        target=self._echo, args=[message.relay_open.channel_id], daemon=True
                    ).start()

    def _echo(self, channel_id):
        frame = self.api["openshell.v1.RelayFrame"]
        out = queue.Queue()
        out.put(frame(init={"channel_id": channel_id}))
        relay = self.api.method(self.channel, "openshell.v1.OpenShell/RelayStream")
        with contextlib.suppress(grpc.RpcError):
            for got in relay(iter(out.get, None), metadata=self.metadata()):
                out.put(frame(data=got.data))
        out.put(None)
