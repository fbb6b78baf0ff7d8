"""What stands between a program and its libc, by LD_PRELOAD: faults.c and clock.c.

    shim = Shim("clock", folder)
    subprocess.Popen(command, env=os.environ | shim.env)
    shim.map[:] = ...              # its struct control, while the program runs
"""

import atexit
import functools
import mmap
import os
import pathlib
import shutil
import subprocess
import tempfile

import pytest
from conftest import BIN, Ready

CONTROL_BYTES = 64  # at least those of any struct control


@functools.cache
def library(name):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler for the shims")
    folder = tempfile.mkdtemp(prefix="towline-shim-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    built = pathlib.Path(folder) / f"{name}.so"
    source = pathlib.Path(__file__).with_name(f"{name}.c")
    command = [compiler, "-shared", "-fPIC", "-O2", "-std=c11", "-D_GNU_SOURCE", "-o", built, source]
    subprocess.run(command, check=True)
    return built


class Shim:
    """One of them, and the file by which programs under it are told."""

    def __init__(self, name, folder):
        path = folder / f"{name}.control"
        path.write_bytes(bytes(CONTROL_BYTES))
        with open(path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), CONTROL_BYTES)
        sanitizer = os.environ.get("ASAN_OPTIONS", "")
        self.env = {
            "LD_PRELOAD": str(library(name)),
            f"TOWLINE_{name.upper()}": str(path),
            "ASAN_OPTIONS": f"{sanitizer}:verify_asan_link_order=0".lstrip(":"),
        }

    def close(self):
        self.map.close()


def is_static(program):
    return b"ld-linux" not in program.read_bytes()[:4096]


def ready_under(shim, make_gateway, stand_in):
    """A sandbox whose supervisor runs under the shim."""
    if is_static(BIN / "towline-supervisor"):
        pytest.skip("a static supervisor loads no shim: use the asan build")
    settings = stand_in("environment")
    settings.write_text("".join(f"{name}={value}\n" for name, value in shim.env.items()))
    gateway = make_gateway(f"--supervisor={stand_in('shimmed')}")
    return Ready(gateway, gateway.create("box"))
