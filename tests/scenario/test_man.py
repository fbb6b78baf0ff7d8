"""Manual pages: each program prints its own, of all its options, and roff has nothing to say about it."""

import re
import shutil
import subprocess

import pytest
from conftest import BIN, REPOSITORY

GROUPS = ["gateway", "sandbox", "forward"]
PAGES = {
    "towline.1": ["towline", "help", "--man"],
    **{f"towline-{group}.1": ["towline", "help", "--man", group] for group in GROUPS},
    "towline-cp.1": ["towline", "help", "--man", "cp"],
    "towline-gateway.8": ["towline-gateway", "--man"],
    "towline-supervisor.8": ["towline-supervisor", "--man"],
    "towline-sshd.8": ["towline-sshd", "--man"],
}
PROGRAMS = {"towline-gateway", "towline-supervisor", "towline-sshd"}


def said(words):
    done = subprocess.run([BIN / words[0], *words[1:]], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def shown(page):
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("no groff to look at manual pages with")
    command = [groff, "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=100n"]
    done = subprocess.run(command, input=page, capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PAGES)
def test_a_page(name):
    title, section = name.split(".")
    page = said(PAGES[name])
    text = shown(page)
    assert text.splitlines()[0].startswith(f"{title.upper()}({section})")
    assert re.search(rf"^NAME\n +{title} [-−‐] \S", text, re.M), text[:500]
    for heading in ("SYNOPSIS", "EXIT STATUS", "SEE ALSO"):
        assert f"\n{heading}\n" in text


@pytest.mark.parametrize("program", sorted(PROGRAMS))
def test_it_has_all_options(program):
    words = [program, "--help"]
    options = set(re.findall(r"^ +(?:-\w, )?(--[a-z-]+)", said(words), re.M))
    text = shown(said([program, "--man"]))
    assert len(options) > 5 and {o for o in options if not re.search(rf"{o}\b", text)} == set()


def test_each_group_is_installed():
    """A new group of verbs has its page in cli/CMakeLists.txt."""
    listed = re.search(r"foreach\(group ([a-z ]+)\)", (REPOSITORY / "cli/CMakeLists.txt").read_text())
    named = re.findall(r"towline-([a-z]+)\(1\)", shown(said(PAGES["towline.1"])))
    assert listed.group(1).split() == named == GROUPS
