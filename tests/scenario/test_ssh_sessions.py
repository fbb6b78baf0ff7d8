"""SSH sessions: what CreateSshSession gives and refuses, lists, revocation, and their end."""

import base64
import struct
import subprocess
import time

import grpc
import pytest
import ssh_sessions
from conftest import fails, wait_until
from openshell._proto import openshell_pb2 as pb

CODE = grpc.StatusCode


@pytest.fixture
def box(make_gateway, tmp_path):
    """A gateway with SSH and one sandbox."""
    flags, _ = ssh_sessions.endpoint_flags(tmp_path)
    gateway = make_gateway(*flags)
    gateway.create("box")
    return gateway


@pytest.fixture
def sessions(box):
    return ssh_sessions.Sessions(box)


def outcome(answer):
    return answer.DESCRIPTOR.fields_by_name["outcome"].enum_type.values_by_number[
        answer.outcome
    ].name.removeprefix("DELETION_OUTCOME_")


def test_answer(box, sessions, tmp_path):
    before = time.time()
    made = sessions.create()
    assert made.sandbox_id == box.get("box").metadata.id
    assert (made.host, made.port) == (ssh_sessions.HOST, ssh_sessions.PORT)
    host, _, port = box.target.rpartition(":")
    assert (made.gateway_host, made.gateway_port, made.gateway_scheme) == (host, int(port), "http")
    assert made.username == f"box.{made.session_id}" and len(made.session_id) == 16
    assert made.token.startswith(f"ssh-{made.session_id}.") and len(made.token) == 85
    left = made.expires_at_ms / 1000 - before
    assert 899 < left < 902 and made.expiration_time.ToMilliseconds() == made.expires_at_ms
    assert list(made.permissions) == [1, 2, 3, 4]
    assert made.host_key.startswith("ssh-ed25519 ")

    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(made.private_key)
    derived = subprocess.run(["ssh-keygen", "-y", "-f", key], check=True, capture_output=True)
    assert derived.stdout.startswith(b"ssh-ed25519 ")
    (listed,) = sessions.list().sessions
    assert listed.key_fingerprint == ssh_sessions.fingerprint(key)

    host_key = tmp_path / "host.pub"
    host_key.write_text(made.host_key + "\n")
    assert ssh_sessions.fingerprint(host_key) == made.host_key_fingerprint
    assert box.get("box").host_key_fingerprint == made.host_key_fingerprint


def test_upstreams_client(box):
    """What OpenShell's own messages know of it is all there."""
    made = box.stub.CreateSshSession(pb.CreateSshSessionRequest(sandbox="box"), timeout=10)
    assert made.sandbox_id == box.get("box").metadata.id and made.token
    assert f"{made.gateway_host}:{made.gateway_port}" == box.target
    assert made.gateway_scheme == "http" and made.host_key_fingerprint.startswith("SHA256:")
    assert made.expiration_time.ToSeconds() > time.time() + 800
    request = pb.RevokeSshSessionRequest(token=made.token)
    answer = box.stub.RevokeSshSession(request, timeout=10)
    assert answer.outcome == pb.DELETION_OUTCOME_COMPLETED


@pytest.mark.parametrize("ttl", [0, 1, 86400])
def test_ttl(sessions, ttl):
    before = time.time() * 1000
    made = sessions.create(ttl_seconds=ttl)
    assert abs(made.expires_at_ms - before - (ttl or 900) * 1000) < 2000


@pytest.mark.parametrize("ttl", [86401, 2**32 - 1])
def test_ttl_out_of_range(sessions, ttl):
    with fails(CODE.INVALID_ARGUMENT, str(ttl), "86400"):
        sessions.create(ttl_seconds=ttl)


@pytest.mark.parametrize(
    "kind", ["ed25519", "ecdsa -b 256", "ecdsa -b 384", "ecdsa -b 521", "rsa -b 2048", "rsa -b 4096"]
)
def test_own_key(sessions, tmp_path, kind):
    key = ssh_sessions.make_key(tmp_path, *kind.split())
    made = sessions.create(public_key=key.with_suffix(".pub").read_text())
    assert made.private_key == ""
    (listed,) = sessions.list().sessions
    assert listed.key_fingerprint == ssh_sessions.fingerprint(key)


def certificate(folder):
    key = ssh_sessions.make_key(folder, "ed25519")
    command = ["ssh-keygen", "-q", "-s", key, "-I", "id", "-n", "box", f"{key}.pub"]
    subprocess.run(command, check=True, capture_output=True)
    return key.with_name(key.name + "-cert.pub").read_text()


def of_type(name, *parts):
    blob = b"".join(struct.pack(">I", len(part)) + part for part in (name.encode(), *parts))
    return f"{name} {base64.b64encode(blob).decode()} made up"


