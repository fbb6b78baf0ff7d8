"""Whom towline-sshd lets in: the holder of a session's key, for as long as the session lives."""

import asyncio
import io
import pathlib
import subprocess
import time

import asyncssh
import paramiko
import pytest
import ssh_endpoint
from conftest import wait_until
from ssh_endpoint import endpoint, make_endpoint  # noqa: F401


def is_open(endpoint, session):
    return session.id in endpoint.gateway.open.values()


def opens(endpoint, session, *options):
    """A connection of OpenSSH's client, when it is open."""
    process = endpoint.master(session, *options)
    wait_until(lambda: is_open(endpoint, session), 10, "it is logged in")
    return process


def transport(endpoint):
    """paramiko, up to where one logs in."""
    made = paramiko.Transport((endpoint.host, endpoint.port))
    made.start_client(timeout=10)
    return made


def paramiko_key(key):
    return paramiko.Ed25519Key.from_private_key(io.StringIO(ssh_endpoint.private_text(key).decode()))


def test_the_key_of_a_session_opens_it(endpoint):
    session = endpoint.gateway.session()
    process = opens(endpoint, session)
    process.terminate()
    process.wait(10)
    wait_until(lambda: not endpoint.gateway.open, 5, "the gateway hears that it is closed")
    asked = [(q.username, q.signed) for q in endpoint.gateway.asked]
    assert asked == [(session.username, False), (session.username, True)]
    assert all(q.peer.startswith("127.0.0.1:") for q in endpoint.gateway.asked)


def test_a_key_that_was_only_offered_opens_nothing(endpoint):
    """Asked with key A, signed with key B: what counts is the key that signed."""
    session, other = endpoint.gateway.session(), endpoint.gateway.session()

    class Liar(paramiko.Ed25519Key):
        """Shows one key and signs with another."""

        def sign_ssh_data(self, data, algorithm=None):
            return paramiko_key(other.key).sign_ssh_data(data, algorithm)

    text = io.StringIO(ssh_endpoint.private_text(session.key).decode())
    peer = transport(endpoint)
    with pytest.raises(paramiko.BadAuthenticationType):
        peer.auth_none(session.username)
    with pytest.raises(paramiko.AuthenticationException):
        peer.auth_publickey(session.username, Liar.from_private_key(text))
    assert not peer.is_authenticated()
    # The endpoint did not keep the client waiting, and takes the right key after that.
    peer.auth_publickey(session.username, paramiko_key(session.key))
    assert peer.is_authenticated()
    peer.close()
    assert "auth_refused" in endpoint.log()


def test_another_sessions_key_is_refused(endpoint):
    session, other = endpoint.gateway.session(), endpoint.gateway.session()
    other.key_file, session.key_file = session.key_file, other.key_file
    result = endpoint.ssh(session, "true")
    assert result.returncode == 255 and "Permission denied" in result.stderr
    assert 'the key is not the session\'s' in endpoint.log()


@pytest.mark.parametrize(
    "name",
    ["root", "box", "box.", ".0123456789abcdef", "box.0123456789abcdeF", "box.0123456789abcde",
     "box.0123456789abcdef0", "Box.0123456789abcdef", "box.0123456789abcdef\n", "a" * 20 + ".0123456789abcdef",
     "box.0123456789abcdef.x", "", "x" * 5000],
)  # fmt: skip
def test_a_name_of_no_session_is_refused_unasked(endpoint, name):
    session = endpoint.gateway.session()
    peer = transport(endpoint)
    with pytest.raises(paramiko.AuthenticationException):
        peer.auth_publickey(name, paramiko_key(session.key))
    peer.close()
    assert not endpoint.gateway.asked


def test_a_certificate_is_refused(endpoint, tmp_path):
    session = endpoint.gateway.session()
    authority = tmp_path / "authority"
    run = lambda *words: subprocess.run(words, check=True, capture_output=True)  # noqa: E731
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(authority))
    public = pathlib.Path(f"{session.key_file}.pub")
    public.write_text(run("ssh-keygen", "-y", "-f", str(session.key_file)).stdout.decode())
    run("ssh-keygen", "-q", "-s", str(authority), "-I", "x", "-n", session.username, str(public))
    certificate = pathlib.Path(f"{session.key_file}-cert.pub")
    key = paramiko_key(session.key)
    key.load_certificate(str(certificate))
    peer = transport(endpoint)
    with pytest.raises((paramiko.AuthenticationException, paramiko.SSHException)):
        peer.auth_publickey(session.username, key)
    assert not peer.is_authenticated()
    peer.close()
    assert not endpoint.gateway.open
    # OpenSSH offers the certificate only where it is taken, and then the key itself.
    process = opens(endpoint, session, "-o", f"CertificateFile={certificate}")
    process.terminate()
    process.wait(10)


@pytest.mark.parametrize("method", ["none", "password", "interactive"])
def test_other_methods_are_refused(endpoint, method):
    session = endpoint.gateway.session()
    peer = transport(endpoint)
    ask = {
        "none": lambda: peer.auth_none(session.username),
        "password": lambda: peer.auth_password(session.username, "secret", fallback=False),
        "interactive": lambda: peer.auth_interactive(session.username, lambda *_: ["x"]),
    }[method]
    with pytest.raises(paramiko.BadAuthenticationType) as refused:
        ask()
    assert refused.value.allowed_types == ["publickey"]
    peer.close()
    assert not endpoint.gateway.asked and "secret" not in endpoint.log()


