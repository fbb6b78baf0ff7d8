"""towline cp from one sandbox to another, broken off: the same command again goes on from what is
durable at the target, and what is there of another file is not made a part of this one."""

import contextlib
import os
import random
import re
import signal
import threading

import grpc
import pytest
from conftest import Ready, wait_until
from test_cli_across import Between, supervisor_of, two  # noqa: F401
from test_cli_download_resume import MIB, make_big, same
from test_cli_hostile_gateway import API, RESPONSE
from test_cli_upload_pieces import bytes_of
from test_download import digest
from test_upload_resume import restart
from towline_cli import box, clients_of  # noqa: F401

BIG = 256 * MIB


def durable(two):
    """What the later of the journal's slots says."""
    slots = []
    for path in two.other.glob(".f.towline-*.journal"):
        data = path.read_bytes()
        slots = [data[at : at + 512] for at in (0, 512) if data[at : at + 8] == b"TOWLJRNL"]
    if not slots:
        return 0
    slot = max(slots, key=lambda s: int.from_bytes(s[16:24], "little"))
    numbers = [int.from_bytes(slot[i : i + 8], "little") for i in (160, 168)]
    return bytes_of([numbers]) if int.from_bytes(slot[36:40], "little") else 0


def names(two):
    return sorted(path.name for path in two.other.iterdir())


def uploaded(two):
    """Bytes of content that the gateway has passed on to targets, of calls that are over."""
    found = re.findall(r"method=/openshell.v1.OpenShell/UploadFile .* bytes_up=(\d+)", two.gateway.log())
    return sum(map(int, found))


@pytest.fixture(scope="module")
def content():
    return random.Random(6).randbytes(MIB)


@pytest.fixture
def large(two, content):
    make_big(two.workdir / "f", content, BIG)
    (two.other / "f").write_text("old")
    return two.workdir / "f"


def begun(two, least=32 * MIB):
    process = two.popen("-o", "json", "cp", "box:f", "other:")
    wait_until(lambda: durable(two) > least or process.poll() is not None, 60, "some of it has come")
    assert process.poll() is None
    return process


def again(two):
    assert (two.other / "f").read_text() == "old"
    done = two("-o", "json", "cp", "box:f", "other:").json["copies"][0]
    assert done["bytes"] == BIG
    assert same(two.workdir / "f", two.other / "f")
    assert names(two) == ["f"]
    return done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("part", [0.1, 0.5])
def test_the_same_command_again(two, large, number, part):
    process = begun(two, part * BIG)
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    kept = durable(two)
    done = again(two)
    assert done["moved"] <= BIG - kept
    assert done["xxh3_128"] == digest(large.read_bytes()).hex()


