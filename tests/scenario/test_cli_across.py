"""towline cp from one sandbox to another: all of it or nothing, and none of it on a disk here."""

import contextlib
import os
import random
import signal
import time

import grpc
import pytest
from conftest import wait_until
from test_cli_cp import ROWS, check, content, furnish_source, furnish_target
from test_cli_hostile_gateway import API, GOOD, LIES, Liar, chunk, fixed, header, trailer
from test_cli_transfer import make_tree, picture
from test_download import digest
from towline_cli import box, clients_of  # noqa: F401

MIB = 1 << 20


@pytest.fixture
def two(box, ready):
    """A person with a second sandbox, "other"."""
    made = box.gateway.create("other")
    box.box_id = ready.id
    box.other_id = made.metadata.id
    box.other = box.gateway.sandbox_dir(made.metadata.id) / "work"
    return box


def supervisor_of(box, sandbox_id):
    return int((box.gateway.sandbox_dir(sandbox_id) / "supervisor.pid").read_text().split()[0])


@pytest.mark.parametrize("words,places", ROWS)
def test_to_another(two, words, places):
    furnish_source(two.workdir)
    furnish_target(two.other)
    sources = [word if word.startswith("-") else f"box:{word}" for word in words[:-1]]
    done = two("cp", *sources, f"other:{words[-1]}", code=None)
    check(two.other, places, done)
    assert not list(two.here.iterdir())


@pytest.mark.parametrize("words,places", ROWS)
def test_to_the_same(box, words, places):
    furnish_source(box.workdir)
    (box.workdir / "to").mkdir()
    furnish_target(box.workdir / "to")
    sources = [word if word.startswith("-") else f"box:{word}" for word in words[:-1]]
    done = box("cp", *sources, f"box:to/{words[-1]}", code=None)
    check(box.workdir / "to", places, done)


@pytest.mark.parametrize("size", [0, 1, 65536, (20 << 20) + 1])
def test_a_file(two, size):
    data = random.Random(size).randbytes(size)
    source = two.workdir / "f"
    source.write_bytes(data)
    source.chmod(0o640)
    os.utime(source, ns=(1, 1_234_567_890_987_654_321))
    done = two("-o", "json", "cp", "box:f", "other:d/g").json["copies"][0]
    assert (done["sandbox"], done["to"], done["target"]) == ("box", "other", "d/g")
    assert (done["files"], done["bytes"], done["moved"]) == (1, size, size)
    assert done["xxh3_128"] == digest(data).hex()
    copy = two.other / "d/g"
    assert copy.read_bytes() == data
    assert (copy.stat().st_mode & 0o7777, copy.stat().st_mtime_ns) == (0o640, 1_234_567_890_987_654_321)
    assert "copied f to ./f: 1 file" in two("cp", "box:f", "other:").err


def test_a_tree(two):
    tree = make_tree(two.workdir / "tree")
    os.mkfifo(tree / "pipe")
    done = two("cp", "box:tree", "other:", code=23)
    assert "skipped ./pipe" in done.err and "copied tree to ./tree: 6 files" in done.err
    os.remove(tree / "pipe")
    assert picture(two.other / "tree") == picture(tree)
    done = two("cp", "--exclude=*.c", "--exclude", "d", "box:tree", "other:some")
    assert "1 skipped by patterns" in done.err and not (two.other / "some/d").exists()
    (tree / os.fsdecode(b"no\xff")).touch()
    two("cp", "--exclude", os.fsdecode(b"*\xff"), "--exclude", "d", "box:tree", "other:more")
    assert not (two.other / "more/d").exists() and not (two.other / "more" / os.fsdecode(b"no\xff")).exists()
    (two.workdir / "nothing/d").mkdir(parents=True)
    assert "no file" in two("cp", "box:nothing", "other:", code=1).err


def test_several_of_several(two):
    (two.here / "a").write_text("a")
    (two.workdir / "b").write_text("b")
    (two.other / "c").write_text("c")
    done = two("cp", "a", "box:b", "other:c", "box:missing", "other:d/", code=1)
    assert content(two.other / "d") == {"a": "a", "b": "b", "c": "c"}
    assert "there is no missing in sandbox box" in done.err and "copied 3 of 4 to d/" in done.err


def test_onto_itself(box):
    tree = make_tree(box.workdir / "tree")
    (tree / "f").write_text("whole")
    for source, target in (("tree", "tree/d/x"), ("./tree/", "tree"), ("tree/d/..//d", "tree/d/../d/e/x")):
        assert "into itself" in box("cp", "-T", f"box:{source}", f"box:{target}", code=1).err
    assert "same file" in box("cp", "box:tree/f", "box:./tree", code=1).err
    box("cp", "box:tree/f", "box:tree/ff")
    assert (tree / "f").read_text() == (tree / "ff").read_text() == "whole"


