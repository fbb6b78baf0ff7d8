"""A gateway that lies: towline cp ends with an error that says why, and nothing of what is
outside of its destination is touched, nor does the terminal see control characters."""

import concurrent.futures
import io
import os
import tarfile
import time

import grpc
import pytest
import towline_api
from test_download import digest
from towline_cli import clients_of

API = towline_api.load()
MIB = 1 << 20
REQUEST = API["openshell.v1.DownloadFileRequest"]
RESPONSE = API["openshell.v1.DownloadFileResponse"]
GOOD = b"what was asked for"


def header(size=len(GOOD), **fields):
    return RESPONSE(header={"size_bytes": size, "mode": 0o644, "etag": "e", **fields})


def chunk(data=GOOD):
    return RESPONSE(chunk=data)


def trailer(data=GOOD, **fields):
    value = {"algorithm": "DIGEST_ALGORITHM_XXH3_128", "value": digest(data)}
    return RESPONSE(trailer={"bytes": len(data), "digest": value, **fields})


class Liar:
    """A server of DownloadFile: answers() is what it says, after it was asked what there is."""

    def __init__(self, answers, is_tree=False):
        self.answers = answers
        self.is_tree = is_tree
        self.calls = 0
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers((self,))
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def service(self, details):
        if details.method.endswith("/StatFile"):
            return grpc.unary_unary_rpc_method_handler(
                lambda request, context: self.what_is_there(),
                response_serializer=lambda message: message.SerializeToString(),
            )
        if not details.method.endswith("/DownloadFile"):
            return None
        return grpc.unary_stream_rpc_method_handler(
            self.download,
            request_deserializer=REQUEST.FromString,
            response_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
        )

    def what_is_there(self):
        kind = "FILE_TYPE_DIRECTORY" if self.is_tree else "FILE_TYPE_FILE"
        return API["towline.v1.StatFileResponse"](file={"type": kind})

    def download(self, request, context):
        self.calls += 1
        yield from self.answers(request, context)


@pytest.fixture
def lied_to(tmp_path):
    """A person whose gateway lies: lied_to(answers) -> the program, to be called."""
    (tmp_path / "in").mkdir()
    with clients_of(Liar, tmp_path / "in") as make:
        yield make
    outside = [str(path.relative_to(tmp_path)) for path in tmp_path.iterdir()]
    assert outside in ([], ["in"]), outside


def fixed(*messages):
    return lambda request, context: iter(messages)


def endless(request, context):
    yield header()
    while context.is_active():
        yield chunk(bytes(MIB))


def endless_holes(request, context):
    yield header()
    while context.is_active():
        yield RESPONSE(hole_bytes=1 << 40)


def fails_with(code, words, *before):
    def answers(request, context):
        yield from before
        context.abort(code, words)

    return answers