def test_at_most_8_mib_are_sent_again(two, large):
    """At each of three cuts, together less than that each."""
    for seed in range(3):
        process = begun(two, random.Random(seed).randrange(BIG * (seed + 1) // 4))
        process.kill()
        process.communicate()
    again(two)
    wait_until(lambda: uploaded(two) >= BIG, 10, "the log says it all")
    assert uploaded(two) - BIG <= 3 * 8 * MIB


@pytest.mark.parametrize("victim", ["gateway", "source", "target"])
def test_it_goes_on_by_itself(ready, two, large, victim):
    process = begun(two, BIG // 2)
    if victim == "gateway":
        two.gateway.kill()
        two.gateway.start()
    else:
        other = Ready(two.gateway, two.gateway.get("other"))
        os.kill(supervisor_of(two, two.other_id if victim == "target" else two.box_id), signal.SIGKILL)
        restart(other if victim == "target" else ready)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    assert same(large, two.other / "f") and names(two) == ["f"]


@pytest.mark.parametrize("victim", ["gateway", "source", "target"])
def test_after_both_are_gone(ready, two, large, victim):
    """The client too, so that it is the same command that goes on."""
    process = begun(two, BIG // 2)
    process.kill()
    process.communicate()
    if victim == "gateway":
        two.gateway.kill()
        two.gateway.start()
        two.gateway.wait_phase("other", "READY")
        two.gateway.wait_phase("box", "READY")
    else:
        other = Ready(two.gateway, two.gateway.get("other"))
        os.kill(supervisor_of(two, two.other_id if victim == "target" else two.box_id), signal.SIGKILL)
        restart(other if victim == "target" else ready)
    kept = durable(two)
    assert kept >= BIG // 2 and again(two)["moved"] <= BIG - kept


def test_another_version_is_another_file(two, large, content):
    """Of the same name and size: nothing of the one before is in it."""
    process = begun(two)
    process.kill()
    process.communicate()
    make_big(two.workdir / "g", content[::-1], BIG)
    (two.workdir / "g").rename(large)
    assert two("-o", "json", "cp", "box:f", "other:").json["copies"][0]["moved"] == BIG
    assert same(large, two.other / "f")


def test_what_was_durable_is_damaged(two, large):
    """It is found out before it is put in place, and sent anew."""
    process = begun(two)
    process.kill()
    process.communicate()
    wait_until(lambda: supervisor_has_let_go(two), 10, "it has let go")
    part = next(path for path in two.other.glob(".f.towline-*") if path.suffix != ".journal")
    with open(part, "r+b") as file:
        file.seek(MIB)
        file.write(b"damaged")
    assert again(two)["moved"] > BIG


def supervisor_has_let_go(two):
    pid = supervisor_of(two, two.other_id)
    open_files = []
    for entry in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            open_files.append(os.readlink(f"/proc/{pid}/fd/{entry}"))
    return not any(".f.towline-" in name for name in open_files)


def test_two_commands_at_once(two, large):
    process = begun(two)
    process.send_signal(signal.SIGSTOP)
    try:
        assert "another upload to it is running" in two("cp", "box:f", "other:", code=1).err
    finally:
        process.send_signal(signal.SIGCONT)
    process.communicate(timeout=60)
    assert process.returncode == 0 and same(large, two.other / "f")


# A gateway that tells of what is there what it likes.

SIZE = 9 * MIB
HALF = 5 * MIB


class Resuming(Between):
    """Of a file of zeros; says that ${durable} bytes of it are there."""

    def __init__(self, durable=HALF, refusal=None, etags=(), knows_prefix=True):
        self.durable, self.refusal, self.knows_prefix = durable, refusal, knows_prefix
        self.etags = list(etags)
        self.uploads, self.forgotten, self.asked = [], 0, []
        self.lock = threading.Lock()
        super().__init__(self.file)

    def service(self, details):
        verb = details.method.rpartition("/")[2]
        answers = {"QueryUpload": self.query, "AbortUpload": self.abort}
        if verb not in answers:
            return super().service(details)
        return grpc.unary_unary_rpc_method_handler(
            answers[verb], response_serializer=lambda message: message.SerializeToString()
        )

    def query(self, request, context):
        if self.durable is None:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, "what is that?")
        return API["towline.v1.QueryUploadResponse"](durable_bytes=self.durable, size_bytes=SIZE)

    def abort(self, request, context):
        self.forgotten += 1
        self.durable = 0
        return API["towline.v1.AbortUploadResponse"]()

    def file(self, request, context):
        with self.lock:
            etag = self.etags.pop(0) if self.etags else "e"
            self.asked.append(request)
        if request.if_match not in ("", etag):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "if_match differs")
        rest = SIZE - request.offset
        yield RESPONSE(header={"size_bytes": rest, "etag": etag, "mode": 0o644})
        for _ in range(rest // MIB):
            yield RESPONSE(chunk=bytes(MIB))
        prefix = request.prefix_bytes if self.knows_prefix else 0
        value = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": digest(bytes(rest + prefix))}
        told = rest + prefix if prefix else 0
        yield RESPONSE(trailer={"bytes": rest, "digest": value, "digest_bytes": told})

    def upload(self, requests, context):
        m = next(requests).metadata
        data = b"".join(request.chunk for request in requests)
        with self.lock:
            self.uploads.append((m, len(data)))
        if self.refusal is not None and m.offset > 0:
            context.abort(self.refusal, "it was begun with another digest")
        value = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": digest(bytes(m.offset + len(data)))}
        return API["openshell.v1.UploadFileResponse"](bytes_written=m.offset + len(data), digest=value)


@pytest.fixture
def resuming(tmp_path):
    with clients_of(Resuming, tmp_path) as make:
        yield make


def copied(cli, code=0):
    return cli("cp", "-T", "a:f", "b:g", code=code)


def test_the_rest_is_sent_with_the_digest_of_the_whole(resuming):
    cli = resuming()
    copied(cli)
    ((m, received),) = cli.liar.uploads
    assert (m.offset, received, m.size_bytes) == (HALF, SIZE - HALF, SIZE)
    assert m.adds_digest and m.digest.value == digest(bytes(SIZE)) and m.upload_id
    assert [(q.offset, q.if_match) for q in cli.liar.asked] == [(0, ""), (SIZE, "e"), (HALF, "e")]


def test_all_is_there(resuming):
    """Then it has but to be put in its place."""
    cli = resuming(durable=SIZE)
    copied(cli)
    assert [(m.offset, received) for m, received in cli.liar.uploads] == [(SIZE, 0)]


@pytest.mark.parametrize("code", ["FAILED_PRECONDITION", "DATA_LOSS", "OUT_OF_RANGE"])
def test_what_is_there_is_refused(resuming, code):
    cli = resuming(refusal=getattr(grpc.StatusCode, code))
    copied(cli)
    assert cli.liar.forgotten == 1
    assert [(m.offset, m.HasField("digest")) for m, _ in cli.liar.uploads] == [(HALF, True), (0, False)]


def test_a_supervisor_that_knows_no_prefix(resuming):
    cli = resuming(knows_prefix=False)
    copied(cli)
    assert [(m.offset, received) for m, received in cli.liar.uploads] == [(0, SIZE)]


def test_a_gateway_that_knows_no_query(resuming):
    cli = resuming(durable=None)
    copied(cli)
    assert [(m.offset, m.upload_id) for m, _ in cli.liar.uploads] == [(0, "")]


def test_it_changes_in_between(resuming):
    """What is asked for is what was told of, or there is another try."""
    cli = resuming(durable=0, etags=["a", "b"])
    copied(cli)
    assert [q.if_match for q in cli.liar.asked] == ["", "a", "", "e"]
    ids = [m.upload_id for m, _ in cli.liar.uploads]
    assert len(ids) == 1


def test_it_changes_for_ever(resuming):
    cli = resuming(durable=0, etags=map(str, range(100)))
    assert "if_match differs" in copied(cli, 1).err
    assert not cli.liar.uploads and len(cli.liar.asked) == 8
