"""What SSH endpoints may ask of a gateway, what they report, and what they are told."""

import contextlib
import os
import queue
import struct
import threading
import time

import grpc
import pytest
import ssh_sessions
from conftest import fails, wait_until
from openshell._proto import openshell_pb2 as pb
from shims import Shim
from ssh_stand_in import Endpoint

CODE = grpc.StatusCode

EXEC = "openshell.v1.OpenShell/ExecSandboxInteractive"
FORWARD = "openshell.v1.OpenShell/ForwardTcp"


class Place:
    """A gateway with a sandbox, its sessions, and an endpoint."""

    def __init__(self, make_gateway, folder, *flags):
        ssh_flags, self.tokens = ssh_sessions.endpoint_flags(folder, "sshd-test", "sshd-more")
        self.gateway = make_gateway(*ssh_flags, *flags)
        self.gateway.create("box")
        self.sessions = ssh_sessions.Sessions(self.gateway)
        self.endpoint = Endpoint(self.gateway, self.tokens["sshd-test"])
        self.key = ssh_sessions.make_key(folder, "ed25519").with_suffix(".pub").read_text()

    def create(self, **fields):
        return self.sessions.create(public_key=self.key, **fields)

    def listed(self, made):
        (row,) = [s for s in self.sessions.list(include_ended=True).sessions
                  if s.session_id == made.session_id]
        return row

    def connections(self, made):
        return self.listed(made).connections

    def message(self, name, **fields):
        return self.endpoint.api[name](**fields)

    def start(self, sandbox="box", tty=False):
        start = {"sandbox": sandbox, "command": ["echo", "hello"], "tty": tty}
        return self.message("openshell.v1.ExecSandboxInput", start=start)

    def forward(self, made, sandbox="box", token=None):
        """A ForwardTcp to the sandbox's SSH, as upstream's ProxyCommand does it."""
        frame = self.endpoint.api["openshell.v1.TcpForwardFrame"]
        method = self.endpoint.api.method(self.gateway.channel(), FORWARD)
        out = queue.Queue()
        token = made.token if token is None else token
        out.put(frame(init={"sandbox": sandbox, "ssh": {}, "authorization_token": token}))
        return out, frame, method(iter(out.get, None), timeout=20)


@pytest.fixture
def place(make_gateway, tmp_path):
    return Place(make_gateway, tmp_path)


def test_authenticate(place):
    made = place.create(ttl_seconds=100, permissions=[1, 3])
    for signed in (False, True):
        answer = place.endpoint.offer(made, place.key, signed)
        assert answer.session_id == made.session_id and answer.sandbox == "box"
        assert answer.sandbox_id == made.sandbox_id and list(answer.permissions) == [1, 3]
        assert answer.expiration_time.ToMilliseconds() == made.expires_at_ms
        assert 95 <= answer.time_left.seconds <= 100
    assert place.gateway.log().count("ssh_admitted") == 1


def test_wrong_keys(place, tmp_path):
    made, other = place.create(), place.sessions.create()
    another = ssh_sessions.make_key(tmp_path, "ecdsa", "-b", "256").with_suffix(".pub").read_text()
    with fails(CODE.UNAUTHENTICATED, "the key is not that of"):
        place.endpoint.offer(made, another)
    with fails(CODE.UNAUTHENTICATED, "the key is not that of"):
        place.endpoint.offer(other, place.key)
    for username in ("root", "", f"nobody.{made.session_id}", f"box.{'0' * 16}", "box"):
        with fails(CODE.UNAUTHENTICATED):
            place.endpoint.authenticate(username=username, public_key=b"x", signed=True)
    with fails(CODE.UNAUTHENTICATED):
        place.endpoint.authenticate(username=made.username, public_key=b"", signed=True)
    place.sessions.revoke(token=made.token)
    with fails(CODE.UNAUTHENTICATED, "revoked"):
        place.endpoint.offer(made, place.key)
    log = place.gateway.log()
    assert log.count("ssh_refused") == 9 and "192.0.2.1:4711" in log
    assert made.token.partition(".")[2] not in log


def test_expired_key(place):
    made = place.create(ttl_seconds=1)
    place.endpoint.offer(made, place.key)
    time.sleep(max(0, made.expires_at_ms / 1000 - time.time()))
    with fails(CODE.UNAUTHENTICATED, "expired"):
        place.endpoint.offer(made, place.key)


