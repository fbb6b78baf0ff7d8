"""towline ls, stat, mkdir, mv, rm, cat and watch."""

import json
import os
import subprocess

import pytest
from conftest import wait_until
from towline_cli import box  # noqa: F401


@pytest.fixture
def tree(box):
    (box.workdir / "d/sub").mkdir(parents=True)
    (box.workdir / "d/b").write_bytes(b"12345")
    (box.workdir / "d/.hidden").touch()
    (box.workdir / "d/sub/.deep").touch()
    (box.workdir / "d/sub/c").touch()
    (box.workdir / "d/a").symlink_to("nowhere")
    (box.workdir / "d/b").chmod(0o4640)
    return box


def lines(done):
    return done.out.splitlines()


def test_ls(tree):
    assert lines(tree("ls", "box:d")) == ["a", "b", "sub"]
    assert lines(tree("ls", "box:")) == ["d"]
    assert lines(tree("ls", "-a", "box:d/")) == [".hidden", "a", "b", "sub"]
    assert lines(tree("ls", "-R", "box:d")) == ["a", "b", "sub", "sub/c"]
    assert lines(tree("ls", "-aR", "box:d", "--exclude", "sub/", "--exclude", ".h*")) == ["a", "b"]
    assert lines(tree("ls", "box:d/b")) == ["d/b"]
    assert lines(tree("ls", "box:d/a")) == ["d/a"]
    link, file, directory = lines(tree("ls", "-l", "box:d"))
    assert link.startswith("lrwxrwxrwx ") and link.endswith("Z a -> nowhere")
    assert file.split()[0] == "-rwSr-----".replace("x", "-") and file.split()[3] == "5"
    assert directory.startswith("drwxr-xr-x ")
    assert "none" in tree("ls", "box:none", code=1).err


def test_ls_as_json(tree):
    found = {entry["name"]: entry for entry in tree("-o", "json", "ls", "box:d").json}
    assert sorted(found) == ["a", "b", "sub"]
    assert (found["b"]["type"], found["b"]["size"], found["b"]["mode"]) == ("file", 5, "4640")
    assert (found["a"]["type"], found["a"]["symlink_target"]) == ("symlink", "nowhere")
    (tree.workdir / "empty").mkdir()
    assert tree("-o", "json", "ls", "box:empty").json == []


def test_paths_of_any_bytes(box):
    """What is typed goes as it is; what is printed is escaped."""
    raw, copy = os.fsdecode(b"d\xff/\xfe e"), os.fsdecode(b"d\xff/copy\xe9")
    box("mkdir", "-p", f"box:{raw}")
    assert (box.workdir / raw).is_dir()
    (box.here / raw).mkdir(parents=True)
    (box.here / raw / "f").write_text("text")
    box("cp", f"{raw}/f", f"box:{raw}/f")
    box("cp", f"{raw}/f", f"box:{raw}/")
    box("cp", "--transfers=1", f"box:{raw}/f", f"{raw}/back")
    assert (box.here / raw / "back").read_text() == "text"
    assert box("cat", f"box:{raw}/f").out == "text"
    box("cp", f"box:{raw}", f"box:{copy}")
    assert (box.workdir / copy / "f").read_text() == "text"
    box("cp", raw, f"box:{copy}")
    box("cp", f"box:{copy}", "tree")
    assert (box.here / "tree" / os.fsdecode(b"\xfe e") / "f").read_text() == "text"
    box("mv", f"box:{copy}/f", f"box:{copy}/" + os.fsdecode(b"\xe9"))
    assert lines(box("ls", f"box:{copy}")) == [r"\xe9", r"\xfe e"]
    assert lines(box("ls", "-R", f"box:{copy}")) == [r"\xe9", r"\xfe e", r"\xfe e/back", r"\xfe e/f"]
    found = box("-o", "json", "ls", f"box:{copy}").json
    assert {bytes.fromhex(entry["raw_path"]) for entry in found} == {b"d\xff/copy\xe9/\xe9", b"d\xff/copy\xe9/\xfe e"}
    assert r"d\xff/copy\xe9" in box("stat", f"box:{copy}").out
    assert r"d\xff/none" in box("stat", "box:" + os.fsdecode(b"d\xff/none"), code=1).err
    large = box.here / os.fsdecode(b"large\xff")
    large.write_bytes(os.urandom(9 << 20))  # which is resumable
    box("cp", large.name, f"box:{copy}/")
    box("cp", "--if-exists=skip", f"box:{copy}/{large.name}", large.name)
    assert (box.workdir / copy / large.name).read_bytes() == large.read_bytes()
    box("sandbox", "sync", "tree", f"box:{copy}")
    box("rm", "-r", f"box:{raw}", f"box:{copy}", "box:" + os.fsdecode(b"d\xff"))
    assert not list(box.workdir.iterdir())


def test_a_listing_longer_than_can_be_sorted(box):
    for i in range(10_050):
        os.close(os.open(box.workdir / f"{i}", os.O_CREAT))
    assert sorted(map(int, lines(box("ls", "box:")))) == list(range(10_050))


