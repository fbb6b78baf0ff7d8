"""A towline-sshd process with a stand-in for its gateway, which does what a test tells it.

    session = endpoint.gateway.session()      # a session with a key of its own
    endpoint.ssh(session, "true")             # OpenSSH's client
    endpoint.gateway.end(session, "revoked")  # to every connection it has

The real gateway is in the tests of whole sandboxes; here are those of what a gateway cannot be
made to do: answer late or never, end a session at a certain moment, be away.
"""

import base64
import contextlib
import dataclasses
import os
import pathlib
import queue
import secrets
import signal
import socket
import subprocess
import threading
import time
from concurrent import futures

import grpc
import pytest
import towline_api
from conftest import BIN, wait_until
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

START_SECONDS = 10
STOP_SECONDS = 10
ENDPOINT = "sshd-test"
SECRET = f"{ENDPOINT}.0123456789abcdef"


def new_key():
    return ed25519.Ed25519PrivateKey.generate()


def private_text(key):
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )


def public_blob(key):
    line = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return base64.b64decode(line.split()[1])


@dataclasses.dataclass
class Session:
    id: str
    key: ed25519.Ed25519PrivateKey
    key_file: pathlib.Path
    sandbox: str = "box"
    seconds: float = 3600  # of the monotonic clock, from each answer
    wall_seconds: float = 3600  # of the calendar
    ended: str = ""

    @property
    def username(self):
        return f"{self.sandbox}.{self.id}"


class StandInGateway:
    """Authenticate and Attend, on a Unix socket."""

    def __init__(self, folder):
        self.folder = folder
        self.api = towline_api.load()
        self.address = f"unix:{folder / 'gateway.sock'}"
        self.sessions = {}
        self.asked = []  # requests of Authenticate
        self.open = {}  # connection: session's id
        self.reports = []
        self.delay = 0.0  # seconds, until it answers Authenticate
        self.streams = []
        self.lock = threading.Lock()
        self.server = None

    def message(self, name):
        return self.api["towline.v1." + name]

    def start(self):
        handlers = {
            "Authenticate": grpc.unary_unary_rpc_method_handler(
                self._authenticate,
                self.message("AuthenticateSshRequest").FromString,
                self.message("AuthenticateSshResponse").SerializeToString,
            ),
            "Attend": grpc.stream_stream_rpc_method_handler(
                self._attend,
                self.message("SshEndpointReport").FromString,
                self.message("SshEndpointEvent").SerializeToString,
            ),
        }
        self.server = self.make_server()
        service = grpc.method_handlers_generic_handler("towline.v1.SshEndpoint", handlers)
        self.server.add_generic_rpc_handlers((service,))
        self.server.add_insecure_port(self.address)
        self.server.start()

    def make_server(self):
        return grpc.server(futures.ThreadPoolExecutor(32))

    def stop(self):
        with self.lock:
            for events in self.streams:
                events.put(None)
        self.server.stop(0).wait()

    def session(self, **fields):
        session = Session(secrets.token_hex(8), new_key(), None, **fields)
        session.key_file = self.folder / session.id
        with open(os.open(session.key_file, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
            file.write(private_text(session.key))
        self.sessions[session.id] = session
        return session

    def end(self, session, reason):
        session.ended = reason
        self._tell(session.id, reason)

    def _tell(self, session_id, reason):
        event = self.message("SshEndpointEvent")()
        event.ended.session_id = session_id
        event.ended.reason = reason
        with self.lock:
            for events in self.streams:
                events.put(event)

    def _refuse(self, request):
        """Why not, or a session."""
        session_id = request.session_id or request.username.partition(".")[2]
        session = self.sessions.get(session_id)
        if session is None:
            return "there is no such session", None
        if session.ended:
            return f"the session has ended: {session.ended}", None
        if not request.session_id and request.public_key != public_blob(session.key):
            return "the key is not the session's", None
        return "", session

    def _authenticate(self, request, context):
        self._check_token(context)
        self.asked.append(request)
        time.sleep(self.delay)
        reason, session = self._refuse(request)
        if session is None:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)
        answer = self.message("AuthenticateSshResponse")(
            session_id=session.id,
            sandbox_id="0" * 36,
            sandbox=session.sandbox,
            permissions=[1, 2, 3, 4],
        )
        answer.time_left.FromMilliseconds(int(session.seconds * 1000))
        answer.expiration_time.FromMilliseconds(int((time.time() + session.wall_seconds) * 1000))
        return answer

    def _check_token(self, context):
        if dict(context.invocation_metadata()).get("authorization") != f"Bearer {SECRET}":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "no token of an endpoint")

    def _attend(self, reports, context):
        self._check_token(context)
        events = queue.Queue()
        with self.lock:
            self.streams.append(events)
        threading.Thread(target=self._read, args=(reports, events), daemon=True).start()
        while (event := events.get()) is not None:
            yield event
        with self.lock:
            self.streams.remove(events)

    def _read(self, reports, events):
        with contextlib.suppress(grpc.RpcError, Exception):
            for report in reports:
                self.reports.append(report)
                kind = report.WhichOneof("report")
                if kind == "hello":
                    self.open.clear()
                elif kind == "opened":
                    self._opened(report.opened)
                elif kind == "closed":
                    self.open.pop(report.closed.connection, None)
        events.put(None)

    def _opened(self, opened):
        self.open[opened.connection] = opened.session_id
        session = self.sessions.get(opened.session_id)
        if session is None or session.ended:
            self._tell(opened.session_id, session.ended if session else "unknown")


