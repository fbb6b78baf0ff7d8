"""towline.v1.Files: what is there, and what can be done with it."""

import contextlib
import os
import pwd
import subprocess
import time

import grpc
import pytest
import towline_api
from conftest import fails
from test_exec import run
from test_fault_stall import is_sanitized

API = towline_api.load()
NAME = "towline.v1.{}".format
FILE, DIRECTORY, SYMLINK, OTHER = 1, 2, 3, 4


class Operations:
    """Calls on a sandbox: ops.StatFile(path="a").file"""

    def __init__(self, ready):
        self.ready = ready
        self.channel = ready.gateway.channel()

    def __getattr__(self, method):
        call = API.method(self.channel, NAME("Files/" + method))
        request = API[NAME(method + "Request")]

        def run(timeout=60, sandbox=self.ready.name, **fields):
            return call(request(sandbox=sandbox, **fields), timeout=timeout)

        return run


@pytest.fixture
def ops(ready):
    return Operations(ready)


def test_stat_a_file(ops, ready):
    path = ready.workdir / "a.txt"
    path.write_bytes(b"12345")
    path.chmod(0o4751)
    os.utime(path, ns=(1, 1_600_000_000_000_000_007))
    file = ops.StatFile(path="a.txt").file
    assert (file.name, file.path, file.type) == ("a.txt", "a.txt", FILE)
    assert (file.size_bytes, file.mode) == (5, 0o4751)
    assert (file.uid, file.gid) == (os.getuid(), os.getgid())
    assert file.owner == pwd.getpwuid(os.getuid()).pw_name
    assert (file.modified_time.seconds, file.modified_time.nanos) == (1_600_000_000, 7)
    before = file.etag
    path.write_bytes(b"54321")
    assert ops.StatFile(path=str(path)).file.etag != before != ""


def test_the_etag_is_that_of_a_download(ops, ready):
    (ready.workdir / "a").write_bytes(b"x")
    download = API.method(ops.channel, "openshell.v1.OpenShell/DownloadFile")
    request = API["openshell.v1.DownloadFileRequest"](sandbox=ready.name, remote_path="a")
    header = next(download(request, timeout=10)).header
    assert header.etag == ops.StatFile(path="a").file.etag


def test_stat_other_kinds(ops, ready):
    """None of them is opened, so none can keep us waiting."""
    (ready.workdir / "dir").mkdir()
    os.mkfifo(ready.workdir / "pipe")
    (ready.workdir / "gone").symlink_to("nowhere")
    (ready.workdir / "link").symlink_to("dir")
    assert ops.StatFile(path="dir/").file.type == DIRECTORY
    assert ops.StatFile(path="pipe").file.type == OTHER
    assert ops.StatFile(path="/dev/null").file.type == OTHER
    assert ops.StatFile(path="link").file.type == DIRECTORY
    link = ops.StatFile(path="link", no_follow=True).file
    assert (link.type, link.symlink_target) == (SYMLINK, "dir")
    assert ops.StatFile(path="gone", no_follow=True).file.symlink_target == "nowhere"
    with fails(grpc.StatusCode.NOT_FOUND, "gone"):
        ops.StatFile(path="gone")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "path: empty"):
        ops.StatFile()
    with fails(grpc.StatusCode.NOT_FOUND, "no-such"):
        ops.StatFile(sandbox="no-such", path="a")


def test_make_directory(ops, ready):
    made = ops.MakeDirectory(path="a").file
    assert (made.name, made.type, made.mode) == ("a", DIRECTORY, 0o755)
    with fails(grpc.StatusCode.ALREADY_EXISTS, "a exists"):
        ops.MakeDirectory(path="a")
    with fails(grpc.StatusCode.NOT_FOUND, "x/y"):
        ops.MakeDirectory(path="x/y")
    assert ops.MakeDirectory(path="x/y/z/", parents=True, mode=0o6777).file.mode == 0o777
    ops.MakeDirectory(path="x/y/z", parents=True)
    ops.MakeDirectory(path="/", parents=True)
    (ready.workdir / "file").touch()
    with fails(grpc.StatusCode.ALREADY_EXISTS, "no directory"):
        ops.MakeDirectory(path="file", parents=True)
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "file"):
        ops.MakeDirectory(path="file/a", parents=True)
    with fails(grpc.StatusCode.PERMISSION_DENIED, "leads out"):
        ops.MakeDirectory(path="../a")