def test_names_do_not_reach_the_terminal_as_they_are(box):
    for name in ("\x1b]0;owned\x07", "two\nlines", "\x9bred", os.fsdecode(b"\xff")):
        (box.workdir / name).touch()
        os.symlink(name, box.workdir / f"to {len(name)} {name}")
    for command in (["ls", "-l", "box:"], ["ls", "-R", "box:"], ["-o", "json", "ls", "box:"],
                    ["stat", "box:two\nlines"], ["rm", "box:\x1b[0m"]):
        done = box(*command, code=None)
        text = (done.raw + done.err.encode()).replace(b"\n", b"")
        assert not any(byte < 32 or byte == 127 for byte in text) and b"\xc2\x9b" not in text
    assert r"two\x0alines" in box("ls", "box:").out


def test_stat(tree):
    out = tree("stat", "box:d/b").out
    for words in ("path:     d/b", "type:     file", "size:     5", "mode:     4640 -rwSr-----"):
        assert words in out
    assert "target:   nowhere" in tree("stat", "box:d/a").out
    assert tree("-o", "json", "stat", "box:d/sub").json["type"] == "directory"
    done = tree("stat", "-L", "box:d/a", "box:d/b", code=1)
    assert "d/b" in done.out and "d/a" in done.err


def test_mkdir(box):
    box("mkdir", "box:a", "box:b")
    assert "a exists" in box("mkdir", "box:a", "box:c", code=1).err
    assert (box.workdir / "c").is_dir()
    box("mkdir", "-p", "-m", "750", "box:x/y/z")
    assert (box.workdir / "x/y/z").stat().st_mode & 0o7777 == 0o750
    assert "no mode" in box("mkdir", "-m", "9", "box:q", code=2).err


def test_mv(tree):
    tree("mv", "box:d/b", "box:e")
    assert (tree.workdir / "e").read_bytes() == b"12345"
    tree("mv", "box:e", "box:d")
    assert (tree.workdir / "d/e").exists()
    tree("mv", "box:d/e", "box:d/sub/c", "box:.")
    assert (tree.workdir / "e").exists() and (tree.workdir / "c").exists()
    assert "e exists" in tree("mv", "-n", "box:c", "box:e", code=1).err
    tree("mv", "box:c", "box:e")
    assert (tree.workdir / "e").read_bytes() == b""
    assert "into itself" in tree("mv", "box:d", "box:d/sub", code=1).err
    assert "different sandboxes" in tree("mv", "box:d", "other:d", code=2).err
    assert "a directory" in tree("mv", "-T", "box:e", "box:d", code=1).err


def test_rm(tree):
    assert "not empty" in tree("rm", "box:d", code=1).err
    tree("rm", "box:d/b")
    assert "d/b" in tree("rm", "box:d/b", code=1).err
    tree("rm", "-f", "box:d/b")
    assert "removed box:d: 6 files" in tree("-v", "rm", "-r", "box:d").err
    assert tree("-o", "json", "rm", "-rf", "box:d").json["removed"] == 0


def test_cat(box):
    data = os.urandom(3 << 20)
    (box.workdir / "a").write_bytes(data)
    (box.workdir / "b").write_bytes(b"more\n")
    assert box("cat", "box:a", "box:b").raw == data + b"more\n"
    assert "directory" in box("cat", "box:.", code=1).err
    done = box("cat", "box:none", "box:b", code=1)
    assert done.raw == b"more\n" and "none" in done.err


@pytest.mark.parametrize("command", ["ls", "stat", "mkdir", "rm", "cat", "watch"])
def test_what_is_no_place_in_a_sandbox(box, command):
    assert "NAME:PATH" in box(command, "here", code=2).err
    assert "NAME:PATH" in box(command, "-", code=2).err
    assert "missing" in box(command, code=2).err
    assert "nobody" in box(command, "nobody:a", code=1).err


def test_watch(tree):
    patterns = ("--exclude", "*.tmp", "--exclude", os.fsdecode(b"*\xff"))
    process = tree.popen("watch", "-R", "box:d", *patterns, stdin=subprocess.DEVNULL)
    assert process.stderr.readline() == b"watching box:d\n"
    (tree.workdir / "d/x.tmp").touch()
    (tree.workdir / "d" / os.fsdecode(b"x\xff")).touch()
    (tree.workdir / "d/new\x1b").touch()
    assert process.stdout.readline() == b"created  d/new\\x1b\n"
    (tree.workdir / "d/new\x1b").rename(tree.workdir / "d/sub/other")
    while (line := process.stdout.readline()).startswith(b"changed"):
        pass
    assert line == b"moved    d/new\\x1b -> d/sub/other\n"
    process.terminate()
    assert process.wait(10) != 0
    for pipe in (process.stdout, process.stderr):
        pipe.close()


def test_watch_as_json_until_the_directory_is_gone(box):
    (box.workdir / "d").mkdir()
    process = box.popen("-o", "json", "-q", "watch", "box:d", stdin=subprocess.DEVNULL)
    wait_until(lambda: "method=/towline.v1.Files/WatchFiles" in box.gateway.log() or process.poll() is None, 5, "up")
    # It says nothing with -q: its first event is when it is in place.
    seen = []
    os.set_blocking(process.stdout.fileno(), False)

    def one():
        (box.workdir / "d/f").write_text("x")
        line = process.stdout.readline()
        if line:
            seen.append(json.loads(line))
        return seen

    wait_until(one, 10, "an event")
    assert seen[0]["event"] in ("created", "changed") and seen[0]["file"]["path"] == "d/f"
    (box.workdir / "d/f").unlink()
    (box.workdir / "d").rmdir()
    assert process.wait(10) == 1
    assert json.loads(process.stderr.read())["error"]["code"] == "NOT_FOUND"
    for pipe in (process.stdout, process.stderr):
        pipe.close()
