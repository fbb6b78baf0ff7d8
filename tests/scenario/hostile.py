"""Archives that mean harm, or lie: a table, for whoever unpacks.

Each row is a name, the archive, and what has to be there afterwards: the files of the
archive that are good, whatever became of the others. A row whose archive has nothing bad
in it that could be told is not OK either if `ok` is False.
"""

import dataclasses
import gzip
import io
import os
import tarfile

BLOCK = 512


@dataclasses.dataclass
class Row:
    name: str
    data: bytes
    files: dict = dataclasses.field(default_factory=dict)  # what must be there: name, content
    ok: bool = False
    says: str = ""  # a part of the error
    entries: int = 0  # as many as it has; 0: as many as there are files


def header(name, kind=tarfile.REGTYPE, link="", size=0, mode=0o644, pax=None, form=tarfile.USTAR_FORMAT):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, link, size, mode
    info.pax_headers = pax or {}
    return info.tobuf(tarfile.PAX_FORMAT if pax else form, "utf-8", "surrogateescape")


def file(name, content=b"bad", **fields):
    size = fields.pop("size", len(content))
    return header(name, size=size, **fields) + content + bytes(-len(content) % BLOCK)


def raw_header(name, kind=b"0", size=b"%011o\0" % 0, link=b"", mode=b"0000644\0", magic=b"ustar\00000"):
    """Whatever the fields are; the checksum is right."""
    head = bytearray(BLOCK)
    for offset, value in ((0, name[:100]), (100, mode), (108, b"0000000\0"), (116, b"0000000\0"), (124, size),
                          (136, b"00000000000\0"), (148, b" " * 8), (156, kind), (157, link[:100]), (257, magic)):
        head[offset : offset + len(value)] = value
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head)


def pax_records(records, name="x"):
    """An extended header of these very bytes."""
    return raw_header(b"PaxHeader/" + name.encode(), b"x", b"%011o\0" % len(records)) + records + bytes(
        -len(records) % BLOCK
    )


def record(key, value):
    body = b" " + key + b"=" + value + b"\n"
    length = len(body) + 1
    while len(str(length)) + len(body) != length:
        length += 1
    return str(length).encode() + body