def test_endpoints_token_only(place):
    made = place.create()
    token = place.tokens["sshd-test"]
    for bad in ("x", token[:-1], token[:-1] + "_", f"sshd-more.{token.partition('.')[2]}", "sshd-"):
        stranger = Endpoint(place.gateway, bad)
        with fails(CODE.UNAUTHENTICATED):
            stranger.offer(made, place.key)
        with fails(CODE.UNAUTHENTICATED):
            next(stranger.attend().call)
    stranger = Endpoint(place.gateway, "sshd-x." + "0" * 64)
    with fails(CODE.UNAUTHENTICATED):
        stranger.act(made.session_id, EXEC, place.start())


def test_an_endpoint_alone_is_nobody(place):
    with fails(CODE.PERMISSION_DENIED, "towline-ssh-session"):
        place.endpoint.act(None, EXEC, place.start())
    for path, name in (("ListSandboxes", "ListSandboxesRequest"),
                       ("CreateSshSession", "CreateSshSessionRequest")):
        with fails(CODE.PERMISSION_DENIED):
            request = place.message(f"openshell.v1.{name}")
            place.endpoint.act(None, f"openshell.v1.OpenShell/{path}", request)


def test_acts_for_a_session(place):
    place.gateway.create("other")
    made = place.create()
    events = place.endpoint.act(made.session_id, EXEC, place.start())
    output = b"".join(event.stdout.data for event in events if event.HasField("stdout"))
    assert output == b"hello\n" and events[-1].exit.exit_code == 0
    subject = f"subject=ssh:{made.session_id}"
    wait_until(lambda: subject in place.gateway.log(), 5, "it is logged whose call it was")
    with fails(CODE.PERMISSION_DENIED, "another sandbox"):
        place.endpoint.act(made.session_id, EXEC, place.start("other"))
    with fails(CODE.UNAUTHENTICATED, "no SSH session"):
        place.endpoint.act("0" * 16, EXEC, place.start())
    place.sessions.revoke(session_id=made.session_id)
    with fails(CODE.UNAUTHENTICATED, "revoked"):
        place.endpoint.act(made.session_id, EXEC, place.start())


def test_nothing_else_for_a_session(place):
    made = place.create()
    for path, request in (
        ("openshell.v1.OpenShell/GetSandbox", "openshell.v1.GetSandboxRequest"),
        ("openshell.v1.OpenShell/DeleteSandbox", "openshell.v1.DeleteSandboxRequest"),
        ("openshell.v1.OpenShell/CreateSshSession", "openshell.v1.CreateSshSessionRequest"),
        ("openshell.v1.OpenShell/ExecSandbox", "openshell.v1.ExecSandboxRequest"),
        ("openshell.v1.OpenShell/DownloadFile", "openshell.v1.DownloadFileRequest"),
        ("towline.v1.Files/StatFile", "towline.v1.StatFileRequest"),
        ("towline.v1.SshSessions/ListSshSessions", "towline.v1.ListSshSessionsRequest"),
    ):
        with fails(CODE.PERMISSION_DENIED, "nothing that an SSH session may do"):
            place.endpoint.act(made.session_id, path, place.message(request))


def test_permissions(place):
    """What each permission is for, and that it is for nothing else."""
    forward = place.message("openshell.v1.TcpForwardFrame",
                            init={"sandbox": "box", "tcp": {"host": "127.0.0.1", "port": 1}})
    sftp = place.message("towline.v1.SftpRequest", init={"sandbox": "box"})
    scp = place.message("towline.v1.ScpRequest", init={"sandbox": "box"})
    listen = place.message("towline.v1.ListenTcpRequest", sandbox="box", host="192.0.2.1")
    accept = place.message("towline.v1.AcceptTcpRequest",
                           init={"sandbox": "box", "connection_id": "none"})
    calls = [
        (1, EXEC, place.start()),
        (2, EXEC, place.start(tty=True)),
        (3, "towline.v1.Files/Sftp", sftp),
        (3, "towline.v1.Files/Scp", scp),
        (4, FORWARD, forward),
        (4, "towline.v1.Ports/ListenTcp", listen),
        (4, "towline.v1.Ports/AcceptTcp", accept),
    ]
    made = {p: place.create(permissions=[p]).session_id for p in (1, 2, 3, 4)}
    for needed, path, request in calls:
        for permission, session in made.items():
            refused = "not refused"
            try:
                place.endpoint.act(session, path, request)
            except grpc.RpcError as error:
                refused = error.details()
            assert ("does not permit" in refused) == (permission != needed), (path, permission)