def test_what_is_there(two):
    (two.workdir / "f").write_text("new")
    (two.other / "f").write_text("old")
    assert "f is there already" in two("cp", "--if-exists=fail", "box:f", "other:", code=1).err
    assert (two.other / "f").read_text() == "old"
    two("cp", "box:f", "other:")
    assert (two.other / "f").read_text() == "new"
    (two.other / "d/f").mkdir(parents=True)
    assert "other: d/f is a directory" in two("cp", "box:f", "other:d", code=1).err
    assert "missing" in two("cp", "box:f", "missing:", code=1).err


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_what_is_there_already_is_not_sent(two, size):
    data = os.urandom(size)
    (two.workdir / "f").write_bytes(data)
    skip = ("-o", "json", "cp", "--if-exists=skip", "box:f", "other:")
    assert two(*skip).json["copies"][0]["moved"] == size
    before = (two.other / "f").stat()
    done = two(*skip).json["copies"][0]
    assert (done["same"], done["moved"], done["bytes"], done["xxh3_128"]) == (True, 0, size, digest(data).hex())
    assert (two.other / "f").stat().st_ino == before.st_ino
    for other in (os.urandom(size), os.urandom(size + 1)):
        (two.other / "f").write_bytes(other)
        assert "same" not in two(*skip).json["copies"][0] or other == data
        assert (two.other / "f").read_bytes() == data
    (two.other / "f").rename(two.other / "g")
    (two.other / "f").symlink_to("g")
    assert two(*skip).json["copies"][0]["moved"] == size
    assert not (two.other / "f").is_symlink()
    assert "there is no none" in two("cp", "--if-exists=skip", "box:none", "other:", code=1).err


def test_one_entry_that_fails_at_either_end(two):
    tree = make_tree(two.workdir / "tree")
    (two.other / "to/d/run").mkdir(parents=True)
    done = two("cp", "-T", "box:tree", "other:to", code=1)
    assert "failed d/run: " in done.err and "other: 1 of" in done.err
    assert (two.other / "to/d/e/g").read_bytes() == (tree / "d/e/g").read_bytes()


def begin(box, *words):
    """A large file, and the program when some of it has come."""
    with open(box.workdir / "large", "wb") as file:
        for _ in range(512):
            file.write(os.urandom(MIB))
    (box.other / "large").write_text("old")
    process = box.popen("cp", "box:large", "other:", *words)
    part = lambda: [path for path in box.other.iterdir() if path.name != "large"]  # noqa: E731
    wait_until(lambda: part() and part()[0].stat().st_blocks > 0, 60, "it has begun")
    return process


def memory(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("VmRSS"))


def test_a_target_that_waits_makes_the_source_wait(two):
    process = begin(two)
    stopped = supervisor_of(two, two.other_id)
    os.kill(stopped, signal.SIGSTOP)
    try:
        time.sleep(1.5)
        assert process.poll() is None
        assert memory(process.pid) < 256 * MIB
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert process.wait(60) == 0
    process.communicate()
    assert (two.other / "large").read_bytes() == (two.workdir / "large").read_bytes()


def is_old(two):
    """Nothing is there beside the old file but what may be gone on with."""
    assert (two.other / "large").read_text() == "old"
    others = [path.name for path in two.other.iterdir() if path.name != "large"]
    assert all(name.startswith(".large.towline-") for name in others), others


@pytest.mark.parametrize("what", ["client", "source", "target", "Ctrl-C", "file"])
def test_what_is_broken_off_leaves_the_old_file(two, what):
    process = begin(two)
    process.send_signal(signal.SIGSTOP)
    if what == "client":
        process.kill()
    elif what == "Ctrl-C":
        process.send_signal(signal.SIGINT)
    elif what == "file":
        os.truncate(two.workdir / "large", 1000)
    else:
        sandbox = two.other_id if what == "target" else two.box_id
        os.kill(supervisor_of(two, sandbox), signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGCONT)
    err = process.communicate(timeout=60)[1].decode()
    assert process.returncode != 0
    if what == "file":
        assert "box: " in err and "shrank" in err
    is_old(two)


def test_no_resume_leaves_nothing(two):
    process = begin(two, "--no-resume")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    wait_until(lambda: [path.name for path in two.other.iterdir()] == ["large"], 30, "nothing else is there")
    is_old(two)


class Between(Liar):
    """It also takes uploads; ${stored} has those that were ended."""

    def __init__(self, answers, answer=None, **options):
        self.stored = []
        self.answer = answer
        super().__init__(answers, **options)

    def service(self, details):
        if not details.method.endswith("/UploadFile"):
            return super().service(details)
        return grpc.stream_unary_rpc_method_handler(
            self.upload,
            request_deserializer=API["openshell.v1.UploadFileRequest"].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def upload(self, requests, context):
        data = b"".join(request.chunk for request in requests)
        time.sleep(0.3)  # what is cancelled may be heard of a moment after its requests ended
        if context.is_active():
            self.stored.append(data)
        value = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": digest(data)}
        return self.answer or API["openshell.v1.UploadFileResponse"](bytes_written=len(data), digest=value)


@pytest.fixture
def between(tmp_path):
    with clients_of(Between, tmp_path) as make:
        yield make


def test_the_truth(between):
    cli = between(fixed(header(), chunk(), trailer()))
    cli("cp", "-T", "a:f", "b:g")
    assert cli.liar.stored == [GOOD]


@pytest.mark.parametrize("name", LIES)
def test_lies_of_the_source(between, name):
    """Whatever is wrong with it, the target is not told that it was all."""
    cli = between(LIES[name][0])
    done = cli("cp", "-T", "a:f", "b:g", code=1)
    assert done.err.startswith("towline: ") and not set(done.err) & set("\x1b\x07\0")
    assert cli.liar.stored == []


WRONG = {
    "another digest": {"bytes_written": len(GOOD), "digest": {"algorithm": 1, "value": bytes(16)}},
    "another size": {"bytes_written": 3, "digest": {"algorithm": 1, "value": digest(GOOD)}},
}


@pytest.mark.parametrize("name", WRONG)
def test_lies_of_the_target(between, name):
    answer = API["openshell.v1.UploadFileResponse"](**WRONG[name])
    cli = between(fixed(header(), chunk(), trailer()), answer=answer)
    assert "what sandbox b has stored is not what was sent" in cli("cp", "-T", "a:f", "b:g", code=1).err
