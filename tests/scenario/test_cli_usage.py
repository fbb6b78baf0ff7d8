"""What towline says of itself, and of command lines that make no sense."""

import json
import os
import re
import subprocess

import pytest
from conftest import REPOSITORY
from towline_cli import PROGRAM, home  # noqa: F401

VERBS = [
    *(f"gateway {verb}" for verb in ("start", "stop", "status")),
    *(f"sandbox {verb}" for verb in "create list get exec connect upload download stop start delete".split()),
    *(f"forward {verb}" for verb in ("start", "stop", "list", "service")),
    "help",
]


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_each(home, verb):
    words = verb.split()
    text = home(*words, "--help").out
    assert text.startswith(f"usage: towline {verb}")
    assert "options of all verbs:" in text and "examples:" in text
    assert home("help", *words).out == text
    for example in re.findall(r"^  (?:.*\| )?towline (.*)$", text[text.index("examples:") :], re.M):
        assert verb in re.sub(r"(-o json|-g \w+|--gateway-endpoint \S+) ", "", example)


def test_groups(home):
    for group, alias in (("gateway", "gw"), ("sandbox", "sb"), ("forward", "fwd")):
        assert home(group, "--help").out.splitlines()[1:] == home(alias, "--help").out.splitlines()[1:]
        assert "verbs:" in home(group, code=2).err
    assert "verbs:" in home(code=2).err
    assert re.fullmatch(r"towline \d+\.\d+\.\d+\n", home("--version").out)


@pytest.mark.parametrize(
    "line,words",
    [
        ("sandbx list", ['"towline sandbox"']),
        ("sandbox lst", ['"towline sandbox list"']),
        ("sandbox dwnload", ['"towline sandbox download"']),
        ("sandbox xyzzy", ['"towline sandbox xyzzy"', "--help"]),
        ("sandbox list --outptu json", ["--outptu", "--output?"]),
        ("sandbox create --nmae x", ["--name?"]),
        ("--gatway x sandbox list", ["--gateway?"]),
        ("sandbox list --xyzzy", ["--xyzzy", "--help"]),
        ("sandbox list -Z", ["-Z"]),
        ("sandbox list --output", ["--output", "value"]),
        ("sandbox list -o yaml", ["yaml", "table or json"]),
        ("--color sometimes sandbox list", ["sometimes"]),
        ("sandbox upload box", ["missing", "NAME LOCAL [DEST]"]),
        ("sandbox upload a b c d", ["too many"]),
        ("sandbox delete", ["missing"]),
        ("sandbox exec", ["command is missing"]),
        ("sandbox exec -n box", ["command is missing"]),
        ("sandbox exec --timeout soon -- true", ["--timeout", "soon"]),
        ("sandbox exec -e novalue -- true", ["novalue", "KEY=VALUE"]),
        ("sandbox create --env =x", ["--env"]),
        ("sandbox create --no-keep --no-tty", ["--no-keep"]),
        ("sandbox list -- x", ["too many"]),
        ("forward start 99999", ["99999"]),
        ("forward start 0", ["0:TARGET"]),
        ("forward start eight", ["eight"]),
        ("forward service box", ["target-port"]),
        ("forward service box --target-port 0", ["0"]),
        ("help nonesuch", ["no such verb"]),
    ],
)
def test_no_sense(home, line, words):
    failed = home(*line.split(), code=2)
    assert failed.out == ""
    for word in words:
        assert word.removesuffix(" or json") in failed.err, failed.err
    assert json.loads(home("-o", "json", *line.split(), code=None).err)["error"]["code"] == "INVALID_ARGUMENT"


def test_environment_and_file(home):
    (home.config).mkdir(parents=True)
    (home.config / "towline.conf").write_text("gateway-endpoint = http://127.0.0.1:1\n")
    assert "127.0.0.1:1" in home("gateway", "status", code=1).out
    env = home.with_env(OPENSHELL_GATEWAY_ENDPOINT="http://127.0.0.1:2")
    assert "127.0.0.1:2" in env("gateway", "status", code=1).out
    assert "127.0.0.1:3" in env("--gateway-endpoint", "http://127.0.0.1:3", "gateway", "status", code=1).out
    (home.config / "towline.conf").write_text("nonesuch = 1\n")
    assert "towline.conf:1" in home("gateway", "status", code=2).err
    home("--help")


def test_no_home(home):
    homeless = home.with_env(HOME=None, XDG_CONFIG_HOME=None, XDG_STATE_HOME=None)
    homeless("--help")
    assert "HOME" in homeless("gateway", "start", code=1).err


def test_reference_is_up_to_date(home):
    page = (REPOSITORY / "docs/cli.md").read_text()
    reference = page[page.index("\n", page.index("<!-- What follows is printed")) + 1 :]
    assert reference == home("help", "--markdown").out, "run scripts/cli-doc"


def test_manual_page(home):
    page = home("help", "--man").out
    assert page.startswith(".TH TOWLINE 1")
    for verb in VERBS:
        assert f".SS towline {verb} " in page
    checked = subprocess.run(["which", "groff"], capture_output=True)
    if checked.returncode == 0:
        groff = ["groff", "-man", "-Tutf8", "-ww", "-z"]
        assert not subprocess.run(groff, input=page.encode(), capture_output=True).stderr


def test_standard_output_that_is_full_or_closed(home):
    with open("/dev/full", "wb") as full:
        assert home("sandbox", "--help", stdout=full, code=None).code == 0
    closed = subprocess.run(f"exec {PROGRAM} --version >&-", shell=True, env=home.env)
    assert closed.returncode == 0
    read, write = os.pipe()
    os.close(read)
    process = home.popen("sandbox", "--help", stdout=write)
    os.close(write)
    process.communicate(timeout=30)
    assert process.returncode in (0, 1)
