"""Files.Sftp, spoken by the clients that people have."""

import hashlib
import os
import pathlib
import subprocess
import sys

import pytest

BRIDGE = pathlib.Path(__file__).with_name("sftp_bridge.py")


class Clients:
    def __init__(self, ready, tmp_path):
        self.ready, self.here = ready, tmp_path
        self.there = ready.workdir
        program = tmp_path / "bridge"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {BRIDGE} "$@"\n')
        program.chmod(0o755)
        self.program = str(program)
        self.env = {
            **os.environ,
            "BRIDGE_GATEWAY": ready.gateway.target,
            "BRIDGE_SANDBOX": ready.name,
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def run(self, *words, **options):
        return subprocess.run(
            words, env=self.env, cwd=self.here, capture_output=True, text=True, timeout=120, **options
        )

    def sftp(self, *lines, code=0, options=()):
        made = self.run("sftp", "-b", "-", *options, "-D", self.program, input="\n".join(lines) + "\n")
        assert made.returncode == code, made.stdout + made.stderr
        return made.stdout + made.stderr


@pytest.fixture
def clients(ready, tmp_path):
    return Clients(ready, tmp_path)


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_sftp_moves_100_mib_both_ways(clients):
    big = clients.here / "big"
    big.write_bytes(os.urandom(1 << 20) * 100)
    clients.sftp("put big there", "get there back")
    assert digest(clients.there / "there") == digest(clients.here / "back") == digest(big)


ODD_NAMES = ["with space", "-rf", "quote'\"", "star*?[x]", "ünï", "back\\slash", "$HOME;ls", "#x", ".dot"]


def make_odd_tree(folder):
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "empty").mkdir()
    for name in ODD_NAMES:
        (folder / name).write_text(name)
        (folder / "deep" / "er" / name).write_bytes(name.encode() * 1000)


def tree_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("form", ["sftp", "old"])
def test_scp_moves_trees_both_ways(clients, form):
    words = ["scp", "-S", clients.program, "-rp", *(["-O"] if form == "old" else [])]
    make_odd_tree(clients.here / "tree")
    (clients.here / "tree" / "deep").chmod(0o500)
    os.utime(clients.here / "tree" / "deep", (1, 1000000000))
    made = clients.run(*words, "tree", "box:")
    assert made.returncode == 0, made.stderr
    assert tree_of(clients.there / "tree") == tree_of(clients.here / "tree")
    made = clients.run(*words, "box:tree", "back")
    assert made.returncode == 0, made.stderr
    assert tree_of(clients.here / "back") == tree_of(clients.here / "tree")
    for folder in (clients.there / "tree", clients.here / "back"):
        assert (folder / "deep").stat().st_mode & 0o777 == 0o500
        assert (folder / "deep").stat().st_mtime == 1000000000
        (folder / "deep").chmod(0o700)