FAIL, SKIP_IF_SAME = 2, 3


def test_move(ops, ready):
    (ready.workdir / "a").write_text("a")
    (ready.workdir / "b").write_text("b")
    with fails(grpc.StatusCode.ALREADY_EXISTS, "b exists"):
        ops.MoveFile(path="a", new_path="b", if_exists=FAIL)
    assert ops.MoveFile(path="a", new_path="c", if_exists=FAIL).file.path == "c"
    ops.MoveFile(path="c", new_path="b")
    assert listing(ready.workdir) == ["b"]
    assert (ready.workdir / "b").read_text() == "a"
    with fails(grpc.StatusCode.NOT_FOUND, "none"):
        ops.MoveFile(path="none", new_path="b")
    with fails(grpc.StatusCode.NOT_FOUND, "none/b"):
        ops.MoveFile(path="b", new_path="none/b")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "if_exists"):
        ops.MoveFile(path="b", new_path="c", if_exists=SKIP_IF_SAME)
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "new_path"):
        ops.MoveFile(path="b")


def test_move_says_what_is_in_the_way(ops, ready):
    (ready.workdir / "dir/sub").mkdir(parents=True)
    (ready.workdir / "other/full").mkdir(parents=True)
    (ready.workdir / "file").touch()
    for fields in ({}, {"if_exists": FAIL}):
        with fails(grpc.StatusCode.INVALID_ARGUMENT, "into itself"):
            ops.MoveFile(path="dir", new_path="dir/sub/dir", **fields)
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "not empty"):
        ops.MoveFile(path="dir", new_path="other")
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "other is a directory"):
        ops.MoveFile(path="file", new_path="other")
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "file is no directory"):
        ops.MoveFile(path="dir", new_path="file")
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "different file systems"):
        ops.MoveFile(path="file", new_path=f"/dev/shm/towline-{ready.id}")


def test_moving_a_file_onto_its_other_name_leaves_one(ops, ready):
    (ready.workdir / "a").write_text("a")
    os.link(ready.workdir / "a", ready.workdir / "b")
    ops.MoveFile(path="a", new_path="b")
    assert listing(ready.workdir) == ["b"]
    ops.MoveFile(path="b", new_path="./b")
    assert listing(ready.workdir) == ["b"]


def listing(directory):
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_remove(ops, ready, tmp_path):
    (tmp_path / "kept").write_text("kept")
    tree = ready.workdir / "tree"
    (tree / "sub/deep").mkdir(parents=True)
    (tree / "sub/file").touch()
    (tree / "out").symlink_to(tmp_path)
    os.mkfifo(tree / "pipe")
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "not empty"):
        ops.RemoveFile(path="tree")
    assert ops.RemoveFile(path="tree/sub/deep").removed == 1
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "no directory"):
        ops.RemoveFile(path="tree/out/", recursive=True)
    assert ops.RemoveFile(path="tree", recursive=True).removed == 5
    assert listing(ready.workdir) == [] and (tmp_path / "kept").exists()
    with fails(grpc.StatusCode.NOT_FOUND, "tree"):
        ops.RemoveFile(path="tree", recursive=True)
    assert ops.RemoveFile(path="tree", recursive=True, allow_missing=True).removed == 0
    for nameless in ("/", ".", "..", "tree/.."):
        with fails(grpc.StatusCode.INVALID_ARGUMENT, "name"):
            ops.RemoveFile(path=nameless, recursive=True)


def test_remove_a_deep_and_a_wide_tree(ops, ready):
    directory = os.open(ready.workdir, os.O_RDONLY)
    for _ in range(2000):
        os.mkdir("d", dir_fd=directory)
        inner = os.open("d", os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)
    for i in range(3000):
        (ready.workdir / f"wide/{i % 30}/{i}").mkdir(parents=True)
    assert ops.RemoveFile(path="d", recursive=True).removed == 2000
    assert ops.RemoveFile(path="wide", recursive=True).removed == 3031
    assert os.listdir(ready.workdir) == []


