"""Each call on the file system fails in turn, in the supervisor and in the client.

A shim (faults.c) fails the n-th call, n = 1, 2, ... until a transfer meets none of them any more.
The answer then is a success that is true, or an error of the status that goes with it; the old
file is untouched or the new one whole; and no part file is left once the same went through again.
"""

import concurrent.futures
import contextlib
import errno
import hashlib
import os
import random
import re
import shutil
import struct
import subprocess

import grpc
import pytest
import towline_api
from conftest import wait_until
from shims import Shim, ready_under
from test_download import digest
from test_upload_pieces import Pieces
from test_upload_resume import REQUEST
from towline_cli import PROGRAM

API = towline_api.load()
LONG = "TOWLINE_LONG" in os.environ
ERRORS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENOMEM]
FIT = {
    errno.EIO: {grpc.StatusCode.INTERNAL, grpc.StatusCode.DATA_LOSS, grpc.StatusCode.UNAVAILABLE},
}
FULL = {grpc.StatusCode.RESOURCE_EXHAUSTED}
CONTROL = struct.Struct("iiii48s")
PIECES_BYTES = 128 << 20  # the least that goes in two
RANGES_BYTES = 17 << 20
PIECES_TRIED = 8  # calls at the beginning, at the end, and in between
CALLS_MAX = 2000  # of one transfer; more would mean that it never ends


class Faults(Shim):
    def __init__(self, folder):
        super().__init__("faults", folder)

    def arm(self, fail_at, error):
        self.map[: CONTROL.size] = CONTROL.pack(1, fail_at, error, 0, b"")

    def count(self):
        """Calls since it was armed, and no more."""
        return CONTROL.unpack(self.map[: CONTROL.size])[3]

    def disarm(self):
        """What failed; None if it was never reached."""
        _, _, _, _, failed = CONTROL.unpack(self.map[: CONTROL.size])
        self.map[: CONTROL.size] = CONTROL.pack(0, 0, 0, 0, b"")
        return failed.rstrip(b"\0").decode() or None


def digests(path):
    """Of each file by its name, but for parts."""
    if path.is_file():
        return {"": hashlib.sha256(path.read_bytes()).hexdigest()}
    files = (p for p in sorted(path.rglob("*")) if p.is_file() and ".towline-" not in str(p))
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def parts(folder):
    return [str(p.relative_to(folder)) for p in folder.rglob("*.towline-*")]