def sparse(text, realsize, stored=b""):
    pax = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes"}
    pax["GNU.sparse.realsize"] = str(realsize)
    body = text.ljust(-(-len(text) // BLOCK) * BLOCK, b"\0") + stored
    return file("s", body, pax=pax)


BEFORE, AFTER, END = file("before", b"1"), file("after", b"2"), bytes(2 * BLOCK)
BOTH = {"before": b"1", "after": b"2"}
SYM, LINK, DIR = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE


def withdrawal(name):
    return header(name, mode=0, pax={"SCHILY.xattr.towline.withdrawn": "1"})


def among(name, *entries, **expect):
    """Between two good entries, which come out."""
    return Row(name, BEFORE + b"".join(entries) + AFTER + END, {**BOTH, **expect.pop("files", {})}, **expect)


def only_before(name, data):
    return Row(name, BEFORE + data, {"before": b"1"})


def rows(outside):
    """${outside} is a directory that nothing may reach; "../secret" is a file beside the target."""
    away = str(outside)
    deep = "/".join(["d"] * 200)
    zeros = gzip.compress(file("zeros", bytes(64 << 20)) + END, 9)
    large = os.urandom((256 << 10) + 1)
    return [
        among("absolute", file("/abs/f")),
        among("absolute-outside", file(away + "/f")),
        among("double-slash", file("//f")),
        among("dotdot", file("../up")),
        among("dotdot-inside", file("a/../../up")),
        among("dotdot-alone", file("..")),
        among("dotdot-dir", header("../", DIR)),
        among("dotdot-pax", file("x", pax={"path": "../up"})),
        among("absolute-pax", file("x", pax={"path": away + "/f"})),
        among("symlink-absolute", header("l", SYM, away)),
        among("symlink-up", header("l", SYM, "..")),
        among("symlink-up-deep", header("a/l", SYM, "../../x")),
        among("symlink-pax", header("l", SYM, "x", pax={"linkpath": away})),
        among("symlink-empty", header("l", SYM, "")),
        among("symlink-then-through", header("l", SYM, away), file("l/f")),
        among("symlink-inside-then-through", header("d", DIR, mode=0o755), header("l", SYM, "d"), file("l/f")),
        among("two-hops", header("d", DIR, mode=0o755), header("a", SYM, "d"), header("b", SYM, "a/../.."), file("b/f")),
        among("hardlink-absolute", header("h", LINK, away + "/secret")),
        among("hardlink-up", header("h", LINK, "../secret")),
        among("hardlink-missing", header("h", LINK, "nothing")),
        among("hardlink-dir", header("d", DIR, mode=0o755), header("h", LINK, "d")),
        among("hardlink-symlink", header("s", SYM, "before"), header("h", LINK, "s")),
        among("hardlink-itself", header("h", LINK, "h")),
        among("hardlink-through-symlink", header("l", SYM, away), header("h", LINK, "l/secret")),
        among("character-device", raw_header(b"null", b"3")),
        among("block-device", raw_header(b"disk", b"4")),
        among("fifo", raw_header(b"pipe", b"6")),
        among("long-name", file("n" * 300, form=tarfile.GNU_FORMAT)),
        among("long-path", file("d/" * 2500 + "f", form=tarfile.GNU_FORMAT)),
        among("deep", file(deep + "/f", form=tarfile.GNU_FORMAT)),
        among("gnu-long-link-away", header("l", SYM, away + "/" + "x" * 150, form=tarfile.GNU_FORMAT)),
        among("nul-in-pax-path", pax_records(record(b"path", b"a\0../up")) + file("x"), ok=True, files={"a": b"bad"}),
        among("newline", file("new\nline", b"n"), ok=True, files={"new\nline": b"n"}),
        among("escape", file("\x1b[2Jx", b"n"), ok=True, files={"\x1b[2Jx": b"n"}),
        among("escape-refused", file("../\x1b]0;x\x07")),
        among("empty-name", raw_header(b"")),
        among("setuid", file("tool", b"#!", mode=0o6777), ok=True, files={"tool": b"#!"}),
        among("twice", file("f", b"old"), file("f", b"new"), ok=True, entries=4, files={"f": b"new"}),
        among("file-then-dir", file("d", b"f"), header("d", DIR, mode=0o755), file("d/x"), files={"d": b"f"}),
        among("dir-then-file", header("d", DIR, mode=0o755), file("d/x", b"x"), file("d"), files={"d/x": b"x"}),
        among("file-as-parent", file("f", b"f"), file("f/x"), files={"f": b"f"}),
        among("attribute-too-long", file("x", pax={"SCHILY.xattr.user.a": "x" * 70_000})),
        among("foreign-attribute", file("x", b"x", pax={"SCHILY.xattr.security.capability": "x"}), ok=True,
              files={"x": b"x"}),
        among("withdrawn", file("big", large), withdrawal("big"), ok=True, entries=2),
        among("withdrawn-and-packed-anew", file("big", large), withdrawal("big"), file("big", b"b"), ok=True, entries=3,
              files={"big": b"b"}),
        among("withdrawn-small", file("x", b"x"), withdrawal("x"), files={"x": b"x"}),
        among("withdrawn-another", file("big", large), withdrawal("before"), files={"big": large}),
        among("withdrawn-twice", file("big", large), withdrawal("big"), withdrawal("big")),
        among("withdrawn-late", file("big", large), file("x", b"x"), withdrawal("big"), files={"big": large, "x": b"x"}),
        among("withdrawn-out-of-it", file("../big", large), withdrawal("../big")),
        only_before("withdrawn-or-not", file("big", large) + raw_header(b"x").replace(b"ustar", b"uztar") + END),
        only_before("pax-size-negative", file("x", b"x" * 512, pax={"size": "-5"}) + END),
        among("pax-garbage", pax_records(b"no record at all\n"), file("x"), ok=True, files={"x": b"bad"}),
        among("pax-length-lies", pax_records(b"99999999 path=../y\n"), file("x"), ok=True, files={"x": b"bad"}),
        only_before("pax-huge", raw_header(b"p", b"x", b"77777777777\0") + bytes(BLOCK) + END),
        only_before("long-name-huge", raw_header(b"L", b"L", b"77777777777\0") + bytes(BLOCK) + END),
        only_before("size-huge", header("huge", size=1 << 32) + bytes(BLOCK)),
        only_before("size-base256", raw_header(b"huge", b"0", b"\x80" + b"\0" * 3 + b"\x7f" + b"\xff" * 7) + bytes(BLOCK)),
        only_before("size-base256-negative", raw_header(b"neg", b"0", b"\xff" * 12) + bytes(BLOCK) + END),
        only_before("checksum", raw_header(b"x").replace(b"ustar", b"uztar") + END),
        only_before("truncated-content", file("x", b"x" * 5000)[:2000]),
        only_before("truncated-header", file("x")[:200]),
        only_before("sparse-too-big", sparse(b"1\n0\n0\n", 1 << 60) + END),
        only_before("sparse-past-its-end", sparse(b"1\n100\n600\n", 200, b"x" * 1024) + END),
        only_before("sparse-count-lies", sparse(b"99999999999999\n0\n1\n", 100, b"x" * 512) + END),
        Row("sparse-map-of-millions", gzip.compress(BEFORE + sparse(b"9000000\n" + b"0\n0\n" * 9_000_000, 1 << 30) + END, 9),
            {"before": b"1"}, says="entry 2 of the archive has more than 4194304 bytes of headers"),
        only_before("sparse-negative", sparse(b"1\n-5\n10\n", 100, b"x" * 512) + END),
        Row("bomb", zeros),
        Row("bomb-refused", gzip.compress(BEFORE + file("../zeros", bytes(64 << 20)) + AFTER + END, 9), {"before": b"1"}),
        Row("nothing", b""),
        Row("only-directories", header("d", DIR, mode=0o755) + END),
        Row("noise", os.urandom(4096)),
        Row("gzip-of-noise", b"\x1f\x8b\x08" + os.urandom(1000)),
    ]
