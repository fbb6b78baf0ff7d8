"""What towline-sshd offers, seen by ssh-audit and by a client that asks for more."""

import json
import pathlib
import subprocess
import sys

import raw_ssh
from raw_ssh import RawSsh, take_string
from ssh_endpoint import endpoint, make_endpoint, private_text, public_blob  # noqa: F401

AUDIT = pathlib.Path(sys.executable).with_name("ssh-audit")
AUDIT_FAILED = 3


def test_ssh_audit_finds_no_failure(endpoint):
    command = [str(AUDIT), "-j", "--skip-rate-test", "-p", str(endpoint.port), endpoint.host]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode != AUDIT_FAILED, result.stdout
    found = json.loads(result.stdout)
    for kind in ("kex", "key", "enc", "mac"):
        for row in found[kind]:
            assert not row.get("notes", {}).get("fail"), row
    assert found["compression"] == ["none"]


def test_what_is_offered(endpoint):
    peer = RawSsh(endpoint.connect())
    peer.hello()
    peer.exchange_kexinit()
    at, lists = 17, []
    for _ in range(10):
        names, at = take_string(peer.theirs, at)
        lists.append(names.decode().split(","))
    peer.close()
    assert lists[0] == [
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "kex-strict-s-v00@openssh.com",
    ]
    assert lists[1] == ["ssh-ed25519"]
    aead = ["chacha20-poly1305@openssh.com", "aes256-gcm@openssh.com", "aes128-gcm@openssh.com"]
    assert lists[2] == lists[3] == aead
    assert lists[6] == lists[7] == ["none"]


def test_only_the_login_is_served_before_it(endpoint):
    peer = RawSsh(endpoint.connect())
    peer.hello()
    peer.key_exchange()
    peer.send(bytes([raw_ssh.SERVICE_REQUEST]) + raw_ssh.string("ssh-connection"))
    assert raw_ssh.SERVICE_ACCEPT not in peer.read_all()
    peer.close()


def test_the_host_key_is_the_one_given(endpoint):
    session = endpoint.gateway.session()
    result = endpoint.ssh(session, "true", options=["-v"])
    assert "Host key verification failed" not in result.stderr
    endpoint.known_hosts.write_text("")
    result = endpoint.ssh(session, "true")
    assert "Host key verification failed" in result.stderr