class Endpoint:
    """The process, and clients of it."""

    def __init__(self, folder, *flags, host="127.0.0.1", gateway=None):
        self.folder = folder
        self.host = host
        self.gateway = gateway or StandInGateway(folder)
        self.gateway.start()
        self.host_key = new_key()
        self.log_path = folder / "sshd.log"
        for name, content in (
            ("host_key", private_text(self.host_key)),
            ("token", SECRET.encode()),
        ):
            with open(os.open(folder / name, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                file.write(content)
        self.flags = flags
        self.process = None

    def start(self):
        command = [
            str(BIN / "towline-sshd"),
            f"--gateway={self.gateway.address}",
            f"--endpoint-id={ENDPOINT}",
            f"--token-file={self.folder / 'token'}",
            f"--host-key={self.folder / 'host_key'}",
            f"--listen={self.host}:0",
            "--log-level=debug",
            *self.flags,
        ]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._serves, START_SECONDS, "towline-sshd serves")
        self.port = int(self.lines("event=listening")[-1].split("address=")[1].split()[0].rpartition(":")[2])
        blob = base64.b64encode(public_blob(self.host_key)).decode()
        self.known_hosts = self.folder / "known_hosts"
        self.known_hosts.write_text(f"[{self.host}]:{self.port} ssh-ed25519 {blob}\n")
        return self

    def _serves(self):
        code = self.process.poll()
        assert code is None, f"towline-sshd ended with {code}:\n{self.log()}"
        return "listening" in self.log() and "gateway_up" in self.log()

    def log(self):
        return self.log_path.read_text(errors="replace")

    def lines(self, event):
        return [line for line in self.log().splitlines() if event in line]

    def memory_kib(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1])
        raise AssertionError("it has ended")

    def counters(self):
        """What SIGUSR1 writes."""
        time.sleep(0.1)  # of one event only so many lines a second are logged
        before = len(self.lines("counters"))
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(self.lines("counters")) > before, 5, "counters are logged")
        fields = self.lines("counters")[-1].split()
        return {k: int(v) for k, _, v in (f.partition("=") for f in fields) if v.isdigit()}

    def connect(self, source=None):
        """A plain connection."""
        where = (source, 0) if source else None
        return socket.create_connection((self.host, self.port), 10, source_address=where)

    def command(self, session, *words, program="ssh", options=()):
        return [
            program,
            "-F",
            "none",
            "-o",
            f"UserKnownHostsFile={self.known_hosts}",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "IdentitiesOnly=yes",
            "-o",
            "BatchMode=yes",
            "-i",
            str(session.key_file),
            *options,
            "-p",
            str(self.port),
            f"{session.username}@{self.host}",
            *words,
        ]

    def ssh(self, session, *words, options=(), timeout=20):
        return subprocess.run(
            self.command(session, *words, options=options),
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
        )

    def master(self, session, *options):
        """A connection without a channel, which stays."""
        return subprocess.Popen(
            self.command(session, options=("-N", *options)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self):
        """As its gateway would; it leaves with 0 and nothing wrong in its log."""
        self.process.terminate()
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        assert code == 0, f"towline-sshd left with {code}:\n{self.log()}"
        assert "AddressSanitizer" not in self.log() and "runtime error" not in self.log(), self.log()

    def destroy(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        self.gateway.stop()


@pytest.fixture
def make_endpoint(tmp_path):
    """Makes endpoints; they end as they should."""
    made = []

    def make(*flags, **options):
        folder = tmp_path / f"sshd{len(made)}"
        folder.mkdir()
        made.append(Endpoint(folder, *flags, **options))
        return made[-1].start()

    yield make
    try:
        for endpoint in made:
            if endpoint.process is not None:
                endpoint.stop()
    finally:
        for endpoint in made:
            endpoint.destroy()


@pytest.fixture
def endpoint(make_endpoint):
    return make_endpoint()