def test_connections_are_counted(place):
    made, other = place.create(), place.create()
    stream = place.endpoint.attend()
    for number in (1, 2, 3):
        place.endpoint.offer(made, place.key)
        stream.opened(number, made.session_id)
    stream.opened(4, other.session_id)
    wait_until(lambda: place.connections(made) == 3, 5, "three are open")
    stream.usage(1, 100, 10)
    stream.usage(2, 1, 0)
    stream.usage(1, 150, 20)
    stream.usage(1, 120, 20)
    stream.usage(99, 1000, 1000)
    stream.closed(2)
    stream.closed(77)
    wait_until(lambda: place.connections(made) == 2, 5, "one is closed")
    row = place.listed(made)
    assert (row.bytes_in, row.bytes_out) == (151, 20)
    assert place.connections(other) == 1
    stream.break_off()
    wait_until(lambda: place.connections(made) == place.connections(other) == 0, 5, "none is left")
    again = place.endpoint.attend()
    again.opened(1, made.session_id)
    wait_until(lambda: place.connections(made) == 1, 5, "it is reported again")
    assert again.end() == CODE.OK
    assert place.listed(made).bytes_in == 151


def test_told_of_the_end(place):
    made, other = place.create(), place.create(ttl_seconds=2)
    more = Endpoint(place.gateway, place.tokens["sshd-more"])
    streams = [place.endpoint.attend(), more.attend()]
    for number, session in enumerate((made, other)):
        place.endpoint.offer(session, place.key)
        streams[0].opened(number, session.session_id)
    wait_until(lambda: place.connections(other) == 1, 5, "both are open")
    began = time.monotonic()
    place.sessions.revoke(token=made.token)
    for stream in streams:
        event = stream.next().ended
        assert event.session_id == made.session_id and "revoked" in event.reason
    assert time.monotonic() - began < 1
    for stream in streams:
        event = stream.next().ended
        assert event.session_id == other.session_id and "expired" in event.reason
    assert 0 <= time.time() - other.expires_at_ms / 1000 < 1
    streams[0].opened(9, made.session_id)
    assert streams[0].next().ended.session_id == made.session_id
    streams[0].opened(10, "f" * 16)
    assert streams[0].next().ended.session_id == "f" * 16


@pytest.fixture
def clock(monkeypatch, tmp_path):
    """Sets the wall clock of gateways that are started from now on, by so many seconds."""
    shim = Shim("clock", tmp_path)
    for name, value in shim.env.items():
        monkeypatch.setenv(name, value)

    def ahead(seconds):
        shim.map[:8] = struct.pack("<q", seconds)

    yield ahead
    shim.close()


@pytest.mark.parametrize("days", [2, -2])
def test_clock_is_set(clock, make_gateway, tmp_path, days):
    """Set forward, what it shows counts; set back, what has passed does."""
    place = Place(make_gateway, tmp_path)
    stream = place.endpoint.attend()
    made = place.create(ttl_seconds=2 if days < 0 else 900)
    until = time.monotonic() + 2
    place.endpoint.offer(made, place.key)
    stream.opened(1, made.session_id)
    clock(days * 86400)
    if days < 0:
        assert place.endpoint.offer(made, place.key).time_left.ToMilliseconds() <= 2000
        time.sleep(max(0, until - time.monotonic()))
    with fails(CODE.UNAUTHENTICATED, "expired"):
        place.endpoint.offer(made, place.key)
    event = stream.next().ended
    assert event.session_id == made.session_id and "expired" in event.reason
    clock(0)
    with fails(CODE.UNAUTHENTICATED, "expired"):
        place.endpoint.offer(made, place.key)
    time.sleep(1)  # two sweeps: it is written down that it ended
    place.gateway.kill()
    place.gateway.start()
    place.endpoint = Endpoint(place.gateway, place.tokens["sshd-test"])
    with fails(CODE.UNAUTHENTICATED):  # or forgotten, since it ended days ago
        place.endpoint.offer(made, place.key)


def test_told_of_deletion(place):
    made = place.create()
    stream = place.endpoint.attend()
    place.endpoint.offer(made, place.key)
    stream.opened(1, made.session_id)
    place.gateway.stub.DeleteSandbox(pb.DeleteSandboxRequest(name="box"), timeout=30)
    assert "deleted" in stream.next().ended.reason


def test_attend_again_supersedes(place):
    first = place.endpoint.attend()
    made = place.create()
    first.opened(1, made.session_id)
    wait_until(lambda: place.connections(made) == 1, 5, "it is open")
    second = place.endpoint.attend()
    assert first.status() == CODE.ABORTED
    second.opened(1, made.session_id)
    wait_until(lambda: place.connections(made) == 1, 5, "it is counted once")