def make(path, shape, salt):
    if shape == "file":
        path.write_bytes(hashlib.sha256(salt).digest() * 10_000)
        return
    if shape == "pieces":  # or ranges: two of each, with holes, so that it is soon made
        with open(path, "wb") as file:
            for at in (0, PIECES_BYTES // 2, PIECES_BYTES - 32):
                file.seek(at)
                file.write(hashlib.sha256(salt).digest())
        return
    if shape == "ranges":  # of a sync: three, with holes, of which two differ
        path.mkdir()
        with open(path / "a", "wb") as file:
            for at, what in ((0, salt), (9 << 20, b"same"), (RANGES_BYTES - 32, salt)):
                file.seek(at)
                file.write(hashlib.sha256(what).digest())
        return
    if shape == "large":  # of which what is in the middle differs
        path.mkdir()
        same = random.Random(1).randbytes(100_000)
        (path / "a").write_bytes(same + hashlib.sha256(salt).digest() * 500 + same)
        return
    for name in ("a", "d/b", "d/e/c"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(hashlib.sha256(salt + name.encode()).digest() * 3_000)
    (path / "link").symlink_to("a")


class Bench:
    """One source, one target with something old in it, and a transfer between them."""

    def __init__(self, ready, here, verb, way, shape):
        self.ready, self.verb, self.way = ready, verb, way
        there = ready.workdir / "there"
        for folder in (here, there):
            folder.mkdir(exist_ok=True)
        self.source, self.target = (here / "s", there / "t") if way == "up" else (there / "s", here / "t")
        make(self.source, shape, b"new")
        self.shape = shape
        self.new = digests(self.source)
        self.renew()

    def renew(self):
        folder = self.target.parent
        for path in list(folder.iterdir()):
            if path != self.source:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        make(self.target, self.shape, b"old")
        self.old = digests(self.target)

    def words(self):
        source, target = str(self.source), str(self.target)
        if self.verb == "sandbox":
            return ["sandbox", f"{self.way}load", "-T", self.ready.name, source, target]
        box = f"{self.ready.name}:"
        ends = [source, box + target] if self.way == "up" else [box + source, target]
        if self.shape == "pieces":
            return ["cp", "-T", "-P", "2", *ends]
        if self.shape == "ranges":
            return ["sync", "-P", "2", *ends]
        return ["sync", *ends] if self.verb == "sync" else ["cp", "-T", *ends]

    def run(self, env=None):
        command = [PROGRAM, "--gateway-endpoint", self.ready.gateway.endpoint, "-o", "json", *self.words()]
        env = os.environ | (env or {}) | {"ASAN_OPTIONS": (env or {}).get("ASAN_OPTIONS", "")}
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
        assert "Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr
        assert done.returncode >= 0, f"a signal: {done.returncode}\n{done.stderr}"
        return done

    def check(self, done, about):
        now = digests(self.target)
        if done.returncode == 0:
            assert now == self.new, f"{about}: a false success"
            return
        assert set(now) == set(self.old), f"{about}: files are gone or came: {now.keys()}"
        for name, digest in now.items():
            assert digest in (self.old[name], self.new[name]), f"{about}: {name!r} is neither old nor new"
        if self.shape in ("file", "pieces") and "sync" not in about and "close" not in about:
            assert now == self.old, f"{about}: an error, and the new file is there"

    def once(self, faults, fail_at, error, env=None):
        """False when so many calls are not made any more."""
        faults.arm(fail_at, error)
        done = self.run(env)
        failed = faults.disarm()
        if failed is None:
            assert done.returncode == 0, done.stderr
            return False
        about = f"{failed}, call {fail_at}, {errno.errorcode[error]} ({done.returncode}, {done.stderr.strip()})"
        self.check(done, about)
        if done.returncode != 0:
            assert done.stderr.strip(), f"{about}: nothing is said"
            self.check_status(done, error, about)
        assert self.run().returncode == 0, f"{about}: it does not go through afterwards"
        assert digests(self.target) == self.new
        if failed != "unlinkat":
            wait_until(lambda: not parts(self.target.parent), 10, f"{about}: {parts(self.target.parent)} is left")
        self.renew()
        return True

    @staticmethod
    def check_status(done, error, about):
        found = re.search(r'"code":\s*"([A-Z_]+)"', done.stderr)
        if found is None or "skipped" in done.stderr or "entries failed" in done.stderr:
            assert os.strerror(error) in done.stderr, about  # entries that failed are named one by one
            return
        code = grpc.StatusCode[found.group(1)]
        fit = FIT.get(error, FULL)
        if about.startswith("fdopendir"):
            fit = fit | FULL  # it has no other way to fail than for want of memory
        assert code in fit, f"{about}: {code}"

    def all(self, faults, env=None):
        for fail_at in range(1, CALLS_MAX):
            chosen = [ERRORS[fail_at % len(ERRORS)]] + ([errno.EIO] if self.verb == "sandbox" else [])
            chosen = ERRORS if LONG else chosen
            if not all([self.once(faults, fail_at, error, env) for error in chosen]):
                assert fail_at > 5, "the shim sees the calls"
                return
        raise AssertionError("it never ends")

    def some(self, faults, env, rng):
        """Of calls that are too many to fail each."""
        faults.arm(0, 0)
        assert self.run(env).returncode == 0
        count = faults.count()
        faults.disarm()
        self.renew()
        middle = range(PIECES_TRIED + 1, count - PIECES_TRIED + 1)
        assert len(middle) > PIECES_TRIED, "the shim sees the calls"
        chosen = [*range(1, PIECES_TRIED + 1), *rng.sample(middle, PIECES_TRIED), *range(middle.stop, count + 1)]
        for fail_at in range(1, count + 1) if LONG else chosen:
            self.once(faults, fail_at, ERRORS[fail_at % len(ERRORS)], env)


VERBS = {"sandbox": ("file", "tree"), "cp": ("file", "tree"), "sync": ("large", "tree")}
CASES = [(verb, way, shape) for verb, shapes in VERBS.items() for way in ("up", "down") for shape in shapes]
IDS = ["-".join(case) for case in CASES]


@pytest.fixture
def faults(tmp_path):
    with contextlib.closing(Faults(tmp_path)) as faults:
        yield faults


@pytest.mark.timeout(7200 if LONG else 180)
@pytest.mark.parametrize(("verb", "way", "shape"), CASES, ids=IDS)
def test_in_the_supervisor(make_gateway, stand_in, faults, tmp_path, verb, way, shape):
    ready = ready_under(faults, make_gateway, stand_in)
    Bench(ready, tmp_path / "here", verb, way, shape).all(faults)


@pytest.mark.timeout(7200 if LONG else 180)
@pytest.mark.parametrize(("verb", "way", "shape"), CASES, ids=IDS)
def test_in_the_client(ready, faults, tmp_path, verb, way, shape):
    Bench(ready, tmp_path / "here", verb, way, shape).all(faults, faults.env)


@pytest.mark.timeout(7200 if LONG else 400)
@pytest.mark.parametrize("way", ["up", "down"])
def test_pieces_in_the_client(ready, faults, tmp_path, way):
    """And ranges. What it sends and fetches is as long as any; so not each call is tried."""
    seed = int(os.environ.get("TOWLINE_SEED", random.randrange(1 << 32)))
    print(f"TOWLINE_SEED={seed}")
    Bench(ready, tmp_path / "here", "cp", way, "pieces").some(faults, faults.env, random.Random(seed))


@pytest.mark.timeout(7200 if LONG else 400)
@pytest.mark.parametrize("way", ["up", "down"])
@pytest.mark.parametrize("where", ["client", "supervisor"])
def test_ranges_of_a_sync(request, make_gateway, stand_in, faults, tmp_path, where, way):
    seed = int(os.environ.get("TOWLINE_SEED", random.randrange(1 << 32)))
    print(f"TOWLINE_SEED={seed}")
    ready = ready_under(faults, make_gateway, stand_in) if where == "supervisor" else request.getfixturevalue("ready")
    env = faults.env if where == "client" else None
    Bench(ready, tmp_path / "here", "sync", way, "ranges").some(faults, env, random.Random(seed))


class PiecesBench:
    """Three pieces, sent at once, of which none is long."""

    PIECE = 70_001

    def __init__(self, ready):
        self.pieces = Pieces(ready)
        self.folder = ready.workdir
        self.data = random.Random(7).randbytes(3 * self.PIECE)
        self.renew()

    def renew(self):
        for path in self.folder.iterdir():
            path.unlink()
        (self.folder / "f").write_bytes(b"old")

    def goes_on(self):
        self.pieces.goes_on(self.data)

    def send(self):
        """What failed, in the order of its coming; the end only if nothing did."""
        failures = []

        def piece(begin):
            try:
                self.pieces.piece(self.data, begin, begin + self.PIECE)
            except grpc.RpcError as error:
                failures.append(error)

        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            list(pool.map(piece, range(0, len(self.data), self.PIECE)))
        try:
            if not failures:
                self.pieces.finish(self.data)
        except grpc.RpcError as error:
            failures.append(error)
        return failures

    def check_durable(self, about):
        """What is said to be durable is there, and is right."""
        part = [path for path in self.folder.glob(".f.towline-*") if path.suffix != ".journal"]
        for begin, end in self.pieces.ranges():
            assert part[0].read_bytes()[begin:end] == self.data[begin:end], f"{about}: {begin} to {end}"

    def once(self, faults, fail_at, error):
        """False when so many calls are not made any more."""
        faults.arm(fail_at, error)
        failures = self.send()
        failed = faults.disarm()
        about = f"{failed}, call {fail_at}, {errno.errorcode[error]}: {failures}"
        now = (self.folder / "f").read_bytes()
        assert now in (b"old", self.data) and (failures or now == self.data), about
        if failed is None:
            assert not failures, about
            return False
        if failures:  # of the others, that one of them could not be synced
            fit = FIT.get(error, FULL) | ({grpc.StatusCode.RESOURCE_EXHAUSTED} if failed == "fdopendir" else set())
            assert any(failure.code() in fit for failure in failures), about
        if now != self.data:
            self.check_durable(about)
            self.goes_on()
        if failed != "unlinkat":
            assert self.pieces.names() == ["f"], about
        self.renew()
        return True


class ResumedBench(PiecesBench):
    """The rest of what an earlier one has left, with the digest of the whole."""

    def renew(self):
        super().renew()
        self.pieces.piece(self.data, 0, self.PIECE)

    def rest(self, at):
        value = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": digest(self.data)}
        chunks = [self.data[i : i + 32768] for i in range(at, len(self.data), 32768)]
        fields = {"upload_id": "p", "offset": at, "digest": value, "adds_digest": True}
        requests = [self.pieces.metadata("f", len(self.data), **fields), *map(lambda c: REQUEST(chunk=c), chunks)]
        return self.pieces._upload(iter(requests), timeout=60)

    def send(self):
        try:
            self.rest(self.PIECE)
        except grpc.RpcError as error:
            return [error]
        return []

    def goes_on(self):
        ranges = self.pieces.ranges()
        self.pieces.is_finished(self.data, self.rest(ranges[0][1] if ranges else 0))


@pytest.mark.timeout(7200 if LONG else 400)
@pytest.mark.parametrize("kind", [PiecesBench, ResumedBench])
def test_uploads_that_are_kept_in_the_supervisor(make_gateway, stand_in, faults, kind):
    bench = kind(ready_under(faults, make_gateway, stand_in))
    for fail_at in range(1, CALLS_MAX):
        chosen = ERRORS if LONG else ERRORS[fail_at % 5 :][:2]
        if not all(bench.once(faults, fail_at, error) for error in chosen):
            assert fail_at > 20, "the shim sees the calls"
            return
    raise AssertionError("it never ends")
