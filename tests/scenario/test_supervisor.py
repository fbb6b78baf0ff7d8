"""towline-supervisor by itself: where nothing is but it, without a gateway, and when it ends."""

import concurrent.futures
import contextlib
import hashlib
import io
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import tarfile
import time

import grpc
import pytest
from conftest import BIN, fails, processes_of, wait_until
from openshell._proto import openshell_pb2 as pb
from openshell._proto import openshell_pb2_grpc as pb_grpc
from test_exec import run
from test_transfer import Files, make_tar

PROGRAM = BIN / "towline-supervisor"
END_SECONDS = 5
IDLE_KIB = 6 << 10

EXIT_FAILURE, EXIT_USAGE, EXIT_REJECTED = 1, 2, 3

# Names that are UTF-8, that are Latin-1, and that are neither.
NAMES = [
    "plain",
    "Übergröße/naïve",
    "\N{TURTLE}/\N{WATER WAVE}",
    b"latin-1-\xe9\xff",
    b"broken-\xc3\x28",
    b"overlong-\xc0\xaf",
    b"surrogate-\xed\xa0\x80",
    "new\nline",
    "tab\tand\\backslash",
    " spaces ",
    "-rf",
    "*?[x]",
    b"control-\x01\x1b[31m\x7f",
    b"long-" + b"\xe9" * 200,
    b"deep-\xff/" + b"\xfe" * 100 + b"/" + b"\xfd" * 100,
]


def is_static():
    """A sanitizer's run-time is a shared object."""
    told = subprocess.run(["ldd", PROGRAM], capture_output=True, text=True, check=False)
    return "=>" not in told.stdout


needs_static = pytest.mark.skipif(
    not PROGRAM.exists() or not is_static(), reason="not a static build"
)


class Alone:
    """A gateway with a sandbox whose supervisor is ours to run, and that supervisor."""

    def __init__(self, gateway, programs, folder):
        self.gateway = gateway
        self.folder = folder
        made = gateway.create("box", wait=False)
        self.name, self.id = "box", made.metadata.id
        wait_until((programs / self.id).exists, 10, "there is a token")
        self.token = (programs / self.id).read_text()
        self.token_file = folder / "token"
        self.token_file.write_text(self.token + "\n")
        self.token_file.chmod(0o600)
        self.workdir = folder / "work"
        self.workdir.mkdir()
        self.log_path = folder / "supervisor.log"
        self.process = None

    def start(self, *wrapper, program=PROGRAM, token_file=None, workdir=None, ready=True, **fields):
        flags = {
            "gateway": self.gateway.endpoint,
            "sandbox-id": self.id,
            "token-file": token_file or self.token_file,
            "workdir": workdir or self.workdir,
            **fields,
        }
        command = [*wrapper, program]
        for name, value in flags.items():
            command += [f"--{name}", value]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        if ready:
            self.gateway.wait_phase(self.name, "READY")

    def log(self):
        return self.log_path.read_text(errors="replace")

    def end(self, sig=signal.SIGTERM):
        self.process.send_signal(sig)
        return self.process.wait(END_SECONDS)

    def destroy(self):
        for pid, command in processes_of(self.gateway.data_dir).items():
            if "--sandbox-id" in command:  # the silent one, which would wait for SIGKILL
                os.kill(pid, signal.SIGKILL)
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(END_SECONDS)
        for pid in processes_of(self.folder):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@pytest.fixture
def alone(make_gateway, stand_in, tmp_path):
    """The driver starts a program that leaves its token and never connects."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("leaky", "silent"):
        shutil.copy2(stand_in(name), programs / name)
    (programs / "real").symlink_to("silent")
    folder = tmp_path / "alone"
    folder.mkdir()
    one = Alone(make_gateway(f"--supervisor={programs / 'leaky'}"), programs, folder)
    yield one
    one.destroy()


def tree_of(folder):
    """What is in a folder: {path: content}, as bytes; a directory's content is None."""
    folder = os.fsencode(folder)
    found = {}
    for path, directories, files in os.walk(folder):
        for name in directories:
            found[os.path.relpath(os.path.join(path, name), folder)] = None
        for name in files:
            full = os.path.join(path, name)
            found[os.path.relpath(full, folder)] = pathlib.Path(os.fsdecode(full)).read_bytes()
    return found