BAD_KEYS = {
    "a short RSA key": (
        lambda d: ssh_sessions.make_key(d, "rsa", "-b", "1024").with_suffix(".pub").read_text(),
        "1024 bits",
    ),
    "DSA": (
        lambda d: ssh_sessions.make_key(d, "dsa").with_suffix(".pub").read_text(),
        "ssh-dss",
    ),
    "a certificate": (certificate, "certificates are not accepted"),
    "a private key": (lambda d: ssh_sessions.make_key(d, "ed25519").read_text(), "private key"),
    "two lines": (
        lambda d: ssh_sessions.make_key(d, "ed25519").with_suffix(".pub").read_text() * 2,
        "one line",
    ),
    "options": (
        lambda d: "restrict " + ssh_sessions.make_key(d, "ed25519").with_suffix(".pub").read_text(),
        "restrict",
    ),
    "a key of a token": (
        lambda d: of_type("sk-ssh-ed25519@openssh.com", bytes(32), b"ssh:"),
        "not accepted",
    ),
    "31 bytes": (lambda d: of_type("ssh-ed25519", bytes(31)), "32 bytes"),
    "something behind": (lambda d: of_type("ssh-ed25519", bytes(32), b""), "follows"),
    "no point": (
        lambda d: of_type("ecdsa-sha2-nistp256", b"nistp256", b"\4" + bytes(64)),
        "no point",
    ),
    "no base64": (lambda d: "ssh-ed25519 &&&", "base64"),
    "nothing like a key": (lambda d: "hello", "not accepted"),
    "9,000 bytes": (lambda d: "ssh-ed25519 " + "A" * 9000, "longer"),
}


@pytest.mark.parametrize("name", BAD_KEYS)
def test_bad_keys(sessions, tmp_path, name):
    make, words = BAD_KEYS[name]
    with fails(CODE.INVALID_ARGUMENT, "public_key", words):
        sessions.create(public_key=make(tmp_path))
    assert sessions.ids() == []


def test_permissions(sessions):
    assert list(sessions.create(permissions=[3, 1, 3]).permissions) == [1, 3]
    assert list(sessions.list().sessions[0].permissions) == [1, 3]
    for bad in (0, 5, -1):
        with fails(CODE.INVALID_ARGUMENT, "permissions", str(bad)):
            sessions.create(permissions=[1, bad])


def test_sandbox(box, sessions):
    with fails(CODE.NOT_FOUND, "nobody"):
        sessions.create("nobody")
    with fails(CODE.INVALID_ARGUMENT, "no sandbox"):
        sessions.create("")
    box.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=10)
    box.wait_phase("box", "STOPPED")
    with fails(CODE.FAILED_PRECONDITION, "STOPPED"):
        sessions.create()


def test_revoke(sessions):
    first, second, third = (sessions.create() for _ in range(3))
    answer = sessions.revoke(token=first.token)
    assert answer.revoked and outcome(answer) == "COMPLETED"
    assert sessions.revoke(session_id=second.session_id).revoked
    assert sessions.ids() == [third.session_id]
    for again in ({"token": first.token}, {"session_id": second.session_id}):
        with fails(CODE.NOT_FOUND, "ended already", "revoked"):
            sessions.revoke(**again)
        answer = sessions.revoke(allow_missing=True, **again)
        assert not answer.revoked and outcome(answer) == "ALREADY_ABSENT"


def test_revoke_what_is_not_there(sessions):
    made = sessions.create()
    wrong = made.token[:-1] + ("0" if made.token[-1] != "0" else "1")
    for missing in ({"token": wrong}, {"token": "ssh-x"}, {"session_id": "0" * 16}):
        with fails(CODE.NOT_FOUND, "no such SSH session"):
            sessions.revoke(**missing)
    for mistake in ({}, {"token": made.token, "session_id": made.session_id}):
        with fails(CODE.INVALID_ARGUMENT, "session_id"):
            sessions.revoke(**mistake)
    assert sessions.ids() == [made.session_id]


def test_expiry(sessions):
    made = sessions.create(ttl_seconds=1)
    stays = sessions.create()
    assert sessions.ids() == [made.session_id, stays.session_id]
    time.sleep(max(0, made.expires_at_ms / 1000 - time.time()))
    assert sessions.ids() == [stays.session_id]
    with fails(CODE.NOT_FOUND, "expired"):
        sessions.revoke(token=made.token)
    (ended, live) = sessions.list(include_ended=True).sessions
    assert ended.session_id == made.session_id and not ended.HasField("revoked_time")
    assert live.session_id == stays.session_id