def test_reports_out_of_order(place):
    stream = place.endpoint.attend(hello=False)
    stream.closed(1)
    assert stream.status() == CODE.INVALID_ARGUMENT
    stream = place.endpoint.attend()
    stream.report(hello={"instance_id": "again"})
    assert stream.status() == CODE.INVALID_ARGUMENT
    stream = place.endpoint.attend()
    made = place.create()
    stream.opened(1, made.session_id)
    stream.opened(1, made.session_id)
    assert stream.status() == CODE.INVALID_ARGUMENT
    wait_until(lambda: place.connections(made) == 0, 5, "none is left")


def test_too_many_connections(place):
    stream, made = place.endpoint.attend(), place.create()
    for number in range(16384):
        stream.opened(number, made.session_id)
    wait_until(lambda: place.connections(made) == 16384, 20, "all are open")
    stream.opened(16384, made.session_id)
    assert stream.status() == CODE.RESOURCE_EXHAUSTED
    wait_until(lambda: place.connections(made) == 0, 10, "none is left")


def test_too_many_streams(place):
    """256, of all endpoints; those that say nothing leave after 10 s."""
    began = time.monotonic()
    silent = [place.endpoint.attend(hello=False) for _ in range(256)]
    other = Endpoint(place.gateway, place.tokens["sshd-more"])
    wait_until(lambda: other.attend(hello=False).status() == CODE.RESOURCE_EXHAUSTED, 5, "there is no room")
    assert {stream.status() for stream in silent} == {CODE.DEADLINE_EXCEEDED}
    assert 9 < time.monotonic() - began < 15
    made, stream = place.create(), other.attend()
    stream.opened(1, made.session_id)
    wait_until(lambda: place.connections(made) == 1, 5, "there is room again")


def test_report_that_is_too_long(place):
    for length, status in ((16000, CODE.OK), (16384, CODE.RESOURCE_EXHAUSTED)):
        stream = place.endpoint.attend()
        stream.opened(1, "f" * 16, peer="x" * length)
        assert stream.next() if status == CODE.OK else True
        assert stream.end() == status


def test_too_many_ends_at_once(make_gateway, tmp_path):
    """4,096 are held for a stream; one that begins again hears of what it reports."""
    place = Place(make_gateway, tmp_path, "--loops=1")
    stream = place.endpoint.attend()
    made = [place.create() for _ in range(4200)]
    for number, session in enumerate(reversed(made)):
        stream.opened(number, session.session_id)
    wait_until(lambda: place.connections(made[0]) == 1, 20, "all are open")
    place.gateway.stub.DeleteSandbox(pb.DeleteSandboxRequest(name="box"), timeout=30)
    assert stream.status() == CODE.RESOURCE_EXHAUSTED
    assert "too much has happened at once" in place.gateway.log()
    again = place.endpoint.attend()
    again.opened(1, made[0].session_id)
    assert again.next().ended.session_id == made[0].session_id


def test_endpoint_that_does_not_read(place):
    """It is not told without an end, and others are."""
    other = Endpoint(place.gateway, place.tokens["sshd-more"])
    options = [("grpc.http2.bdp_probe", 0), ("grpc.use_local_subchannel_pool", 1)]
    place.endpoint.channel.close()
    place.endpoint.channel = grpc.insecure_channel(place.gateway.target, options)
    stream = place.endpoint.attend()
    for number in range(16384):
        stream.opened(number, "f" * 16)
    wait_until(lambda: "does not read" in place.gateway.log(), 20, "it is given up")
    second = other.attend()
    second.opened(1, "e" * 16)
    assert second.next().ended.session_id == "e" * 16
    assert stream.status() == CODE.RESOURCE_EXHAUSTED
    place.endpoint.channel.close()


def test_limits(make_gateway, tmp_path):
    flags = ("--ssh-session-connections=3", "--ssh-sandbox-connections=5")
    place = Place(make_gateway, tmp_path, *flags)
    first, second = place.create(), place.create()
    stream = place.endpoint.attend()
    for number in range(3):
        place.endpoint.offer(first, place.key)
        stream.opened(number, first.session_id)
    with fails(CODE.RESOURCE_EXHAUSTED, "3 connections"):
        place.endpoint.offer(first, place.key)
    with fails(CODE.RESOURCE_EXHAUSTED, "3 connections"):
        place.endpoint.authenticate(session_id=first.session_id)
    for _ in range(2):
        place.endpoint.authenticate(session_id=second.session_id)
    with fails(CODE.RESOURCE_EXHAUSTED, "5 SSH connections"):
        place.endpoint.offer(second, place.key)
    stream.closed(0)
    wait_until(lambda: place.connections(first) == 2, 5, "one is closed")
    place.endpoint.offer(second, place.key)


