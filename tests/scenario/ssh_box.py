"""A sandbox reached over SSH: a gateway, and a towline-sshd that a test has to itself."""

import contextlib
import shlex
import subprocess

import pytest
import ssh_sessions
from cryptography.hazmat.primitives import serialization
from raw_ssh import RawSsh
from ssh_endpoint import ENDPOINT, Endpoint


class NoStandIn:
    """The gateway is a real one."""

    def __init__(self, address):
        self.address = address

    def start(self):
        pass

    def stop(self):
        pass


class Key:
    """A session of the gateway's, as ssh_endpoint has them."""

    def __init__(self, made, folder):
        self.id, self.username = made.session_id, made.username
        self.key = serialization.load_ssh_private_key(made.private_key.encode(), None)
        self.key_file = folder / made.session_id
        self.key_file.touch(0o600)
        self.key_file.write_text(made.private_key)


class Box(Endpoint):
    def __init__(self, folder, real, token, *flags):
        super().__init__(folder, *flags, gateway=NoStandIn(real.endpoint))
        (folder / "token").write_text(token)
        self.real = real
        self.sessions = ssh_sessions.Sessions(real)
        self.session = self.new_session()
        self.work = real.sandbox_dir(real.get("box").metadata.id) / "work"

    def new_session(self, **fields):
        return Key(self.sessions.create(**fields), self.folder)

    def words(self, *words, options=()):
        """A command line of OpenSSH's client."""
        return self.command(self.session, *words, options=options)

    def run(self, *words, options=(), stdin=b"", timeout=30):
        """(exit code, stdout, stderr)."""
        done = subprocess.run(
            self.words(*words, options=options), input=stdin, capture_output=True, timeout=timeout
        )
        return done.returncode, done.stdout, done.stderr

    def tool(self, program, *words, options=(), **how):
        """scp or sftp, in whose words {} is the sandbox."""
        where = f"{self.session.username}@{self.host}"
        line = self.words(options=options)
        at = line.index("-p")
        command = [program, *line[1:at], "-P", str(self.port)]
        command += [word.replace("{}", where) for word in words]
        return subprocess.run(command, capture_output=True, timeout=60, **how)

    def shell_option(self):
        """What `rsync -e` takes."""
        return shlex.join(self.words()[:-1])

    @contextlib.contextmanager
    def forwards(self, *options):
        """A connection with forwards and no command; ready when it says so."""
        control = self.folder / "control"
        line = self.words(options=("-N", "-M", "-S", str(control), "-v", "-o", "ExitOnForwardFailure=yes", *options))
        with open(self.folder / "forwards.log", "wb") as log:
            process = subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=log)
        try:
            check = ["ssh", "-F", "none", "-S", str(control), "-O", "check", "x"]
            for _ in range(100):
                if subprocess.run(check, capture_output=True).returncode == 0:
                    break
                assert process.poll() is None, (self.folder / "forwards.log").read_text()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            yield control
        finally:
            subprocess.run(["ssh", "-F", "none", "-S", str(control), "-O", "exit", "x"], capture_output=True)
            process.wait(10)

    def raw(self, **how):
        """A client of packets, logged in."""
        return RawSsh(self.connect()).log_in(self.session, **how)


@pytest.fixture
def box(make_gateway, tmp_path):
    flags, tokens = ssh_sessions.endpoint_flags(tmp_path, ENDPOINT)
    gateway = make_gateway(*flags)
    gateway.create("box")
    folder = tmp_path / "sshd"
    folder.mkdir()
    box = Box(folder, gateway, tokens[ENDPOINT]).start()
    try:
        yield box
        box.stop()
    finally:
        box.destroy()
