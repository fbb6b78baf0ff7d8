"""towline cp: where copies land, several at a time, standard input and output."""

import json
import random

import lands
import pytest
from towline_cli import box  # noqa: F401

ROWS = [pytest.param(words, places, id=what) for what, words, places in lands.rows()]


def furnish_source(top):
    (top / "a/t").mkdir(parents=True)
    (top / "b").mkdir()
    for place in ("a/f", "a/h", "a/t/g", "b/f"):
        (top / place).write_text(place)


def furnish_target(top):
    (top / "d").mkdir()
    (top / "old").write_text("old")


def content(top):
    return {str(path.relative_to(top)): path.read_text() for path in top.rglob("*") if path.is_file()}


def check(top, places, done):
    now = content(top)
    if places:
        assert done.code == 0, done.err
        assert set(now) - {"old"} == set(places) - {"old"}
        for place in places:
            assert now[place].startswith("a/") and now[place] != "old"
    else:
        assert done.code == 1 and done.err.startswith("towline: "), done.err
        assert now.get("old") == "old" and now.get("d/f") in (None, "a/f")


@pytest.mark.parametrize("words,places", ROWS)
def test_up(box, words, places):
    furnish_source(box.here)
    furnish_target(box.workdir)
    done = box("cp", *words[:-1], f"box:{words[-1]}", code=None)
    check(box.workdir, places, done)


@pytest.mark.parametrize("words,places", ROWS)
def test_down(box, words, places):
    furnish_source(box.workdir)
    furnish_target(box.here)
    sources = [word if word.startswith("-") else f"box:{word}" for word in words[:-1]]
    done = box("cp", *sources, words[-1], code=None)
    check(box.here, places, done)


def test_the_page_has_the_table(box):
    page = (lands.PATH.parents[2] / "docs/cli.md").read_text()
    shown = page.split("<!-- lands -->")[1].strip().splitlines()[2:]
    assert len(shown) == len(ROWS)
    for row, (what, words, _) in zip(shown, lands.rows()):
        assert row.startswith(f"| {what} | `{' '.join(words)}` |"), "run scripts/cli-doc"


def test_which_side_is_meant(box):
    (box.here / "a:b").write_text("colon")
    (box.here / "f").write_text("file")
    box("cp", "./a:b", "box:")
    assert (box.workdir / "a:b").read_text() == "colon"
    box("cp", "box:a:b", "./c:d")
    assert (box.here / "c:d").read_text() == "colon"
    box("cp", box.here / "a:b", f"box:{box.workdir}/absolute")
    assert (box.workdir / "absolute").read_text() == "colon"
    assert "neither" in box("cp", "f", "g", code=2).err
    assert "neither" in box("cp", "f", "./box:g", code=2).err
    assert "other" in box("cp", "f", "other:", code=1).err


def test_standard_input_and_output(box):
    data = random.Random(3).randbytes(3_000_000)
    box("cp", "-", "box:from-stdin", input=data)
    assert (box.workdir / "from-stdin").read_bytes() == data
    assert box("cp", "box:from-stdin", "-").raw == data
    assert "name" in box("cp", "-", "box:", code=1, input=b"").err
    assert "one source" in box("cp", "-", "f", "box:d/", code=2, input=b"").err
    assert "one source" in box("cp", "box:a", "box:b", "-", code=2).err
    assert "one source" in box("cp", "-T", "a", "b", "box:d", code=2).err


@pytest.mark.parametrize("size", [0, 5, 3_000_000, 20 << 20])
def test_standard_input_that_somebody_has_read_from(box, size):
    """What is behind that, whether it is large enough to be resumed or not; past the end nothing."""
    data = random.Random(4).randbytes(size)
    (box.here / "in").write_bytes(data)
    for at in (0, 4, size // 2, size, size + 4):
        with open(box.here / "in", "rb") as file:
            file.seek(at)
            done = box("-o", "json", "cp", "-", "box:f", stdin=file).json
        assert done["bytes"] == max(size - at, 0)
        assert (box.workdir / "f").read_bytes() == data[at:]
    assert [path.name for path in box.workdir.iterdir()] == ["f"]


@pytest.mark.parametrize("transfers", [1, 4, 16])
def test_many_at_a_time(box, transfers):
    names = [f"f{i}" for i in range(120)]
    for name in names:
        (box.here / name).write_bytes(random.Random(name).randbytes(random.Random(name).randrange(200_000)))
    up = box("-o", "json", "cp", "-P", str(transfers), *names, "box:d/").json
    assert up["files"] == len(names) and up["failed"] == 0 and len(up["copies"]) == len(names)
    assert up["bytes"] == sum((box.here / name).stat().st_size for name in names)
    down = box("-o", "json", "cp", f"--transfers={transfers}", *(f"box:d/{name}" for name in names), "back/").json
    assert [copy["xxh3_128"] for copy in down["copies"]] == [copy["xxh3_128"] for copy in up["copies"]]
    for name in names:
        assert (box.here / "back" / name).read_bytes() == (box.here / name).read_bytes()


def test_transfers_has_a_range(box):
    for number in ("0", "17", "-1", "many"):
        assert "transfers" in box("cp", f"--transfers={number}", "f", "box:", code=2).err


def test_one_that_fails_does_not_stop_the_others(box):
    for name in ("a", "b"):
        (box.here / name).write_text(name)
    (box.workdir / "d").mkdir()
    (box.workdir / "d/b").mkdir()
    done = box("cp", "a", "missing", "b", "box:d", code=1)
    assert "missing" in done.err and "d/b is a directory" in done.err and "uploaded 1 of 3 to d" in done.err
    assert (box.workdir / "d/a").read_text() == "a"
    answer = json.loads(box("-o", "json", "cp", "a", "missing", "b", "box:d", code=1).out)
    assert answer["failed"] == 2
    assert answer["copies"][1]["error"]["code"] == "NOT_FOUND"
    assert "error" not in answer["copies"][0]


def test_what_is_left_out(box):
    """Of cp all is copied, but for what it is told to leave out."""
    tree = box.here / "tree"
    (tree / ".git").mkdir(parents=True)
    for name in (".git/config", ".gitignore", "a.log", "a.c"):
        (tree / name).write_text("*.log")
    (tree / "link").symlink_to("a.c")
    box("cp", "tree", "box:all")
    assert set(content(box.workdir / "all")) == {".git/config", ".gitignore", "a.log", "a.c", "link"}
    assert (box.workdir / "all/link").is_symlink()
    done = box("cp", "--git-ignore", "-L", "tree", "box:some")
    assert set(content(box.workdir / "some")) == {".gitignore", "a.c", "link"} and ".gitignore" in done.err
    assert not (box.workdir / "some/link").is_symlink()
    box("cp", "--exclude=*.c", "--exclude", ".git", "tree", "box:other")
    assert set(content(box.workdir / "other")) == {".gitignore", "a.log"}
    box("cp", "--exclude=*.log", "box:all", "down")
    assert "a.log" not in content(box.here / "down") and "a.c" in content(box.here / "down")
