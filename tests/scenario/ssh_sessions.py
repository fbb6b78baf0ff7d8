"""SSH sessions by the API: what makes, lists and revokes them, and an endpoint's token."""

import contextlib
import os
import pathlib
import subprocess

import towline_api

HOST, PORT = "ssh.example", 2200


def endpoint_flags(folder, *names):
    """Flags of a gateway whose endpoints somebody else starts, and the endpoints' tokens."""
    tokens = {name: f"{name}.{os.urandom(32).hex()}" for name in names or ("sshd-test",)}
    file = pathlib.Path(folder) / "endpoints"
    file.touch(0o600)
    file.write_text("# by hand\n" + "".join(f"{token}\n" for token in tokens.values()))
    flags = ["--ssh-workers=0", f"--ssh-endpoints={file}", f"--ssh-host={HOST}"]
    return [*flags, f"--ssh-port={PORT}"], tokens


class Sessions:
    """The calls, on a channel of a gateway."""

    def __init__(self, gateway):
        self.api = towline_api.load()
        channel = gateway.channel()
        self._create = self.api.method(channel, "openshell.v1.OpenShell/CreateSshSession")
        self._revoke = self.api.method(channel, "openshell.v1.OpenShell/RevokeSshSession")
        self._list = self.api.method(channel, "towline.v1.SshSessions/ListSshSessions")

    def create(self, sandbox="box", **fields):
        request = self.api["openshell.v1.CreateSshSessionRequest"](sandbox=sandbox, **fields)
        return self._create(request, timeout=10)

    def revoke(self, **fields):
        request = self.api["openshell.v1.RevokeSshSessionRequest"](**fields)
        return self._revoke(request, timeout=10)

    def list(self, **fields):
        request = self.api["towline.v1.ListSshSessionsRequest"](**fields)
        return self._list(request, timeout=10)

    def ids(self, **fields):
        return [session.session_id for session in self.list(**fields).sessions]


def make_key(folder, kind, *flags):
    """The path of a key that ssh-keygen makes."""
    path = pathlib.Path(folder) / f"key-{kind}-{'-'.join(flags).strip('-')}"
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    command = ["ssh-keygen", "-q", "-t", kind, *flags, "-N", "", "-C", "a key", "-f", path]
    subprocess.run(command, check=True, capture_output=True)
    return path


def fingerprint(path):
    line = subprocess.run(["ssh-keygen", "-l", "-f", path], check=True, capture_output=True)
    return line.stdout.decode().split()[1]
