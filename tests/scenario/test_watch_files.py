"""WatchFiles: nothing happens unseen, and what is lost is said to be."""

import contextlib
import os
import pathlib
import subprocess
import threading
import time

import grpc
import pytest
from conftest import fails, wait_until
from test_exec import run
from test_files import Operations, resident

CREATED, CHANGED, REMOVED, MOVED, OVERFLOW = 1, 2, 3, 4, 5


class Watch:
    """Gathers what is told of a path, from the moment on that the watch is in place."""

    def __init__(self, ops, path=".", **fields):
        self.stream = ops.WatchFiles(path=path, timeout=None, **fields)
        self.events, self.error = [], None
        assert not next(self.stream).events
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        try:
            for message in self.stream:
                self.events += message.events
        except grpc.RpcError as error:
            self.error = error

    def seen(self, kind, path, old_path=""):
        return any((e.kind, e.file.path, e.old_path) == (kind, path, old_path) for e in self.events)

    def sees(self, *event):
        wait_until(lambda: self.seen(*event), 10, f"{event} in {self.events}")

    def close(self):
        self.stream.cancel()
        self.thread.join()


@pytest.fixture
def watch(ready):
    opened = []

    def make(path=".", **fields):
        opened.append(Watch(Operations(ready), path, **fields))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


def test_what_happens_to_a_file(watch, ready):
    (ready.workdir / "dir").mkdir()
    w = watch("dir")
    file = ready.workdir / "dir/a"
    file.write_bytes(b"123")
    w.sees(CREATED, "dir/a")
    with open(file, "ab") as more:
        more.write(b"456")
    w.sees(CHANGED, "dir/a")
    wait_until(lambda: w.events[-1].file.size_bytes == 6, 5, "its size is told")
    file.rename(ready.workdir / "dir/b")
    w.sees(MOVED, "dir/b", "dir/a")
    file.with_name("b").rename(ready.workdir / "c")
    w.sees(REMOVED, "dir/b")
    (ready.workdir / "c").rename(ready.workdir / "dir/d")
    w.sees(CREATED, "dir/d")
    (ready.workdir / "dir/d").unlink()
    w.sees(REMOVED, "dir/d")
    (ready.workdir / "dir/sub").mkdir()
    w.sees(CREATED, "dir/sub")
    (ready.workdir / "dir/sub/unseen").touch()
    (ready.workdir / "dir/last").touch()
    w.sees(CREATED, "dir/last")
    assert not w.seen(CREATED, "dir/sub/unseen")


def test_one_file_that_is_replaced(watch, ready):
    (ready.workdir / "conf").write_text("1")
    w = watch("conf")
    (ready.workdir / "other").write_text("2")
    (ready.workdir / "other").rename(ready.workdir / "conf")
    w.sees(CREATED, "conf")
    (ready.workdir / "conf").write_text("3")
    w.sees(CHANGED, "conf")
    assert {event.file.path for event in w.events} == {"conf"}


def test_new_directories_are_watched_without_a_gap(watch, ready):
    """Those made by one command are there before anybody can watch the first of them."""
    w = watch(recursive=True, exclude=["skipped/"])
    script = "for i in $(seq 40); do mkdir -p $i/a/b && echo x >$i/a/b/file; done; mkdir -p skipped/a"
    assert run(ready, "sh", "-c", script)[0] == 0
    for i in range(1, 41):
        w.sees(CREATED, f"{i}/a/b/file")
    (ready.workdir / "7/a/b/later").touch()
    w.sees(CREATED, "7/a/b/later")
    assert not any("skipped" in event.file.path for event in w.events)


def test_moved_directories_keep_their_watch(watch, ready, tmp_path):
    (ready.workdir / "a/deep").mkdir(parents=True)
    (ready.workdir / "b").mkdir()
    w = watch(recursive=True)
    (ready.workdir / "a").rename(ready.workdir / "b/c")
    w.sees(MOVED, "b/c", "a")
    (ready.workdir / "b/c/deep/file").touch()
    w.sees(CREATED, "b/c/deep/file")
    # Out, and in from elsewhere.
    away = ready.workdir.parent / "away"
    (ready.workdir / "b/c").rename(away)
    w.sees(REMOVED, "b/c")
    (away / "deep/unseen").touch()
    away.rename(ready.workdir / "back")
    w.sees(CREATED, "back")
    w.sees(CREATED, "back/deep/unseen")
    (ready.workdir / "back/deep/seen").touch()
    w.sees(CREATED, "back/deep/seen")
    assert not w.seen(CREATED, "b/c/deep/unseen")


