"""The towline program, as tests run it: on pipes, or on a terminal.

    cli = Cli(folder, endpoint=...)          # XDG directories of its own in the folder
    cli("sandbox", "list").out               # has to end with 0
    cli("sandbox", "get", "x", code=1).err   # with 1
    with cli.terminal("sandbox", "connect", "box", size=(30, 100)) as screen:
        screen.type("tty\\r")
        screen.expect(b"/dev/pts/")
        assert screen.end() == 0
"""

import contextlib
import fcntl
import json
import os
import pathlib
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from conftest import BIN, GONE_SECONDS, Ready, processes_of, wait_until

PROGRAM = str(BIN / "towline")
SECONDS = 60  # for any command to end; sanitizers are slow


class Done:
    """What became of a command."""

    def __init__(self, code, out, err):
        self.code = code
        self.raw = out
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")

    @property
    def json(self):
        return json.loads(self.out)


class Terminal:
    """A towline program on a terminal, and the person in front of it."""

    def __init__(self, command, env, size, cwd):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))
            os.chdir(cwd)
            os.execve(command[0], command, env)

    def resize(self, rows, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text if isinstance(text, bytes) else text.encode())

    def _read(self, seconds):
        """False at the end."""
        if select.select([self.fd], [], [], seconds)[0]:
            try:
                more = os.read(self.fd, 65536)
            except OSError:  # EIO: nobody has the other side
                return False
            self.seen += more
            return more != b""
        return True

    def expect(self, pattern, seconds=SECONDS):
        """Until it is on the screen; what stood before its end is forgotten."""
        deadline = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen, re.S)):
            open_still = self._read(0.1)
            if not (found := re.search(pattern, self.seen, re.S)):
                assert open_still and time.monotonic() < deadline, f"no {pattern}: {self.seen}"
        self.seen = self.seen[found.end() :]
        return found

    def end(self, seconds=SECONDS):
        """Waits for its end; the exit code, or minus the signal."""
        deadline = time.monotonic() + seconds
        while self._read(0.1):
            assert time.monotonic() < deadline, f"it does not end: {self.seen}"
        _, status = os.waitpid(self.pid, 0)
        self.pid = None
        assert b"Sanitizer" not in self.seen and b"runtime error" not in self.seen, self.seen
        return os.waitstatus_to_exitcode(status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.pid is not None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class Cli:
    def __init__(self, folder, **variables):
        self.folder = pathlib.Path(folder)
        self.here = self.folder / "here"
        self.here.mkdir(parents=True, exist_ok=True)
        self.config = self.folder / "config" / "openshell"
        self.state = self.folder / "state" / "openshell"
        plain = {key: value for key, value in os.environ.items() if not key.startswith(("OPENSHELL_", "XDG_"))}
        self.env = plain | {
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "TERM": "xterm",
            **variables,
        }

    def with_env(self, **variables):
        """Another of the same folder; a variable that is None is not set."""
        other = Cli(self.folder)
        other.env = {key: value for key, value in (self.env | variables).items() if value is not None}
        return other

    def popen(self, *words, **options):
        """Started, with pipes for all three unless told otherwise."""
        options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen([PROGRAM, *map(os.fspath, words)], env=self.env, cwd=self.here, **options)

    def __call__(self, *words, code=0, input=None, **options):
        if input is None:
            options.setdefault("stdin", subprocess.DEVNULL)
        process = self.popen(*words, **options)
        with contextlib.ExitStack() as stack:
            stack.callback(process.wait)
            stack.callback(process.kill)
            out, err = process.communicate(input, timeout=SECONDS)
        done = Done(process.returncode, out or b"", err or b"")
        assert "Sanitizer" not in done.err and "runtime error" not in done.err, done.err
        assert code is None or done.code == code, f"{words}: {done.code}\n{done.out}\n{done.err}"
        return done

    def terminal(self, *words, size=(24, 80), program=(PROGRAM,)):
        return Terminal([*program, *map(os.fspath, words)], self.env, size, self.here)

    def running(self):
        return processes_of(self.folder)

    def clean_up(self):
        """No process of ours is left; nor a part of a file."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.running(), GONE_SECONDS, "they are gone")
        left = self.running()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert not left, f"processes are left: {left}"
        parts = [str(path) for path in self.here.rglob(".*towline*")]
        assert not parts, f"parts of files are left: {parts}"


@pytest.fixture
def home(tmp_path):
    """A person who has no gateway yet."""
    cli = Cli(tmp_path)
    yield cli
    for data in cli.state.glob("gateways/*"):
        if cli("-g", data.name, "sandbox", "list", code=None).code == 0:
            for sandbox in cli("-g", data.name, "-o", "json", "sandbox", "list", "-A").json:
                cli("-g", data.name, "--workspace", sandbox["workspace"], "sandbox", "delete", sandbox["name"])
        cli("gateway", "stop", data.name, code=None)
    cli.clean_up()


@contextlib.contextmanager
def clients_of(kind, folder):
    """What makes a program whose gateway is a ${kind}, served by the test: cli.liar, until the end."""
    with contextlib.ExitStack() as stack:

        def make(*args, **options):
            liar = kind(*args, **options)
            stack.callback(lambda: liar.server.stop(0).wait())
            cli = Cli(folder, OPENSHELL_GATEWAY_ENDPOINT=f"http://127.0.0.1:{liar.port}")
            cli.liar = liar
            return cli

        yield make


@pytest.fixture
def box(ready, tmp_path):
    """A person with a gateway, known by its address, and a sandbox "box" that is READY."""
    cli = Cli(tmp_path, OPENSHELL_GATEWAY_ENDPOINT=ready.gateway.endpoint)
    cli.gateway = ready.gateway
    cli.workdir = ready.workdir
    yield cli
    cli.clean_up()


@pytest.fixture
def ssh_box(request, make_gateway, tmp_path):
    """The same with SSH."""
    gateway = make_gateway("--ssh-workers=2", "--ssh-listen=127.0.0.1:0")
    ready = Ready(gateway, gateway.create("box"))
    cli = Cli(tmp_path, OPENSHELL_GATEWAY_ENDPOINT=gateway.endpoint)
    cli.gateway, cli.workdir = gateway, ready.workdir
    yield cli
    cli.clean_up()
    if not getattr(request.node, "failed", False):
        ready.check_settled()
