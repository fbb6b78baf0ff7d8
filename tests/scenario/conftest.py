"""Real gateways for scenario tests, and a check that nothing of them is left.

    def test_something(gateway):          # a gateway of its own, on an empty data directory
        gateway.stub.Health(...)          # OpenShell's raw stubs
        gateway.client.create(...)        # OpenShell's SandboxClient
        gateway.kill(); gateway.start()   # kill -9, and again on the same data

    def test_more(ready):                 # a gateway with one sandbox that is READY
        ready.gateway, ready.name, ready.id

    def test_two(make_gateway): ...       # several, or with other flags

Programs are taken from $TOWLINE_BIN (default: build/bin of this repository).
"""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

import grpc
import pytest
from openshell import SandboxClient
from openshell._proto import openshell_pb2 as pb
from openshell._proto import openshell_pb2_grpc as pb_grpc

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("TOWLINE_BIN", REPOSITORY / "build" / "bin"))

START_SECONDS = 10  # for a gateway to serve; sanitizers are slow
STOP_SECONDS = 10  # for it to end: it drains for at most 5
READY_SECONDS = 30  # for a sandbox to be READY
GONE_SECONDS = 15  # for processes to be gone when nothing holds them any more
SETTLE_SECONDS = 10  # for descriptors to be closed when their calls are over

WORKSPACE = "default"


def wait_until(question, seconds, what):
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + seconds
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds} s still not: {what}")
        time.sleep(0.02)


def processes_of(directory):
    """The processes that have the directory in their command line, environment or cwd."""
    needle = os.fsencode(str(directory))
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes()
            about = command + (entry / "environ").read_bytes()
            about += os.fsencode(os.readlink(entry / "cwd"))
            if needle in about and command:
                found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def connections_to(port):
    """The sockets of this machine that are connected to a port, as /proc/PID/fd names them."""
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return {f"socket:[{row[9]}]" for row in rows if int(row[2].split(":")[1], 16) == port}


def connections_of_workers():
    """The sockets by which gateways' SSH endpoints reach them: these come and go as they like."""
    lines = pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]
    rows = [line.split() for line in lines if line.endswith("/sshd.sock")]
    return {f"socket:[{row[6]}]" for row in rows}


def descriptors_of(pid, besides=0):
    """What a process holds open, but for its connections to a port, and SSH endpoints'."""
    known = connections_to(besides) | connections_of_workers()
    found = []
    with contextlib.suppress(FileNotFoundError):  # a process that has ended holds nothing
        for entry in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
    return sorted(name for name in found if name not in known)


def settles(pid, before, besides=0):
    """Checks that a process comes back to holding no more than it did."""

    def is_back():
        return len(descriptors_of(pid, besides)) <= len(before)

    with contextlib.suppress(AssertionError):
        wait_until(is_back, SETTLE_SECONDS, "they are closed")
    now = descriptors_of(pid, besides)
    assert len(now) <= len(before), f"{len(now) - len(before)} more than {before}: {now}"