def unpack(data, mode="r:"):
    """{path: content} of an archive, as tree_of() has it."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode=mode, errors="surrogateescape") as tar:
        for member in tar:
            name = os.path.normpath(os.fsencode(member.name))
            if name != b".":
                found[name] = tar.extractfile(member).read() if member.isfile() else None
    return found


# In a place where nothing is.


@needs_static
def test_is_static():
    about = subprocess.run(["file", "-b", PROGRAM], capture_output=True, text=True, check=True)
    assert "static" in about.stdout
    headers = subprocess.run(["readelf", "-ld", PROGRAM], capture_output=True, text=True, check=True)
    assert "INTERP" not in headers.stdout and "NEEDED" not in headers.stdout


@pytest.fixture
def empty(alone):
    """A supervisor whose root has itself, its token and its working directory in it."""
    root = alone.folder / "root"
    (root / "work").mkdir(parents=True)
    shutil.copy2(PROGRAM, root / "towline-supervisor")
    shutil.copy2(alone.token_file, root / "token")
    alone.workdir = root / "work"
    alone.start(
        *("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child"),
        f"--root={root}",
        program="/towline-supervisor",
        token_file="/token",
        workdir="/work",
    )
    return alone


@needs_static
def test_files_in_an_empty_root(empty):
    files = Files(empty)
    data = os.urandom((3 << 20) + 7)
    digest = hashlib.sha256(data).digest()
    answer = files.upload("up/file", data, mode=0o640)
    assert (empty.workdir / "up/file").read_bytes() == data
    header, content, trailer = files.download("up/file")
    assert (header.size_bytes, header.mode) == (len(data), 0o640)
    assert hashlib.sha256(content).digest() == digest
    assert trailer.digest == answer.digest and answer.digest.value

    tree = {f"d{i % 3}/f{i}": os.urandom(i * 1000) for i in range(50)}
    files.upload("tree", make_tar([(name, {}, body) for name, body in tree.items()]), is_archive=True)
    for compression, mode in (("NONE", "r:"), ("GZIP", "r:gz")):
        _, content, _ = files.download(
            "tree/.", as_archive=True, compression=f"COMPRESSION_{compression}"
        )
        got = {name.decode(): body for name, body in unpack(content, mode).items() if body is not None}
        assert got == tree


@needs_static
def test_commands_in_an_empty_root(empty):
    """There is nothing to run, which is the command's failure as a shell would tell it."""
    for command in ("sh", "/bin/true", "./missing"):
        code, out, err = run(empty, command)
        assert (code, out) == (127, b"")
        assert command.encode() in err and b"No such file" in err
    code, _, err = run(empty, "/work")
    assert code == 126 and b"/work" in err
    code, out, _ = run(empty, "/towline-supervisor", "--version")
    assert code == 0 and out.startswith(b"towline-supervisor ")
    with fails(grpc.StatusCode.NOT_FOUND, "nowhere"):
        run(empty, "true", workdir="/nowhere")


@needs_static
def test_names_in_an_empty_root(empty):
    """There is no locale either."""
    check_names(Files(empty), empty.workdir)


# What it costs.