def test_many_that_leave_at_once(watch, ready, tmp_path):
    """More than wait for the other half of their move: each is told of once."""
    folder = ready.workdir / "dir"
    folder.mkdir()
    for i in range(300):
        (folder / str(i)).touch()
    out = ready.workdir / "out"
    out.mkdir()
    w = watch("dir")
    for i in range(300):
        (folder / str(i)).rename(out / str(i))
    wait_until(lambda: len(w.events) >= 300, 10, "all of them")
    time.sleep(0.2)
    assert sorted((e.kind, e.file.path) for e in w.events) == sorted((REMOVED, f"dir/{i}") for i in range(300))


def test_a_watch_ends_with_what_it_is_of(watch, ready):
    (ready.workdir / "dir").mkdir()
    w = watch("dir/", recursive=True)
    (ready.workdir / "dir").rmdir()
    w.thread.join(10)
    assert w.error.code() == grpc.StatusCode.NOT_FOUND and "dir/" in w.error.details()
    assert w.seen(REMOVED, "dir/")
    with fails(grpc.StatusCode.NOT_FOUND, "dir"):
        next(Operations(ready).WatchFiles(path="dir"))


def test_a_slow_client_is_told_that_events_were_lost(ready):
    ops = Operations(ready)
    stream = ops.WatchFiles(path=".", recursive=True, timeout=None)
    assert not next(stream).events
    before = resident(ready.supervisor)
    limit = int(pathlib.Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    script = (
        "import os\n"
        f"for i in range({4 * limit}):\n"
        "    open(f'a-name-that-is-somewhat-long-{i}', 'w').close()\n"
        "    os.unlink(f'a-name-that-is-somewhat-long-{i}')\n"
    )
    subprocess.run(["python3", "-c", script], cwd=ready.workdir, check=True)
    assert resident(ready.supervisor) - before < 16 << 10
    (ready.workdir / "end").touch()
    kinds = set()
    for message in stream:
        kinds |= {event.kind for event in message.events}
        if OVERFLOW in kinds:
            break
    stream.cancel()
    assert OVERFLOW in kinds


def test_watches_leave_room_for_transfers(ready):
    """There are fewer of them if the kernel gives no more."""
    ops = Operations(ready)
    streams = []
    with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "watches"):
        for _ in range(65):
            streams.append(ops.WatchFiles(path=".", timeout=None))
            next(streams[-1])
    assert ops.StatFile(path=".").file.path == "."
    for stream in streams:
        stream.cancel()

    def may_watch():
        with contextlib.suppress(grpc.RpcError):
            return not next(ops.WatchFiles(path=".", timeout=5)).events

    wait_until(may_watch, 5, "one may watch again")


@pytest.mark.skipif("TOWLINE_LONG" not in os.environ, reason="changes a limit of the whole machine")
def test_too_many_directories_for_the_kernel(ready):
    limit = pathlib.Path("/proc/sys/fs/inotify/max_user_watches")
    before = limit.read_text()
    for i in range(30):
        (ready.workdir / f"{i}").mkdir()
    try:
        limit.write_text("10")
    except OSError:
        pytest.skip("may not change the kernel's limits")
    try:
        with fails(grpc.StatusCode.RESOURCE_EXHAUSTED, "max_user_watches"):
            next(Operations(ready).WatchFiles(path=".", recursive=True))
    finally:
        limit.write_text(before)


def test_many_events_are_told_in_order(watch, ready):
    w = watch(recursive=True)
    for i in range(300):
        (ready.workdir / f"f{i}").touch()
    for i in range(300):
        (ready.workdir / f"f{i}").unlink()
    w.sees(REMOVED, "f299")
    for i in (0, 150, 299):
        kinds = [e.kind for e in w.events if e.file.path == f"f{i}"]
        assert kinds[0] == CREATED and kinds[-1] == REMOVED
    time.sleep(0.1)
    assert w.error is None