def test_remove_leaves_a_mount(ops, ready):
    """Made by the sandbox: its mounts are not ours."""
    script = "mkdir -p tree/a/mounted && mount -t tmpfs none tree/a/mounted && touch tree/a/mounted/kept"
    if run(ready, "sh", "-c", script)[0] != 0:
        pytest.skip("may not mount")
    for i in range(20):
        (ready.workdir / f"tree/a/{i}").mkdir()
        (ready.workdir / f"tree/{i}").write_text("x")
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "1 could not be removed, 40 were: tree/a/mounted: a file system is mounted"):
        ops.RemoveFile(path="tree", recursive=True)
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "mounted"):
        ops.RemoveFile(path="tree/a/mounted", recursive=True)
    assert listing(ready.workdir) == ["tree", "tree/a", "tree/a/mounted"]
    assert ops.StatFile(path="tree/a/mounted/kept").file.type == FILE
    assert run(ready, "umount", "tree/a/mounted")[0] == 0
    assert ops.RemoveFile(path="tree", recursive=True).removed == 3


def test_remove_while_directories_become_links(ops, ready, tmp_path):
    """What the links lead to is never touched."""
    outside = tmp_path / "outside"
    outside.mkdir()
    for i in range(50):
        (outside / f"kept{i}").touch()
    swapper = subprocess.Popen(
        ["sh", "-c", "while :; do mv tree/a tree/b; ln -s $OUT tree/a; rm tree/a; mv tree/b tree/a; done"],
        cwd=ready.workdir, env={**os.environ, "OUT": str(outside)}, stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(60):
            for i in range(40):
                with contextlib.suppress(OSError):  # it is moved away under us too
                    (ready.workdir / f"tree/a/{i}").mkdir(parents=True, exist_ok=True)
            try:
                ops.RemoveFile(path="tree", recursive=True, allow_missing=True)
            except grpc.RpcError as error:
                assert error.code() in (grpc.StatusCode.ABORTED, grpc.StatusCode.NOT_FOUND), error
    finally:
        swapper.kill()
        swapper.wait()
    assert len([name for name in os.listdir(outside) if name.startswith("kept")]) == 50


def entries(stream):
    return [entry for batch in stream for entry in batch.entries]


def paths(stream):
    return sorted(entry.path for entry in entries(stream))


def test_list(ops, ready):
    (ready.workdir / "dir/sub").mkdir(parents=True)
    (ready.workdir / "dir/a.txt").write_bytes(b"123")
    (ready.workdir / "dir/link").symlink_to("sub")
    (ready.workdir / "dir/loop").symlink_to("..")
    (ready.workdir / "dir/gone").symlink_to("nowhere")
    (ready.workdir / "dir/sub/deep").touch()
    os.mkfifo(ready.workdir / "dir/pipe")
    found = {entry.name: entry for entry in entries(ops.ListDirectory(path="dir"))}
    assert sorted(found) == ["a.txt", "gone", "link", "loop", "pipe", "sub"]
    assert found["a.txt"] == ops.StatFile(path="dir/a.txt").file
    assert (found["gone"].type, found["gone"].symlink_target) == (SYMLINK, "nowhere")
    assert found["pipe"].type == OTHER and found["sub"].type == DIRECTORY
    flat = [f"dir/{name}" for name in found]
    assert paths(ops.ListDirectory(path="dir/", recursive=True)) == sorted([*flat, "dir/sub/deep"])
    assert paths(ops.ListDirectory(path="dir/sub")) == ["dir/sub/deep"]
    assert paths(ops.ListDirectory(path=".")) == ["dir"]
    assert "/etc" in paths(ops.ListDirectory(path="/"))
    assert paths(ops.ListDirectory(path="dir", recursive=True, exclude=["*.txt", "sub/", "l*"])) == [
        "dir/gone", "dir/pipe",
    ]
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "a.txt"):
        entries(ops.ListDirectory(path="dir/a.txt"))
    with fails(grpc.StatusCode.NOT_FOUND, "none"):
        entries(ops.ListDirectory(path="none"))


def test_names_of_any_bytes(ops, ready):
    names = [b"line\nbreak", b"\x1b[31mred", b"latin-\xe9", b"\xff\xfe", b'quo"te', "ü".encode(), b"back\\x41"]
    os.mkdir(ready.workdir / "names")
    for name in names:
        os.close(os.open(os.fsencode(ready.workdir / "names") + b"/" + name, os.O_CREAT | os.O_WRONLY))
    found = entries(ops.ListDirectory(path="names"))
    assert sorted(entry.raw_name or entry.name.encode() for entry in found) == sorted(names)
    assert sorted(entry.name for entry in found if entry.raw_name) == [r"\xff\xfe", r"latin-\xe9"]
    assert ops.StatFile(path="names/line\nbreak").file.name == "line\nbreak"
    assert ops.RemoveFile(path="names", recursive=True).removed == len(names) + 1


