"""Trees there and back: compared by find and tar, left out as git does, and told entry by entry."""

import os
import signal
import subprocess
import time

import grpc
import pytest
from conftest import fails, wait_until
from test_cli_transfer import DOWN, UP, make_tree
from test_transfer import Files, make_tar
from towline_cli import box  # noqa: F401

FAILED = grpc.StatusCode.FAILED_PRECONDITION


def listing(top):
    """Names, kinds, modes, links, sizes, and times to the nanosecond, by find."""
    command = ["find", ".", "-mindepth", "1", "-printf", r"%p\0%y %m %n %s %T@ %l\0\n"]
    return sorted(subprocess.run(command, cwd=top, check=True, capture_output=True).stdout.split(b"\0\n"))


def run(*command, cwd):
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True).stdout


def rich_tree(top):
    make_tree(top)
    odd = [b"\xff\xfe", "ü".encode(), b"new\nline", b"back\\slash", b"tail ", b"n" * 255]
    for name in odd:
        with open(os.path.join(os.fsencode(top), name), "wb") as file:
            file.write(name)
    long = top / "/".join(["long" * 20] * 8)
    long.mkdir(parents=True)
    (long / "f").write_text("x")
    os.link(top / "f", long / "hard")
    os.setxattr(top / "f", "user.note", b"a\0b")
    with open(top / "sparse", "wb") as file:
        for at in (1 << 20, 5 << 20):
            file.seek(at)
            file.write(b"data")
        file.truncate(50 << 20)
    (top / "closed").mkdir()
    (top / "closed/f").write_text("x")
    (top / "closed/f").chmod(0o400)
    (top / "closed").chmod(0o500)
    for path in sorted(top.rglob("*"), reverse=True):
        os.utime(path, ns=(1, 1_234_567_890_987_654_321), follow_symlinks=False)
    return top


def assert_same(one, other):
    assert listing(one) == listing(other)
    assert run("diff", "-r", "--no-dereference", one, other, cwd="/") == b""
    assert os.getxattr(other / "f", "user.note") == b"a\0b"
    assert (other / "sparse").stat().st_blocks == (one / "sparse").stat().st_blocks


def test_all_there_and_back(box):
    tree = rich_tree(box.here / "tree")
    done = box("-o", "json", *UP, "tree").json
    assert_same(tree, box.workdir / "tree")
    assert (done["skipped"], done["ignored"]) == (0, 0)
    back = box("-o", "json", *DOWN, "tree", "back").json
    assert_same(tree, box.here / "back")
    assert (back["files"], back["bytes"]) == (done["files"], done["bytes"])


@pytest.mark.parametrize("compression,flag", [("NONE", ""), ("GZIP", "z"), ("ZSTD", "--zstd")])
def test_tar_understands_it(ready, tmp_path, compression, flag):
    files = Files(ready)
    tree = rich_tree(ready.workdir / "tree")
    _, content, trailer = files.download("tree", as_archive=True, compression=f"COMPRESSION_{compression}")
    (tmp_path / "a.tar").write_bytes(content)
    (tmp_path / "out").mkdir()
    flags = ["-xf"] if not flag else ["-zxf"] if flag == "z" else [flag, "-xf"]
    run("tar", "--xattrs", *flags, tmp_path / "a.tar", cwd=tmp_path / "out")
    assert_same(tree, tmp_path / "out")
    assert trailer.tree.files == len([p for p in tree.rglob("*") if p.is_symlink() or not p.is_dir()])
    assert (trailer.tree.skipped, trailer.tree.failed, list(trailer.tree.notes)) == (0, 0, [])


@pytest.mark.parametrize("form", ["pax", "gnu"])
def test_it_understands_tar(ready, tmp_path, form):
    tree = rich_tree(tmp_path / "tree")
    if form == "gnu":  # which has whole seconds, and no attributes
        for path in sorted(tree.rglob("*"), reverse=True):
            os.utime(path, ns=(1, 1_234_567_890_000_000_000), follow_symlinks=False)
    flags = ["--xattrs"] if form == "pax" else []
    data = run("tar", f"--format={form}", *flags, "--sparse", "-cf", "-", ".", cwd=tree)
    answer = Files(ready).upload("tree", data, is_archive=True)
    if form == "gnu":
        os.setxattr(ready.workdir / "tree/f", "user.note", b"a\0b")
    assert_same(tree, ready.workdir / "tree")
    assert answer.tree.files == len([p for p in tree.rglob("*") if p.is_symlink() or not p.is_dir()])