@needs_static
def test_idle_memory(ready):
    """A sandbox that nobody uses costs next to nothing; also after it was used."""

    def resident():
        status = pathlib.Path(f"/proc/{ready.supervisor}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])

    assert resident() <= IDLE_KIB
    files = Files(ready)
    files.upload("big", os.urandom(16 << 20))
    files.download("big")
    assert run(ready, "true")[0] == 0
    wait_until(lambda: resident() <= IDLE_KIB, 10, f"it holds {IDLE_KIB} KiB at most")


# Names.


def check_names(files, workdir):
    tree = {os.fsencode(name): os.urandom(i * 10) for i, name in enumerate(NAMES)}
    entries = [(os.fsdecode(name), {}, body) for name, body in tree.items()]
    directories = {os.path.dirname(name) for name in tree} - {b""}
    directories |= {os.path.dirname(name) for name in directories} - {b""}
    want = tree | dict.fromkeys(directories)
    for form, where in ((tarfile.PAX_FORMAT, "pax"), (tarfile.GNU_FORMAT, "gnu")):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogateescape") as tar:
            for name, _, body in entries:
                info = tarfile.TarInfo(name)
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
        answer = files.upload(where, out.getvalue(), is_archive=True)
        assert answer.entries == len(tree)
        assert tree_of(workdir / where) == want
        _, content, _ = files.download(f"{where}/.", as_archive=True)
        assert unpack(content) == want
        # What went down goes up again as it is.
        files.upload(f"{where}-again", content, is_archive=True)
        assert tree_of(workdir / f"{where}-again") == want


def test_names_of_any_bytes(ready):
    check_names(Files(ready), ready.workdir)


# Without a gateway that takes it.


def test_rejected(alone):
    """It says why and does not try again."""
    alone.token_file.write_text(alone.token[:-1] + ("0" if alone.token[-1] != "0" else "1"))
    alone.start(ready=False)
    assert alone.process.wait(10) == EXIT_REJECTED
    assert "rejected" in alone.log() and "token" in alone.log()
    assert alone.token not in alone.log()


def test_superseded(alone):
    """Of two the newer one serves, and the older one ends."""
    alone.start()
    older = alone.process
    wait_until(lambda: "connected" in alone.log(), 10, "it is connected")
    alone.start(ready=False)
    assert older.wait(10) == EXIT_REJECTED
    assert "supersede" in alone.log()
    assert run(alone, "echo", "new")[1] == b"new\n"


def test_a_gateway_that_comes_back(alone):
    """Attempts are ever further apart, and not all of all supervisors at the same moment."""
    alone.start()
    alone.gateway.kill()

    def waits():
        return [int(ms) for ms in re.findall(r"retry_ms=(\d+)", alone.log())]

    wait_until(lambda: len(waits()) >= 4, 20, "it has tried four times")
    bases = [1000, 2000, 4000, 8000]
    for ms, base in zip(waits(), bases):
        assert base <= ms <= base * 5 // 4
    assert waits()[:4] != bases
    alone.gateway.start()
    alone.gateway.wait_phase(alone.name, "READY")
    assert run(alone, "echo", "again")[1] == b"again\n"
    assert alone.process.poll() is None
    assert alone.end() == 0


def test_ends_without_a_gateway(alone):
    """While it waits for the next attempt, and while one is under way."""
    alone.start(ready=False, gateway="http://127.0.0.1:9")
    wait_until(lambda: "disconnected" in alone.log(), 10, "it has tried once")
    assert alone.process.poll() is None
    assert alone.end() == 0
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        alone.start(ready=False, gateway=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with deaf.accept()[0]:
            assert alone.process.poll() is None
            assert alone.end() == 0


# Its end.

LEFT_BEHIND = """
trap '' TERM HUP INT
sleep 4711 &
setsid sleep 4712 &
(setsid sh -c 'trap "" TERM; env -i sleep 4713 & exec env -i sleep 4714' &)
echo up
wait
"""


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_takes_everything_along(alone, sig):
    alone.start()
    request = pb.ExecSandboxRequest(sandbox=alone.name, command=["sh", "-c", LEFT_BEHIND])
    call = alone.gateway.stub.ExecSandbox(request, timeout=30)
    assert next(call).stdout.data == b"up\n"

    def sleepers():
        return sum("sleep 471" in command for command in processes_of(alone.workdir).values())

    wait_until(lambda: sleepers() >= 4, 10, "all of them run")
    began = time.monotonic()
    assert alone.end(sig) == 0
    assert time.monotonic() - began < 2
    assert not processes_of(alone.workdir)
    with fails(grpc.StatusCode.UNAVAILABLE):
        list(call)


def test_a_profile_does_not_hold_it_up(alone):
    """A login shell that never answers, or answers and does not end, is left behind."""
    for profile in ("sleep 4711", "exec >&-; sleep 4711"):
        home = alone.folder / "home"
        home.mkdir(exist_ok=True)
        (home / ".profile").write_text(profile)
        alone.start("env", f"HOME={home}")
        assert run(alone, "echo", "here")[1] == b"here\n"
        assert not any("4711" in command for command in processes_of(alone.workdir).values())
        assert alone.end() == 0


EXECS_MAX = 1024  # docs/limits.md
EXECS_BEGUN = 24  # at a time: fewer than may wait for their supervisor
EXECS_FILES = 8192


class Stopped:
    """Commands that have said so and stopped, over connections that have a place for each."""

    def __init__(self, alone):
        self.name = alone.name
        channels = [alone.gateway.channel() for _ in range(2)]
        self.stubs = [pb_grpc.OpenShellStub(channel) for channel in channels]
        self.calls = []

    def begin(self, number):
        command = ["sh", "-c", "echo up; kill -STOP $$"]
        request = pb.ExecSandboxRequest(sandbox=self.name, command=command)
        call = self.stubs[number % 2].ExecSandbox(request, timeout=120)
        assert next(call).stdout.data == b"up\n"
        self.calls.append(call)


@pytest.mark.skipif(
    resource.getrlimit(resource.RLIMIT_NOFILE)[1] < EXECS_FILES, reason="too few descriptors"
)
def test_as_many_commands_as_may_run(alone):
    """One more is refused until another has ended; at its end the supervisor takes all along."""
    alone.start("prlimit", f"--nofile={EXECS_FILES}")
    stopped = Stopped(alone)
    with concurrent.futures.ThreadPoolExecutor(EXECS_BEGUN) as pool:
        list(pool.map(stopped.begin, range(EXECS_MAX)))
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{EXECS_MAX} commands run in this sandbox"):
        run(alone, "true")
    stopped.calls.pop().cancel()

    def has_room():
        with contextlib.suppress(grpc.RpcError):
            return run(alone, "true")[0] == 0

    wait_until(has_room, 10, "the command has ended")
    assert alone.end() == 0
    assert not processes_of(alone.workdir)


# Its command line.


def tell(*flags, **options):
    return subprocess.run(
        [PROGRAM, *flags], capture_output=True, text=True, timeout=10, check=False, **options
    )


NEEDED = {"--gateway": "http://127.0.0.1:9", "--sandbox-id": "x", "--token-file": "/dev/null"}


def test_help_and_version():
    told = tell("--help")
    assert told.returncode == 0 and not told.stderr
    for word in (*NEEDED, "--workdir", "--log-level", "exit status", "3   the gateway"):
        assert word in told.stdout
    assert tell("-h").stdout == told.stdout
    assert tell("--version").stdout.startswith("towline-supervisor ")


@pytest.mark.parametrize(
    "flags, words",
    [
        (["--no-such-flag"], ["no-such-flag"]),
        (["word"], ["word", "--help"]),
        (["--gateway"], ["--gateway"]),
        (["--log-level", "loud"], ["loud"]),
        (["--log-format", "xml"], ["xml"]),
        (["--gateway", "gopher://x"], ["gopher"]),
    ],
)
def test_what_is_not_understood(flags, words):
    rest = [word for name, value in NEEDED.items() if name not in flags for word in (name, value)]
    told = tell(*rest, *flags)
    assert told.returncode == EXIT_USAGE and not told.stdout
    for word in words:
        assert word in told.stderr


@pytest.mark.parametrize("missing", NEEDED)
def test_what_is_missing(missing):
    told = tell(*(word for pair in NEEDED.items() if pair[0] != missing for word in pair))
    assert told.returncode == EXIT_USAGE
    assert missing in told.stderr


def test_token_files(tmp_path):
    long = tmp_path / "long"
    long.write_text("x" * 5000)
    empty = tmp_path / "empty"
    empty.write_text("\n")
    for path, word in (
        (tmp_path / "none", "No such file"),
        (tmp_path, "directory"),
        (empty, "empty"),
        (long, "more than a token"),
    ):
        flags = {**NEEDED, "--token-file": path}
        told = tell(*(word for pair in flags.items() for word in pair))
        assert told.returncode == EXIT_FAILURE
        assert word in told.stderr and str(path) in told.stderr


def test_working_directories(tmp_path):
    file = tmp_path / "file"
    file.touch()
    token = tmp_path / "token"
    token.write_text("t")
    for path in (tmp_path / "none", file):
        flags = {**NEEDED, "--token-file": token, "--workdir": path}
        told = tell(*(word for pair in flags.items() for word in pair))
        assert told.returncode == EXIT_FAILURE
        assert str(path) in told.stderr
