"""A directory of very many entries is listed without being gathered. ./dev test --long: a million."""

import os
import pathlib
import subprocess

import pytest
import towline_api

API = towline_api.load()
LONG = "TOWLINE_LONG" in os.environ
ENTRIES = 1_000_000 if LONG else 20_000
GROWTH_KIB = 16 << 10 if "TOWLINE_SANITIZED" not in os.environ else 128 << 10


def memory(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


@pytest.mark.timeout(1800 if LONG else 180)
def test_listing(ready):
    folder = ready.workdir / "many"
    folder.mkdir()
    subprocess.run(f"seq -f 'entry-%07.0f' {ENTRIES} | xargs touch", shell=True, cwd=folder, check=True)
    before = [memory(pid) for pid in (ready.supervisor, ready.gateway.process.pid)]
    call = API.method(ready.gateway.channel(), "towline.v1.Files/ListDirectory")
    request = API["towline.v1.ListDirectoryRequest"](sandbox=ready.name, path="many")
    seen = bytearray(ENTRIES + 1)
    for response in call(request, timeout=1500):
        for entry in response.entries:
            number = int(entry.name.removeprefix("entry-"))
            assert seen[number] == 0, f"{entry.name} twice"
            seen[number] = 1
    assert sum(seen) == ENTRIES
    after = [memory(pid) for pid in (ready.supervisor, ready.gateway.process.pid)]
    assert all(b - a < GROWTH_KIB for a, b in zip(before, after, strict=True)), f"KiB {before}, then {after}"