def test_list(box, sessions):
    box.create("other")
    made = [sessions.create(name).session_id for name in ("box", "other", "box")]
    assert sessions.ids() == made
    assert sessions.ids(sandbox="box") == [made[0], made[2]]
    assert sessions.ids(sandbox=box.get("other").metadata.id) == [made[1]]
    assert sessions.ids(workspace_scope={"all_workspaces": {}}) == made
    with fails(CODE.NOT_FOUND):
        sessions.list(sandbox="nobody")
    with fails(CODE.NOT_FOUND):
        sessions.list(workspace_scope={"workspace": "elsewhere"})
    (row,) = sessions.list(sandbox="other").sessions
    assert (row.username, row.sandbox, row.workspace) == (f"other.{made[1]}", "other", "default")
    assert row.subject == "local" and row.connections == row.bytes_in == row.bytes_out == 0
    assert abs(row.created_time.ToSeconds() - time.time()) < 30


def test_pages(sessions):
    made = [sessions.create().session_id for _ in range(7)]
    seen, token = [], ""
    while True:
        page = sessions.list(page_size=3, page_token=token)
        seen.append([session.session_id for session in page.sessions])
        token = page.next_page_token
        if not token:
            break
    assert seen == [made[:3], made[3:6], made[6:]]
    token = sessions.list(page_size=3).next_page_token
    with fails(CODE.INVALID_ARGUMENT, "page_token"):
        sessions.list(page_token=token, sandbox="box")
    sessions.revoke(session_id=made[2])
    assert sessions.ids(page_token=token) == made[3:]


def test_deletion_revokes(box, sessions):
    box.create("other")
    stays = sessions.create("other").session_id
    made = [sessions.create().session_id for _ in range(3)]
    sandbox_id = box.get("box").metadata.id
    box.stub.DeleteSandbox(pb.DeleteSandboxRequest(name="box"), timeout=30)
    assert sessions.ids() == [stays]
    ended = sessions.list(sandbox=sandbox_id, include_ended=True).sessions
    assert [session.session_id for session in ended] == made
    assert all(session.HasField("revoked_time") for session in ended)
    box.create("box")
    with fails(CODE.NOT_FOUND, "deleted"):
        sessions.revoke(session_id=made[0])


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_restart_keeps(box, sessions, end):
    kept, revoked, short = sessions.create(), sessions.create(), sessions.create(ttl_seconds=1)
    sessions.revoke(token=revoked.token)
    host_key = kept.host_key
    getattr(box, end)()
    time.sleep(max(0, short.expires_at_ms / 1000 - time.time()))
    box.start()
    again = ssh_sessions.Sessions(box)
    wait_until(lambda: again.ids() == [kept.session_id], 5, "the short one has expired")
    both = again.list(include_ended=True).sessions
    assert [s.session_id for s in both] == [kept.session_id, revoked.session_id, short.session_id]
    assert both[0].expiration_time.ToMilliseconds() == kept.expires_at_ms
    box.wait_phase("box", "READY")
    assert again.create().host_key == host_key
    assert again.revoke(token=kept.token).revoked


def test_secrets_stay_secret(box, sessions):
    made = sessions.create()
    secret = made.token.partition(".")[2]
    inner = "".join(made.private_key.split("\n")[1:-2])
    private = base64.b64decode(inner)[-96:-32]
    box.stop()
    for path in box.data_dir.iterdir():
        if path.is_file():
            content = path.read_bytes()
            for word in (secret.encode(), bytes.fromhex(secret), inner.encode()[-90:-40], private):
                assert word not in content, path
    assert secret not in box.log() and inner[-90:-40] not in box.log()
    mode = (box.data_dir / "ssh_host_ed25519_key").stat().st_mode
    assert mode & 0o777 == 0o600


def test_without_ssh(make_gateway):
    gateway = make_gateway("--ssh-workers=0")
    gateway.create("box")
    with fails(CODE.FAILED_PRECONDITION, "SSH is not served", "--ssh-workers"):
        ssh_sessions.Sessions(gateway).create()
    assert gateway.log().count("ssh_off") == 1
    assert gateway.get("box").host_key_fingerprint == ""


def test_host_key_others_may_read(make_gateway, tmp_path):
    flags, _ = ssh_sessions.endpoint_flags(tmp_path)
    key = ssh_sessions.make_key(tmp_path, "ed25519")
    key.chmod(0o644)
    gateway = make_gateway(*flags, f"--ssh-host-key={key}")
    gateway.create("box")
    with fails(CODE.FAILED_PRECONDITION, "ssh_failed"):
        ssh_sessions.Sessions(gateway).create()
    assert "chmod 600" in gateway.log()
    gateway.stop()
    key.chmod(0o600)
    gateway.start()
    gateway.wait_phase("box", "READY")
    made = ssh_sessions.Sessions(gateway).create()
    assert made.host_key_fingerprint == ssh_sessions.fingerprint(key)