def test_races(place):
    """Revoked while it is used: whatever came first, nothing goes on."""
    stream = place.endpoint.attend()
    made = [place.create() for _ in range(64)]
    told, numbers = set(), {}

    def use(number):
        try:
            place.endpoint.offer(made[number], place.key)
        except grpc.RpcError as error:
            assert error.code() == CODE.UNAUTHENTICATED, error
            return
        numbers[number] = True
        stream.opened(number, made[number].session_id)

    threads = [threading.Thread(target=use, args=[n]) for n in range(64)]
    threads += [
        threading.Thread(target=place.sessions.revoke, kwargs={"token": m.token}) for m in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {made[number].session_id for number in numbers}
    while not expected <= told:
        told.add(stream.next().ended.session_id)
    assert place.sessions.ids() == []


def test_forward_to_ssh(place):
    made = place.create()
    place.endpoint.connect()
    out, frame, answers = place.forward(made)
    opened = place.endpoint.opens.get(timeout=5)
    assert opened.call.method == "/" + FORWARD
    init = frame.FromString(opened.call.first_message).init
    assert init.authorization_token == made.session_id and init.sandbox == made.sandbox_id
    assert init.HasField("ssh")
    out.put(frame(data=b"SSH-2.0-x\r\n"))
    assert next(answers).data == b"SSH-2.0-x\r\n"
    out.put(None)
    with contextlib.suppress(grpc.RpcError):  # grpcio has no trailers to end a channel with
        list(answers)
    answer = place.endpoint.authenticate(session_id=init.authorization_token)
    assert answer.sandbox == "box"
    assert made.token.partition(".")[2] not in place.gateway.log()


def test_forward_to_ssh_refused(place):
    place.gateway.create("other")
    made = place.create()

    def refused(code, *words, **how):
        out, _, answers = place.forward(made, **how)
        out.put(None)
        with fails(code, *words):
            next(answers)

    refused(CODE.UNAVAILABLE, "no SSH endpoint is connected")
    place.endpoint.connect()
    refused(CODE.PERMISSION_DENIED, "another sandbox", sandbox="other")
    refused(CODE.NOT_FOUND, sandbox="nobody")
    refused(CODE.UNAUTHENTICATED, token="")
    refused(CODE.UNAUTHENTICATED, token=made.token[:-1] + "z")
    wrong = made.token[:-1] + ("0" if made.token[-1] != "0" else "1")
    refused(CODE.UNAUTHENTICATED, "no SSH session's", token=wrong)
    place.sessions.revoke(token=made.token)
    refused(CODE.UNAUTHENTICATED, "revoked")
    with fails(CODE.PERMISSION_DENIED):
        live = place.create()
        init = {"sandbox": "box", "ssh": {}, "authorization_token": live.token}
        message = place.message("openshell.v1.TcpForwardFrame", init=init)
        place.endpoint.act(live.session_id, FORWARD, message)


def test_forwards_are_spread(place):
    """Over the endpoints that are there, by how many connections they have."""
    more = Endpoint(place.gateway, place.tokens["sshd-more"]).connect()
    place.endpoint.connect()
    made = place.create()
    stream = place.endpoint.attend()
    for number in range(5):
        stream.opened(number, made.session_id)
    wait_until(lambda: place.connections(made) == 5, 5, "they are open")
    for _ in range(4):
        out, _, _ = place.forward(made)
        more.opens.get(timeout=5)
        out.put(None)
    assert place.endpoint.opens.empty()
    more.disconnect()

    def goes_to_the_other():
        out, _, answers = place.forward(made)
        out.put(None)
        with contextlib.suppress(grpc.RpcError):
            list(answers)
        return not place.endpoint.opens.empty()

    # One that was on its way to it is waited with for 10 s, since it may come back.
    wait_until(goes_to_the_other, 15, "the other one takes them")


def test_bad_endpoints_file(make_gateway, tmp_path):
    flags, _ = ssh_sessions.endpoint_flags(tmp_path)
    file = tmp_path / "endpoints"
    good = file.read_text()
    gateway = make_gateway(*flags)
    gateway.create("box")
    for text, mode, words in (
        ("sshd-.00\n", 0o600, "no token"),
        (f"sshd-1.{os.urandom(32).hex()}\n", 0o600, "gateway's own"),
        (good, 0o644, "chmod 600"),
    ):
        gateway.stop()
        file.write_text(text)
        file.chmod(mode)
        gateway.start()
        gateway.wait_phase("box", "READY")
        with fails(CODE.FAILED_PRECONDITION, "ssh_failed"):
            ssh_sessions.Sessions(gateway).create()
        assert words in gateway.log()