def test_the_receipt(ready):
    files = Files(ready)
    data = make_tar([("a", {}, b"one"), ("d/b", {}, b"three")])
    answer = files.upload("tree", data, is_archive=True)
    assert (answer.entries, answer.bytes_written, answer.tree.files) == (2, 8, 2)
    files.upload("f", data)
    assert answer.digest == files.download("f")[2].digest  # of the stream
    files.upload("tree", data, is_archive=True, digest=answer.digest)
    wrong = {"algorithm": answer.digest.algorithm, "value": bytes(16)}
    with fails(grpc.StatusCode.DATA_LOSS, "digest"):
        files.upload("tree", data, is_archive=True, digest=wrong)


def test_no_file_is_an_error(ready):
    files = Files(ready)
    with fails(FAILED, "no file"):
        files.upload("tree", make_tar([]), is_archive=True)
    (ready.workdir / "empty/d").mkdir(parents=True)
    with fails(FAILED, "no file"):
        files.download("empty", as_archive=True)
    (ready.workdir / "empty/f").write_text("x")
    with fails(FAILED, "patterns"):
        files.download("empty", as_archive=True, exclude=["f"])


def test_excluded_from_a_download(ready, tmp_path):
    make_tree(ready.workdir / "tree")
    _, content, trailer = Files(ready).download("tree", as_archive=True, exclude=["/d/*", "!/d/run", "empty/"])
    (tmp_path / "a.tar").write_bytes(content)
    names = run("tar", "-tf", tmp_path / "a.tar", cwd="/").decode().split()
    assert sorted(names) == ["./", "./d/", "./d/run", "./dangling", "./f", "./hard", "./link"]
    assert trailer.tree.ignored == 2


def test_what_is_skipped_there_is_told_here(box):
    tree = make_tree(box.workdir / "tree")
    os.mkfifo(tree / "pipe")
    (tree / "out").symlink_to("/etc/passwd")
    done = box(*DOWN, "tree", code=23)
    assert "skipped" in done.err and "pipe" in done.err and "out" in done.err and ", 2 skipped" in done.err


def test_one_that_fails_loses_no_other(box):
    tree = make_tree(box.here / "tree")
    (box.workdir / "tree/d/run").mkdir(parents=True)
    done = box(*UP, "tree", "-T", "tree", code=1)
    assert "1 of" in done.err and "entries failed" in done.err and "failed d/run" in done.err
    (box.workdir / "tree/d/run").rmdir()
    (box.workdir / "tree/d/run").write_text("x")
    assert (box.workdir / "tree/d/e/g").read_bytes() == (tree / "d/e/g").read_bytes()
    (box.here / "back/d").mkdir(parents=True)
    (box.here / "back/d/run").mkdir()
    done = box(*DOWN, "tree", "-T", "back", code=1)
    assert "1 of" in done.err and "entries failed" in done.err and "failed d/run" in done.err
    assert (box.here / "back/d/e/g").exists() and (box.here / "back/link").is_symlink()


LARGE = 256 << 20


def large_file(path):
    with open(path, "wb") as file:
        for _ in range(LARGE >> 20):
            file.write(os.urandom(1 << 20))


def cut_meanwhile(box, target, cut, *words):
    """Runs it, and cuts a file that is being packed when there are first bytes of it in ${target}."""
    process = box.popen(*words)
    part = target / ".towline-unpack"
    wait_until(lambda: part.exists() and part.stat().st_size > 1 << 20, 60, "it has begun")
    process.send_signal(signal.SIGSTOP)
    os.truncate(cut, 300_000)
    process.send_signal(signal.SIGCONT)
    err = process.communicate(timeout=60)[1].decode()
    return process.returncode, err


@pytest.mark.parametrize("verb", ["up", "down"])
def test_a_large_file_that_shrinks_loses_no_other(box, verb):
    source, target = (box.here, box.workdir) if verb == "up" else (box.workdir, box.here)
    tree = make_tree(source / "tree")
    large_file(tree / "d/large")
    (target / "got/d").mkdir(parents=True)
    (target / "got/d/large").write_text("old")
    words = (*UP, "tree", "-T", "got") if verb == "up" else (*DOWN, "tree", "-T", "got")
    code, err = cut_meanwhile(box, target / "got/d", tree / "d/large", *words)
    assert code == 1 and "1 of" in err and "entries failed" in err
    assert "failed ./d/large: it shrank while it was read" in err
    assert (target / "got/d/large").read_text() == "old"
    os.remove(tree / "d/large")
    os.remove(target / "got/d/large")
    os.utime(tree / "d", ns=(0, (target / "got/d").stat().st_mtime_ns))
    assert_same_names(tree, target / "got")


def assert_same_names(one, other):
    assert run("diff", "-r", "--no-dereference", one, other, cwd="/") == b""