LIES = {
    "no answer at all": (fixed(), "before it was complete"),
    "no trailer": (fixed(header(), chunk()), "before it was complete"),
    "less than promised": (fixed(header(100), chunk(), trailer()), "less came than was promised"),
    "more than promised": (fixed(header(3), chunk(), trailer()), "more came than was promised"),
    "another digest": (fixed(header(), chunk(), trailer(b"another")), "digest"),
    "no digest": (fixed(header(), chunk(), RESPONSE(trailer={"bytes": len(GOOD)})), "no digest"),
    "a short digest": (
        fixed(header(), chunk(), RESPONSE(trailer={"digest": {"algorithm": 1, "value": b"short"}})),
        "no digest",
    ),
    "endless": (endless, "more came than was promised"),
    "endless holes": (endless_holes, "more came than was promised"),
    "a hole of all there is": (
        fixed(header(5), RESPONSE(hole_bytes=(1 << 64) - 1), trailer()),
        "more came than was promised",
    ),
    "no header": (fixed(chunk(), trailer()), "content before its header"),
    "two headers": (fixed(header(), header(), chunk(), trailer()), "header that does not belong"),
    "an archive's header": (fixed(header(is_archive=True), chunk(), trailer()), "does not belong"),
    "content behind the trailer": (fixed(header(), chunk(), trailer(), chunk(b"x")), "more came than"),
    "two trailers": (fixed(header(), chunk(), trailer(), trailer()), "trailer where none belongs"),
    "a size that cannot be": (fixed(header((1 << 64) - 1), chunk(), trailer()), ""),
    "a size no disk has": (fixed(header(1 << 60), chunk(), trailer()), ""),
    "a size of holes no disk has": (fixed(header(1 << 62, sparse=True), chunk(), trailer()), ""),
    "no message": (fixed(b"\xff\xff\xff\xff"), ""),
    "an error of control characters": (
        fails_with(grpc.StatusCode.NOT_FOUND, "gone \x1b]0;title\x07\x1b[2J\r\nall is well"),
        r"gone \x1b]0;title\x07\x1b[2J\x0d\x0aall is well",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_lies_about_a_file(lied_to, name):
    answers, words = LIES[name]
    cli = lied_to(answers)
    (cli.here / "f").write_text("old")
    began = time.monotonic()
    done = cli("cp", "box:f", "f", code=1)
    assert words in done.err and done.err.startswith("towline: ") and done.err.count("\n") == 1
    assert "\x1b" not in done.err and "\x07" not in done.err
    assert (cli.here / "f").read_text() == "old"
    assert [path.name for path in cli.here.iterdir()] == ["f"]
    assert time.monotonic() - began < 20


def test_the_truth(lied_to):
    cli = lied_to(fixed(header(mode=0o7777), chunk(), trailer()))
    cli("cp", "box:f", ".")
    assert (cli.here / "f").read_bytes() == GOOD
    assert (cli.here / "f").stat().st_mode & 0o7777 == 0o777


def test_unavailable_for_ever(lied_to):
    cli = lied_to(fails_with(grpc.StatusCode.UNAVAILABLE, "try again"))
    process = cli.popen("cp", "box:f", "f")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1 and b"try again" in err
    assert cli.liar.calls == 9
    assert not list(cli.here.iterdir())


def test_another_file_each_time(lied_to):
    """It breaks off, and if_match never holds."""

    def answers(request, context):
        if request.if_match:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another file")
        yield header(8 * MIB)
        yield chunk(bytes(2 * MIB))
        context.abort(grpc.StatusCode.UNAVAILABLE, "gone")

    cli = lied_to(answers)
    done = cli("cp", "box:f", "f", code=1)
    assert "another file" in done.err
    assert cli.liar.calls <= 10


def broken_then(second):
    """Two MiB of eight come, the call breaks off, and what is said then is a lie."""

    def answers(request, context):
        if request.offset == 0:
            yield header(8 * MIB)
            yield chunk(bytes(2 * MIB))
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        yield from second(request)

    return answers


RESUMED_LIES = {
    "another size": lambda q: iter([header(3 * MIB, total_bytes=5 * MIB)]),
    "another etag": lambda q: iter([header(8 * MIB - q.offset, total_bytes=8 * MIB, etag="other")]),
    "from the beginning": lambda q: iter([header(8 * MIB)]),
    "a digest of the rest": lambda q: iter(
        [header(6 * MIB, total_bytes=8 * MIB), chunk(bytes(3 * MIB)), chunk(bytes(3 * MIB)), trailer(bytes(6 * MIB))]
    ),
    "a wrong digest": lambda q: iter(
        [
            header(6 * MIB, total_bytes=8 * MIB),
            chunk(bytes(3 * MIB)),
            chunk(bytes(3 * MIB)),
            trailer(b"x", digest_bytes=8 * MIB),
        ]
    ),
}


@pytest.mark.parametrize("name", RESUMED_LIES)
def test_lies_about_the_rest(lied_to, name):
    cli = lied_to(broken_then(RESUMED_LIES[name]))
    done = cli("cp", "box:f", "f", code=1)
    assert "towline: f: " in done.err
    assert not list(cli.here.iterdir()) and cli.liar.calls <= 12


def test_the_rest(lied_to):
    cli = lied_to(
        broken_then(
            lambda q: iter(
                [
                    header(8 * MIB - q.offset, total_bytes=8 * MIB),
                    RESPONSE(hole_bytes=8 * MIB - q.offset),
                    trailer(bytes(8 * MIB), digest_bytes=8 * MIB),
                ]
            )
        )
    )
    cli("cp", "box:f", "f")
    assert (cli.here / "f").read_bytes() == bytes(8 * MIB)


def tar(*entries):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, fields, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


ESCAPES = {
    "above": [("../evil", {}, b"evil")],
    "absolute": [("/tmp/towline-evil", {}, b"evil")],
    "through a link": [
        ("link", {"type": tarfile.SYMTYPE, "linkname": "../.."}, b""),
        ("link/evil", {}, b"evil"),
    ],
    "through an absolute link": [
        ("link", {"type": tarfile.SYMTYPE, "linkname": "/tmp"}, b""),
        ("link/towline-evil", {}, b"evil"),
    ],
    "a hard link": [("passwd", {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"}, b"")],
    "a hard link above": [("f", {"type": tarfile.LNKTYPE, "linkname": "../../../../../etc/passwd"}, b"")],
    "dots within": [("a/../../evil", {}, b"evil")],
    "a device": [("null", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3}, b"")],
}


@pytest.mark.parametrize("name", ESCAPES)
def test_archives_that_escape(lied_to, name):
    data = tar(("./", {"type": tarfile.DIRTYPE, "mode": 0o755}, b""), *ESCAPES[name])
    entries = len(ESCAPES[name]) + 1
    cli = lied_to(
        fixed(RESPONSE(header={"is_archive": True}), chunk(data), trailer(data, entries=entries)), is_tree=True
    )
    done = cli("cp", "box:t", "t", code=None)
    assert done.code in (1, 23) and done.err
    assert not os.path.exists("/tmp/towline-evil") and not (cli.folder / "evil").exists()
    for path in cli.here.rglob("*"):  # a directory of its own may stand where the link was to be
        assert path.resolve().is_relative_to((cli.here / "t").resolve()), path
        assert not path.is_file() or path.read_bytes() in (b"evil", b"")


def test_names_and_modes_of_archives(lied_to):
    data = tar(
        ("./", {"type": tarfile.DIRTYPE, "mode": 0o755}, b""),
        ("\x1b[2J\nname", {"mode": 0o6755}, b"x"),
        ("dev\x1b[31m", {"type": tarfile.FIFOTYPE}, b""),
    )
    cli = lied_to(
        fixed(RESPONSE(header={"is_archive": True}), chunk(data), trailer(data, entries=3)), is_tree=True
    )
    done = cli("cp", "box:t", "t", code=None)
    assert "\x1b" not in done.err and "\r" not in done.err
    for path in (cli.here / "t").iterdir():
        assert path.stat().st_mode & 0o7000 == 0


def test_an_archive_with_another_count(lied_to):
    data = tar(("./", {"type": tarfile.DIRTYPE, "mode": 0o755}, b""), ("f", {}, b"x"))
    for count in (1, 3, 1 << 60):
        cli = lied_to(
            fixed(RESPONSE(header={"is_archive": True}), chunk(data), trailer(data, entries=count)), is_tree=True
        )
        assert "entries" in cli("cp", "box:t", "t", code=1).err
