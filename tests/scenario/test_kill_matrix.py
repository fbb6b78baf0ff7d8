"""A transfer is a transaction, whatever dies in the middle of it, and wherever the middle is.

In each round four transfers run at once, now by one verb and now by another: a file and a tree, up
and down, each over a wire that holds at a random byte. When all of them hold, or have ended, the
victim is struck: the client, the gateway or the supervisor by SIGKILL, or the connection by a
reset. Then each target is absent or, by digest, the whole old or the whole new one (of a tree, each
of its files is), and who said that all went well was right. The same again then goes through, and
leaves no part of a file but what the supervisor removes in time.

The seed is printed; TOWLINE_SEED=N repeats it. ./dev test --long has 10,000 offsets; a slice of it
is TOWLINE_LONG=1 TOWLINE_ROUNDS=N scripts/test-scenario tests/scenario/test_kill_matrix.py.
"""

import contextlib
import hashlib
import itertools
import os
import random
import re
import shutil
import signal
import subprocess

import pytest
from conftest import Ready, wait_until
from openshell._proto import openshell_pb2 as pb
from towline_cli import PROGRAM
from wires import Wire

LONG = "TOWLINE_LONG" in os.environ
PIECES_MIB = 150
PIECES_ROUNDS = 60 if LONG else 4
RANGES_MIB = 26
RANGES_ROUNDS = 250 if LONG else 4
ACROSS_MIB = 24
ACROSS_ROUNDS = 250 if LONG else 5
ROUNDS = int(os.environ.get("TOWLINE_ROUNDS", 625 if LONG else 13))  # of four offsets, for each victim
OVERHEAD = 2000  # bytes of the wire beside the content, so that an offset can be behind all
FILE_BYTES = {"sandbox": 3 << 20, "cp": 9 << 20, "sync": 3 << 20}  # cp's has an upload_id
TREE_FILES = 40
SECONDS = 60
PART = ".towline-"  # in the names of what is not yet in place
SWEPT = re.compile(r"\.towline-[0-9a-f]{8}$")  # of an upload without an id, by the supervisor
VERBS = list(FILE_BYTES)
KINDS = [(direction, shape) for direction in ("up", "down") for shape in ("file", "tree")]