def test_paths_of_any_bytes(ops, ready):
    assert ops.MakeDirectory(raw_path=b"d\xff/\xfe", parents=True).file.raw_path == b"d\xff/\xfe"
    inner = os.fsencode(ready.workdir) + b"/d\xff/\xfe"
    with open(inner + b"/f\xe9", "wb") as file:
        file.write(b"x")
    found = entries(ops.ListDirectory(raw_path=b"d\xff", recursive=True))
    assert [entry.raw_path for entry in found] == [b"d\xff/\xfe", b"d\xff/\xfe/f\xe9"]
    assert found[1].path == r"d\xff/\xfe/f\xe9"
    assert ops.StatFile(path="not looked at", raw_path=found[1].raw_path).file.size_bytes == 1
    moved = ops.MoveFile(raw_path=found[1].raw_path, raw_new_path=b"d\xff/n").file
    assert (moved.raw_path, moved.name, moved.raw_name) == (b"d\xff/n", "n", b"")
    with fails(grpc.StatusCode.NOT_FOUND, r"d\xff/none"):
        ops.StatFile(raw_path=b"d\xff/none")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "raw_path: a path has no NUL"):
        ops.StatFile(raw_path=b"d\0")
    with fails(grpc.StatusCode.PERMISSION_DENIED, r"../\xff leads out of the directory"):
        ops.StatFile(raw_path=b"../\xff")
    assert ops.RemoveFile(raw_path=b"d\xff", recursive=True).removed == 3


def test_a_listing_that_cannot_see_everything_says_so_in_the_end(ops, ready):
    (ready.workdir / ("d/" * 130) / "bottom").mkdir(parents=True)
    (ready.workdir / "beside").touch()
    found = []
    with fails(grpc.StatusCode.FAILED_PRECONDITION, "128 directories deep"):
        for batch in ops.ListDirectory(path=".", recursive=True):
            found += [entry.path for entry in batch.entries]
    assert len(found) == 129 and "beside" in found
    assert len(entries(ops.ListDirectory(path="d/" * 20, recursive=True))) == 111


def resident(pid):
    """KiB that are its own, of a process; 0 of one whose memory is a sanitizer's."""
    if is_sanitized():
        return 0
    with open(f"/proc/{pid}/status") as status:
        return int(next(line for line in status if line.startswith("RssAnon")).split()[1])


LARGE = [200_000, 1_000_000] if os.environ.get("TOWLINE_LONG") else [200_000]


@pytest.mark.parametrize("count", LARGE)
def test_a_large_directory_is_not_gathered(ops, ready, count):
    """Nor by a client that does not read on."""
    directory = ready.workdir / "large"
    directory.mkdir()
    where = os.open(directory, os.O_RDONLY)
    for i in range(count):
        os.mknod(f"a-name-of-some-length-{i}", dir_fd=where)
    os.close(where)
    entries(ops.ListDirectory(path="."))
    before = resident(ready.supervisor), resident(ready.gateway.process.pid)
    stream = ops.ListDirectory(path="large", timeout=120)
    seen = len(next(stream).entries)
    time.sleep(1)
    peak = [0, 0]
    for number, batch in enumerate(stream):
        seen += len(batch.entries)
        if number % 50 == 0:
            now = resident(ready.supervisor), resident(ready.gateway.process.pid)
            peak = [max(a, b) for a, b in zip(peak, now)]
    assert seen == count
    grown = [after - at_first for after, at_first in zip(peak, before)]
    assert all(kib < 16 << 10 for kib in grown), grown
    assert ops.RemoveFile(path="large", recursive=True, timeout=120).removed == count + 1


def test_a_client_that_goes_ends_what_it_asked_for(ops, ready):
    for i in range(20):
        (ready.workdir / f"{i}/{i}").mkdir(parents=True)
    for _ in range(30):
        stream = ops.ListDirectory(path="/usr", recursive=True)
        next(stream)
        stream.cancel()
    assert len(entries(ops.ListDirectory(path=".", recursive=True))) == 40