class Gateway:
    """A towline-gateway process and what talks to it."""

    def __init__(self, data_dir, *flags, listen=("127.0.0.1:0",), loops=2):
        self.data_dir = pathlib.Path(data_dir)
        self.ready_file = self.data_dir.with_name(self.data_dir.name + ".ready")
        self.log_path = self.data_dir.with_name(self.data_dir.name + ".log")
        self.listen = listen
        self.flags = [
            f"--data-dir={self.data_dir}",
            "--driver=local",
            f"--supervisor={BIN / 'towline-supervisor'}",
            f"--ready-file={self.ready_file}",
            f"--loops={loops}",
            "--ssh-workers=0",
            "--log-level=debug",
            *flags,
        ]
        self.process = None
        self._channels = []

    def command(self, *more):
        """The command line; of flags of one name the last one counts."""
        flags = {flag.split("=")[0]: flag for flag in [*self.flags, *more]}
        addresses = [f"--listen={address}" for address in self.listen]
        return [str(BIN / "towline-gateway"), *addresses, *flags.values()]

    def start(self):
        began = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log)
        wait_until(self._serves, START_SECONDS, "the gateway serves")
        self.start_seconds = time.monotonic() - began
        self.descriptors = descriptors_of(self.process.pid)
        self.endpoint = json.loads(self.ready_file.read_text())["endpoint"]
        self.target = self.endpoint.removeprefix("http://")
        return self

    def _serves(self):
        code = self.process.poll()
        assert code is None, f"towline-gateway ended with {code}:\n{self.log()}"
        with contextlib.suppress(FileNotFoundError):
            # A file of a gateway that was killed may still be there for a moment.
            return json.loads(self.ready_file.read_text())["pid"] == self.process.pid
        return False

    def channel(self, target=None):
        """A connection of its own, closed with the gateway."""
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", 64 << 20),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 200),
        ]
        self._channels.append(grpc.insecure_channel(target or self.target, options))
        return self._channels[-1]

    @property
    def stub(self):
        if not hasattr(self, "_stub"):
            self._stub = pb_grpc.OpenShellStub(self.channel())
        return self._stub

    @property
    def client(self):
        if not hasattr(self, "_client"):
            self._client = SandboxClient(self.target)
            self._channels.append(self._client)
        return self._client

    def forget_connections(self):
        for channel in self._channels:
            channel.close()
        self._channels.clear()
        for name in ("_stub", "_client"):
            self.__dict__.pop(name, None)

    def stop(self, sig=signal.SIGTERM):
        """Ends it as an operator would: it leaves with 0, and takes its ready file along."""
        self.forget_connections()
        self.process.send_signal(sig)
        code = self.process.wait(STOP_SECONDS)
        self.process = None
        assert code == 0, f"towline-gateway left with {code}:\n{self.log()}"
        assert not self.ready_file.exists()

    def kill(self):
        """Ends it as a crash would."""
        self.forget_connections()
        self.process.kill()
        self.process.wait(STOP_SECONDS)
        self.process = None

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def sandbox_dir(self, sandbox_id):
        return self.data_dir / "local" / sandbox_id

    def get(self, name):
        return self.stub.GetSandbox(pb.GetSandboxRequest(name=name), timeout=10).sandbox

    def phase(self, name):
        return pb.SandboxPhase.Name(self.get(name).status.phase).removeprefix("SANDBOX_PHASE_")

    def wait_phase(self, name, phase, seconds=READY_SECONDS):
        """Until it is there; another end of the road ends the wait too."""

        def arrived():
            now = self.phase(name)
            assert now == phase or now != "ERROR", f"{self.get(name).status}\n{self.log()}"
            return now == phase

        wait_until(arrived, seconds, f"{name} is {phase}")
        return self.get(name)

    def create(self, name="", wait=True, **fields):
        """A new sandbox; READY when this returns, unless told not to wait."""
        request = pb.CreateSandboxRequest(name=name, spec=pb.SandboxSpec(), **fields)
        made = self.stub.CreateSandbox(request, timeout=10).sandbox
        return self.wait_phase(made.metadata.name, "READY") if wait else made

    def delete_all(self):
        scope = {"all_workspaces": {}}
        answer = self.stub.ListSandboxes(pb.ListSandboxesRequest(workspace_scope=scope), timeout=10)
        for sandbox in answer.sandboxes:
            self.stub.DeleteSandbox(
                pb.DeleteSandboxRequest(name=sandbox.metadata.id, allow_missing=True), timeout=30
            )
        return len(answer.sandboxes)

    def clean_up(self):
        """Deletes every sandbox, ends the gateway, and checks that nothing of it is left."""
        if not self.is_running() and (self.data_dir / "gateway.db").exists():
            self.start()
        if self.is_running():
            while self.delete_all():
                pass
            self.forget_connections()
            settles(self.process.pid, self.descriptors)
            self.stop()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not processes_of(self.data_dir), GONE_SECONDS, "they are gone")
        left = processes_of(self.data_dir)
        assert not left, f"processes are left: {left}"
        assert "AddressSanitizer" not in self.log() and "runtime error" not in self.log()
        places = self.data_dir / "local"
        left = list(places.iterdir()) if places.exists() else []
        assert not left, f"files of sandboxes are left: {left}"

    def destroy(self):
        """Whatever happened: no process and no file stays."""
        if self.is_running():
            self.kill()
        self.forget_connections()
        for pid in processes_of(self.data_dir):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in self.data_dir.parent.glob(self.data_dir.name + "*"):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    if call.when == "call":
        item.failed = outcome.get_result().failed