def test_tar_has_an_empty_file_of_what_was_withdrawn(ready, tmp_path):
    (ready.workdir / "tree").mkdir()
    large_file(ready.workdir / "tree/large")
    (ready.workdir / "tree/small").write_text("s")
    files = Files(ready)
    content, trailer = [], None
    request = files.asking_for("tree", as_archive=True)
    with pytest.raises(grpc.RpcError) as ended:
        for response in files._download(request, timeout=60):
            if response.WhichOneof("payload") == "header":
                time.sleep(0.5)  # what fits has been sent ahead
                os.truncate(ready.workdir / "tree/large", 300_000)
            content.append(response.chunk)
            trailer = response.trailer
    assert ended.value.code() == grpc.StatusCode.ABORTED and "1 of 2 entries failed" in ended.value.details()
    assert (trailer.tree.files, trailer.tree.failed, trailer.entries) == (1, 1, 2)
    (tmp_path / "a.tar").write_bytes(b"".join(content))
    (tmp_path / "out").mkdir()
    run("tar", "-xf", tmp_path / "a.tar", cwd=tmp_path / "out")
    assert (tmp_path / "out/small").read_text() == "s"
    info = (tmp_path / "out/large").stat()
    assert (info.st_size, info.st_mode & 0o777) == (0, 0)


def git(*words, cwd):
    return run("git", "-c", "core.excludesFile=/dev/null", *words, cwd=cwd).decode()


def make_repository(top):
    make_tree(top)
    git("init", "-q", cwd=top)
    (top / ".gitignore").write_text("*.log\n/build/\n!keep.log\nd/**/tmp?\n")
    (top / "d/.gitignore").write_text("!again.log\ne/secret\n")
    (top / ".git/info/exclude").write_text("*.local\n")
    for name in ("a.log", "keep.log", "build/x", "d/b.log", "d/again.log", "d/e/tmp1", "d/e/secret", "x.local", "e/secret"):
        (top / name).parent.mkdir(exist_ok=True)
        (top / name).write_text(name)
    return top


def names_in(top):
    return sorted(str(p.relative_to(top)) for p in top.rglob("*") if p.is_symlink() or not p.is_dir())


def test_gitignore(box):
    tree = make_repository(box.here / "tree")
    done = box(*UP, "tree")
    wanted = git("ls-files", "--cached", "--others", "--exclude-standard", cwd=tree).split("\n")
    assert names_in(box.workdir / "tree") == sorted(filter(None, wanted))
    assert ", 7 skipped by .gitignore" in done.err  # build and .git are one each
    assert box("-o", "json", *UP, "tree").json["ignored"] == 7
    box(*UP, "--no-git-ignore", "tree", "all")
    assert names_in(box.workdir / "all") == names_in(tree)


def test_gitignore_above(box):
    tree = make_repository(box.here / "tree")
    done = box(*UP, "tree/d", "d")
    assert names_in(box.workdir / "d") == [".gitignore", "again.log", "e/g", "run"]
    assert ", 3 skipped by .gitignore" in done.err
    box(*UP, "tree/build", "build")  # is out itself: but it was asked for
    assert names_in(box.workdir / "build") == ["x"]
    box(*UP, "tree/a.log", "a.log")
    assert (box.workdir / "a.log").exists()


def test_exclude_of_any_bytes(box):
    top = box.here / "tree"
    top.mkdir()
    for name in (b"one\xff.o", b"two\xff.o", b"\xe9", "é".encode(), b"f"):
        (top / os.fsdecode(name)).write_text("x")
    flags = [word for pattern in (b"*\xff.o", b"!two*", b"\xe9") for word in ("--exclude", os.fsdecode(pattern))]
    wanted = {b"two\xff.o", "é".encode(), b"f"}

    def names(folder):
        return {os.fsencode(p.name) for p in folder.iterdir()}

    box("cp", *flags, "tree", "box:up")
    assert names(box.workdir / "up") == wanted
    box("cp", "tree", "box:all")
    box("cp", *flags, "box:all", "down")
    assert names(box.here / "down") == wanted
    assert len(box("ls", *flags, "box:all").out.splitlines()) == 3


def test_exclude(box):
    make_tree(box.here / "tree")
    done = box(*UP, "--exclude", "/d/", "--exclude=hard", "tree")
    assert names_in(box.workdir / "tree") == ["dangling", "f", "link"]
    assert ", 2 skipped by patterns" in done.err
    done = box(*DOWN, "--exclude", "f", "tree", "back")
    assert names_in(box.here / "back") == ["dangling", "link"] and ", 1 skipped by patterns" in done.err
    assert ", 0 skipped by patterns" in box(*UP, "--exclude", "nothing", "tree").err


def test_links_followed(box):
    tree = make_tree(box.here / "tree")
    (tree / "dangling").unlink()
    (tree / "dir").symlink_to("d")
    box(*UP, "-L", "tree")
    there = box.workdir / "tree"
    assert not (there / "link").is_symlink() and (there / "link").read_bytes() == (tree / "d/e/g").read_bytes()
    assert (there / "dir/e/g").exists() and not (there / "dir").is_symlink()