def test_so_many_keys_and_no_more(make_endpoint):
    endpoint = make_endpoint("--auth-tries=3")
    session = endpoint.gateway.session()
    peer = transport(endpoint)
    for _ in range(2):
        with pytest.raises(paramiko.AuthenticationException):
            peer.auth_publickey(session.username, paramiko_key(ssh_endpoint.new_key()))
    with pytest.raises((paramiko.SSHException, EOFError)):
        peer.auth_publickey(session.username, paramiko_key(ssh_endpoint.new_key()))
    wait_until(lambda: not peer.is_active(), 5, "it has ended the connection")
    peer.close()
    assert endpoint.counters()["auth_failed"] == 3


def test_an_ended_session_is_refused(endpoint):
    session = endpoint.gateway.session()
    session.ended = "revoked"
    result = endpoint.ssh(session, "true")
    assert result.returncode == 255 and "Permission denied" in result.stderr
    assert "the session has ended: revoked" in endpoint.log()


def test_revocation_ends_what_is_open(endpoint):
    session, other = endpoint.gateway.session(), endpoint.gateway.session()
    process, bystander = opens(endpoint, session), opens(endpoint, other)
    began = time.monotonic()
    endpoint.gateway.end(session, "the session was revoked by its owner")
    said = process.communicate(timeout=5)[1]
    assert time.monotonic() - began < 1
    assert "the session was revoked by its owner" in said, said
    assert process.returncode == 255
    assert bystander.poll() is None
    bystander.terminate()
    bystander.wait(10)


@pytest.mark.parametrize("clock", ["seconds", "wall_seconds"])
def test_expiry_ends_what_is_open(endpoint, clock):
    session = endpoint.gateway.session(**{clock: 2})
    began = time.monotonic()
    process = opens(endpoint, session)
    said = process.communicate(timeout=10)[1]
    assert 0.9 < time.monotonic() - began < 3.2
    assert "the session has expired" in said, said


def test_a_session_that_ends_while_it_logs_in(endpoint):
    """The gateway says yes, and no a moment later: it is told to whoever is open then."""
    session = endpoint.gateway.session()
    endpoint.gateway.delay = 0.3
    process = endpoint.master(session)
    wait_until(lambda: any(q.signed for q in endpoint.gateway.asked), 10, "it has signed")
    endpoint.gateway.sessions[session.id] = session
    time.sleep(0.1)
    endpoint.gateway.end(session, "revoked meanwhile")
    said = process.communicate(timeout=10)[1]
    assert process.returncode == 255
    assert "revoked meanwhile" in said or "Permission denied" in said
    assert not endpoint.gateway.open or wait_until(lambda: not endpoint.gateway.open, 5, "closed")


def test_nothing_is_read_while_the_gateway_is_asked(endpoint):
    """A second request that comes early is answered after the first."""
    session = endpoint.gateway.session()
    endpoint.gateway.delay = 0.5
    process = opens(endpoint, session)
    process.terminate()
    process.wait(10)
    assert len(endpoint.gateway.asked) == 2


def test_without_a_gateway_nobody_logs_in(endpoint):
    session = endpoint.gateway.session()
    endpoint.gateway.stop()
    wait_until(lambda: endpoint.lines("gateway_lost"), 10, "it has seen that the gateway is away")
    result = endpoint.ssh(session, "true")
    assert result.returncode == 255 and "the gateway cannot be reached" in result.stderr
    (endpoint.folder / "gateway.sock").unlink(missing_ok=True)
    endpoint.gateway.start()
    wait_until(lambda: len(endpoint.lines("gateway_up")) == 2, 20, "it is back")
    process = opens(endpoint, session)
    process.terminate()
    process.wait(10)


def test_connections_outlive_the_gateway_and_are_told_of(endpoint):
    """Those of a session that ended meanwhile end when the gateway is back."""
    session, other = endpoint.gateway.session(), endpoint.gateway.session()
    kept, ended = opens(endpoint, session), opens(endpoint, other)
    endpoint.gateway.stop()
    other.ended = "revoked while the endpoint was away"
    (endpoint.folder / "gateway.sock").unlink(missing_ok=True)
    endpoint.gateway.start()
    said = ended.communicate(timeout=20)[1]
    assert "revoked while the endpoint was away" in said
    assert kept.poll() is None
    wait_until(lambda: list(endpoint.gateway.open.values()) == [session.id], 5, "one is announced")
    kept.terminate()
    kept.wait(10)


async def _asyncssh_logs_in(endpoint, session):
    key = asyncssh.import_private_key(ssh_endpoint.private_text(session.key))
    options = dict(username=session.username, client_keys=[key], known_hosts=str(endpoint.known_hosts))
    async with asyncssh.connect(endpoint.host, endpoint.port, **options) as peer:
        return peer.get_extra_info("send_cipher")


def test_asyncssh_logs_in(endpoint):
    session = endpoint.gateway.session()
    assert asyncio.run(_asyncssh_logs_in(endpoint, session)) in (
        "chacha20-poly1305@openssh.com",
        "aes256-gcm@openssh.com",
    )


def test_no_secret_is_in_the_log(endpoint):
    session = endpoint.gateway.session()
    process = opens(endpoint, session)
    process.terminate()
    process.wait(10)
    log = endpoint.log()
    assert ssh_endpoint.SECRET not in log and ssh_endpoint.SECRET.split(".")[1] not in log
    assert "PRIVATE KEY" not in log