@pytest.fixture
def make_gateway(request):
    """Makes gateways, each on a data directory of its own; they are cleaned up in the end."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="towline-", dir="/tmp"))
    made = []

    def make(*flags, start=True, **options):
        gateway = Gateway(folder / f"gw{len(made)}", *flags, **options)
        made.append(gateway)
        return gateway.start() if start else gateway

    yield make
    try:
        for gateway in made:
            if getattr(request.node, "failed", False):
                print(f"---- log of {gateway.data_dir}\n{gateway.log()[-20000:]}")
            else:
                gateway.clean_up()
    finally:
        for gateway in made:
            gateway.destroy()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def gateway(make_gateway):
    return make_gateway()


class Ready:
    """A gateway with one sandbox that is READY."""

    def __init__(self, gateway, sandbox):
        self.gateway = gateway
        self.name = sandbox.metadata.name
        self.id = sandbox.metadata.id
        self.workdir = gateway.sandbox_dir(self.id) / "work"
        self.supervisor = self.find_supervisor()
        # Its connections to the gateway are still being made when it is READY.
        self.port = int(gateway.target.rpartition(":")[2])
        self.descriptors = descriptors_of(self.supervisor, self.port)

    def find_supervisor(self):
        """Its process's number, as seen from here; None if there is none."""
        file = self.gateway.sandbox_dir(self.id) / "supervisor.pid"
        with contextlib.suppress(FileNotFoundError):
            pid = int(file.read_text().split()[0])
            return pid if pathlib.Path(f"/proc/{pid}/fd").exists() else None

    def check_settled(self):
        """When its clients are gone the supervisor holds what it held before they came."""
        file = self.gateway.sandbox_dir(self.id) / "supervisor.log"
        log = file.read_text(errors="replace") if file.exists() else ""
        # What it holds for as long as it lives is left to the end of the process.
        assert "ERROR: AddressSanitizer" not in log and "runtime error" not in log, log
        if self.gateway.is_running() and self.find_supervisor() == self.supervisor is not None:
            self.gateway.forget_connections()
            settles(self.supervisor, self.descriptors, self.port)


@pytest.fixture
def ready(request, gateway):
    ready = Ready(gateway, gateway.create("box"))
    yield ready
    if not getattr(request.node, "failed", False):
        ready.check_settled()


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory):
    """The path of a program that stands in for the supervisor: see stand_in.c."""
    folder = tmp_path_factory.mktemp("stand-in")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the programs that stand in for a supervisor")
    source = pathlib.Path(__file__).with_name("stand_in.c")
    subprocess.run([compiler, "-O1", "-o", folder / "silent", source], check=True)
    for name in ("leaky", "shimmed"):
        (folder / name).hardlink_to(folder / "silent")
    (folder / "real").symlink_to(BIN / "towline-supervisor")
    return folder.joinpath


@contextlib.contextmanager
def fails(code, *words):
    """The call inside ends with this status, and says each of the words."""
    with pytest.raises(grpc.RpcError) as caught:
        yield caught
    error = caught.value
    assert error.code() == code, f"{error.code()}: {error.details()}"
    for word in words:
        assert word in error.details(), error.details()