def digests(path):
    """Of each file by its name; "" is the path itself. Parts do not count."""
    if path.is_file():
        return {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    files = (p for p in sorted(path.rglob("*")) if p.is_file() and PART not in str(p))
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


class Transfer:
    """One of the four; both of its ends are in one hand."""

    def __init__(self, ready, folder, verb, direction, shape, rng):
        self.ready, self.verb, self.direction, self.shape, self.rng = ready, verb, direction, shape, rng
        self.name = f"{verb}-{direction}-{shape}"
        here = folder / self.name
        there = ready.workdir / self.name
        self.source, self.target = (here / "new", there / "t") if direction == "up" else (there / "new", here / "t")
        for place in (here, there):
            place.mkdir()
        self.wire = Wire(int(ready.gateway.target.rpartition(":")[2]))
        self.old = {}
        self.client = None
        self.make(self.source)
        self.new = digests(self.source)

    def make(self, path):
        if self.shape == "tree":
            self.make_tree(path)
            return
        data = self.rng.randbytes(FILE_BYTES[self.verb])
        self.size = len(data)
        if self.verb == "sync":
            path.mkdir()
            path /= "f"
            if path.parent == self.target:  # the half of it that is behind is right
                data = (self.source / "f").read_bytes()
                self.size = len(data) // 2
                data = self.rng.randbytes(self.size) + data[self.size :]
        path.write_bytes(data)

    def make_tree(self, path):
        self.size = 0
        for i in range(TREE_FILES):
            file = path / f"d{i % 7}" / f"f{i}"
            file.parent.mkdir(parents=True, exist_ok=True)
            data = self.rng.randbytes(self.rng.choice([0, 100, 5_000, 70_000]))
            file.write_bytes(data)
            self.size += len(data) + 1024

    def renew(self):
        """Something old is in the way, or nothing."""
        for path in list(self.target.parent.iterdir()):
            if path != self.source:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        self.size = sum(file.stat().st_size + 1024 for file in [self.source, *self.source.rglob("*")])
        if self.rng.random() < 0.6:
            self.make(self.target)
        self.old = digests(self.target) if self.target.exists() else {}

    def command(self, endpoint):
        source, target = str(self.source), str(self.target)
        if self.verb == "sandbox":
            words = ["sandbox", f"{self.direction}load", "-T", self.ready.name, source, target]
        else:
            box = f"{self.ready.name}:"
            ends = [source, box + target] if self.direction == "up" else [box + source, target]
            words = ["sync", *ends] if self.verb == "sync" else ["cp", "-T", *ends]
        return [PROGRAM, "--gateway-endpoint", endpoint, "-q", *words]

    def begin(self):
        self.offset = self.rng.randrange(self.size + OVERHEAD)
        self.wire.hold(self.offset)
        self.client = subprocess.Popen(
            self.command(self.wire.endpoint), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )

    def held_or_over(self):
        return self.client.poll() is not None or self.wire.is_held(0.01)

    def wait_held(self):
        wait_until(self.held_or_over, SECONDS, f"{self.name} is at byte {self.offset}")

    def end(self):
        _, err = self.client.communicate(timeout=SECONDS)
        assert b"Sanitizer" not in err and b"runtime error" not in err, err.decode()
        return self.client.returncode

    def check(self, code):
        about = f"{self.name} at byte {self.offset} ended with {code}"
        now = digests(self.target) if self.target.exists() else {}
        if code == 0:
            assert now | self.new == now and set(now) <= set(self.new) | set(self.old), f"{about}: a false success"
        for name, digest in now.items():
            assert digest in (self.old.get(name), self.new.get(name)), f"{about}: {name!r} is neither old nor new"
        missing = set(self.old) - set(now)
        assert not missing, f"{about}: {missing} of the old are gone"
        return now

    def once_more(self):
        command = self.command(self.ready.gateway.endpoint)
        self.last = subprocess.run(command, capture_output=True, timeout=SECONDS)
        return self.last.returncode == 0

    def again(self):
        """The one before may take a moment to be gone."""
        with contextlib.suppress(AssertionError):
            wait_until(self.once_more, 30, "it goes through")
        assert self.last.returncode == 0, f"{self.name} again: {self.last.stderr.decode()}"
        assert self.check(0).items() >= self.new.items()
        wait_until(lambda: not self.parts(), 10, f"{self.name}: {self.parts()} are gone")

    def parts(self):
        found = [str(p) for p in self.target.parent.rglob(f"*{PART}*")]
        return [p for p in found if not (self.direction == "up" and SWEPT.search(p))]


def write_pieces(path, count, rng):
    """A file of so many MiB, none of them like another."""
    data = rng.randbytes(1 << 20)
    with open(path, "wb") as file:
        for i in range(count):
            file.write(i.to_bytes(8, "big") + data[8:])


class Pieces(Transfer):
    """A file that is large enough to go up in several, each on a connection of its own."""

    def __init__(self, ready, folder, rng):
        super().__init__(ready, folder, "pieces", "up", "file", rng)

    def make(self, path):
        write_pieces(path, PIECES_MIB if path == self.source else 1, self.rng)

    def command(self, endpoint):
        words = ["cp", "-T", "-P", "4", str(self.source), f"{self.ready.name}:{self.target}"]
        return [PROGRAM, "--gateway-endpoint", endpoint, "-q", *words]


class Ranges(Transfer):
    """A sync of a file that is large enough to go in ranges, each over a connection of its own."""

    def __init__(self, ready, folder, direction, rng):
        super().__init__(ready, folder, "ranges", direction, "file", rng)

    def make(self, path):
        path.mkdir()
        data = self.rng.randbytes(RANGES_MIB << 20)
        if path == self.target:  # the half of it that is behind is right
            data = data[: len(data) // 2] + (self.source / "f").read_bytes()[len(data) // 2 :]
        (path / "f").write_bytes(data)
        self.size = len(data)

    def command(self, endpoint):
        source, target, box = str(self.source), str(self.target), f"{self.ready.name}:"
        ends = [source, box + target] if self.direction == "up" else [box + source, target]
        return [PROGRAM, "--gateway-endpoint", endpoint, "-q", "sync", "-P", "4", *ends]


def mend(ready):
    """What died with its supervisor has to be stopped before it can be started."""
    gateway = ready.gateway
    wait_until(lambda: gateway.phase(ready.name) == "ERROR", 30, "the gateway knows")
    gateway.stub.StopSandbox(pb.StopSandboxRequest(name=ready.name), timeout=30)
    wait_until(lambda: gateway.phase(ready.name) == "STOPPED", 30, "it is stopped")
    gateway.stub.StartSandbox(pb.StartSandboxRequest(name=ready.name), timeout=30)
    gateway.wait_phase(ready.name, "READY")


class Across(Transfer):
    """From one sandbox to another: both ends are sandboxes', and the client has neither."""

    def __init__(self, ready, folder, other, shape, rng):
        self.other = other
        super().__init__(ready, folder, "across", "up", shape, rng)
        self.source = ready.workdir / self.name / "new"
        self.target = other.workdir / self.name / "t"
        self.target.parent.mkdir()
        (folder / self.name / "new").rename(self.source)

    def make(self, path):
        if self.shape == "tree":
            self.make_tree(path)
        elif self.shape == "pieces":
            write_pieces(path, PIECES_MIB if path == self.source else 1, self.rng)
        else:
            path.write_bytes(self.rng.randbytes(ACROSS_MIB << 20))

    def begin(self):
        """What goes over the wire comes over it first."""
        self.size *= 2
        super().begin()

    def command(self, endpoint):
        ends = [f"{self.ready.name}:{self.source}", f"{self.other.name}:{self.target}"]
        streams = ["-P", "4"] if self.shape == "pieces" else []
        return [PROGRAM, "--gateway-endpoint", endpoint, "-q", "cp", "-T", *streams, *ends]


class Matrix:
    def __init__(self, ready, folder, rng, transfers=None, other=None):
        """${transfers} take turns, one of each list at a time; ${other} is a second sandbox."""
        self.ready, self.other = ready, other
        self.all = transfers or [[Transfer(ready, folder, verb, *kind, rng) for verb in VERBS] for kind in KINDS]
        self.rounds = 0
        self.struck = 0  # transfers that had not ended

    def strike_client(self):
        for transfer in self.transfers:
            transfer.client.kill()

    def strike_connection(self):
        for transfer in self.transfers:
            transfer.wire.cut()

    def strike_gateway(self):
        self.ready.gateway.kill()

    def strike_supervisor(self):
        os.kill(self.ready.find_supervisor(), signal.SIGKILL)

    def strike_target(self):
        os.kill(self.other.find_supervisor(), signal.SIGKILL)

    def mend_gateway(self):
        self.ready.gateway.start()
        self.wait_for_exec()

    def mend_supervisor(self):
        mend(self.ready)

    def mend_target(self):
        mend(self.other)

    def wait_for_exec(self):
        for sandbox in filter(None, (self.ready, self.other)):
            words = ["-q", "sandbox", "exec", sandbox.name, "--", "true"]
            command = [PROGRAM, "--gateway-endpoint", sandbox.gateway.endpoint, *words]
            wait_until(
                lambda: subprocess.run(command, capture_output=True).returncode == 0, SECONDS, "the supervisor is back"
            )

    def round(self, victim):
        self.transfers = [verbs[(self.rounds + i) % len(verbs)] for i, verbs in enumerate(self.all)]
        self.rounds += 1
        for transfer in self.transfers:
            transfer.renew()
            transfer.begin()
        for transfer in self.transfers:
            transfer.wait_held()
        self.struck += sum(transfer.client.poll() is None for transfer in self.transfers)
        getattr(self, f"strike_{victim}")()
        for transfer in self.transfers:
            transfer.wire.go()
        getattr(self, f"mend_{victim}", lambda: None)()
        codes = [transfer.end() for transfer in self.transfers]
        for transfer, code in zip(self.transfers, codes, strict=True):
            transfer.check(code)
        for transfer in self.transfers:
            transfer.again()

    def close(self):
        for transfer in itertools.chain(*self.all):
            if transfer.client is not None:
                with contextlib.suppress(OSError):
                    transfer.client.kill()
                transfer.client.communicate()
            transfer.wire.__exit__()


@pytest.mark.timeout(7200 if LONG else 180)
@pytest.mark.parametrize("victim", ["client", "connection", "gateway", "supervisor"])
def test_old_or_new(ready, tmp_path, victim):
    seed = int(os.environ.get("TOWLINE_SEED", random.randrange(1 << 32)))
    print(f"TOWLINE_SEED={seed}")
    matrix = Matrix(ready, tmp_path, random.Random(seed))
    try:
        for _ in range(ROUNDS):
            matrix.round(victim)
        assert matrix.struck > ROUNDS * len(KINDS) / 2, "nearly all are struck before they have ended"
    finally:
        matrix.close()


@pytest.mark.timeout(3600 if LONG else 180)
@pytest.mark.parametrize("victim", ["client", "connection", "gateway", "supervisor"])
def test_pieces_old_or_new(ready, tmp_path, victim):
    seed = int(os.environ.get("TOWLINE_SEED", random.randrange(1 << 32)))
    print(f"TOWLINE_SEED={seed}")
    rng = random.Random(seed)
    matrix = Matrix(ready, tmp_path, rng, [[Pieces(ready, tmp_path, rng)]])
    try:
        for _ in range(PIECES_ROUNDS):
            matrix.round(victim)
    finally:
        matrix.close()


@pytest.mark.timeout(3600 if LONG else 180)
@pytest.mark.parametrize("victim", ["client", "connection", "gateway", "supervisor"])
def test_ranges_old_or_new(ready, tmp_path, victim):
    seed = int(os.environ.get("TOWLINE_SEED", random.randrange(1 << 32)))
    print(f"TOWLINE_SEED={seed}")
    rng = random.Random(seed)
    matrix = Matrix(ready, tmp_path, rng, [[Ranges(ready, tmp_path, direction, rng)] for direction in ("up", "down")])
    try:
        for _ in range(RANGES_ROUNDS):
            matrix.round(victim)
    finally:
        matrix.close()


def strike_across(ready, tmp_path, victim, shapes, rounds):
    seed = int(os.environ.get("TOWLINE_SEED", random.randrange(1 << 32)))
    print(f"TOWLINE_SEED={seed}")
    rng = random.Random(seed)
    other = Ready(ready.gateway, ready.gateway.create("other"))
    across = [[Across(ready, tmp_path, other, shape, rng)] for shape in shapes]
    matrix = Matrix(ready, tmp_path, rng, across, other)
    try:
        for _ in range(rounds):
            matrix.round(victim)
        assert matrix.struck > rounds * len(shapes) / 2, "most are struck before they have ended"
    finally:
        matrix.close()


@pytest.mark.timeout(3600 if LONG else 240)
@pytest.mark.parametrize("victim", ["client", "connection", "gateway", "supervisor", "target"])
def test_across_old_or_new(ready, tmp_path, victim):
    strike_across(ready, tmp_path, victim, ["file", "tree"], ACROSS_ROUNDS)


@pytest.mark.timeout(3600 if LONG else 240)
@pytest.mark.parametrize("victim", ["client", "connection", "gateway", "supervisor", "target"])
def test_across_in_pieces_old_or_new(ready, tmp_path, victim):
    strike_across(ready, tmp_path, victim, ["pieces"], PIECES_ROUNDS)
