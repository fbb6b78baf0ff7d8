"""The local driver, as it is seen from inside a sandbox and from around it."""

import os
import pathlib

import pytest
from conftest import Ready, processes_of, wait_until
from openshell._proto import openshell_pb2 as pb
from test_exec import run

NAMESPACES = {"UserNamespace": "user", "MountNamespace": "mnt", "PidNamespace": "pid"}


def conditions(ready):
    found = {c.type: c for c in ready.gateway.get(ready.name).status.conditions}
    return {name: found[name] for name in (*NAMESPACES, "GatewayStateHidden")}


def holds(ready, name):
    return conditions(ready)[name].status == "True"


def shell(ready, script):
    code, out, err = run(ready, "sh", "-c", script)
    assert code == 0, err
    return out.decode()


@pytest.fixture
def hidden(ready):
    if not holds(ready, "GatewayStateHidden") or not holds(ready, "PidNamespace"):
        pytest.skip("no isolation on this machine")
    return ready


def test_conditions_are_true(ready):
    """What GetSandbox says is what the kernel says."""
    for name, condition in conditions(ready).items():
        assert (condition.status, condition.reason) in {("True", "Isolated"), ("False", "NotIsolated")}
        assert bool(condition.message) == (condition.status == "False")
        if name in NAMESPACES:
            inside = shell(ready, f"readlink /proc/self/ns/{NAMESPACES[name]}").strip()
            outside = os.readlink(f"/proc/self/ns/{NAMESPACES[name]}")
            assert (inside != outside) == (condition.status == "True"), name


def test_is_a_session_of_its_own(ready):
    assert os.getsid(ready.supervisor) == os.getpgid(ready.supervisor) == ready.supervisor


def test_the_gateways_files_are_hidden(hidden):
    data = hidden.gateway.data_dir
    assert (data / "gateway.db").exists()
    found = shell(hidden, f"find {data}").split()
    place = hidden.gateway.sandbox_dir(hidden.id)
    assert set(found) == {str(p) for p in (data, data / "local", place, place / "work")}
    assert run(hidden, "sh", "-c", f"echo x > {data}/new")[0] != 0
    assert shell(hidden, f"echo x > {place}/work/new; cat new") == "x\n"


def test_other_processes_are_out_of_sight(hidden):
    other = hidden.gateway.create("other")
    pids = shell(hidden, "echo /proc/[0-9]*").split()
    assert len(pids) < 5
    command = shell(hidden, "cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '")
    assert other.metadata.id not in command and "towline-gateway" not in command


def test_the_supervisor_cannot_be_looked_into(hidden):
    """Not by root of the sandbox either: its memory holds the token."""
    for command in ("cat environ", "cat maps", "head -c 1 mem", "cat fd/0", "ls root/", "ls cwd/"):
        code, out, err = run(hidden, *command.split(), workdir="/proc/1")
        assert code != 0 and not out, command
        assert b"ermission denied" in err, err


def test_the_token_is_nowhere(ready):
    """A descriptor of mode 0600 that is closed by now; no argument, no variable, no file."""
    for pid in processes_of(ready.gateway.sandbox_dir(ready.id)):
        command = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
        assert b"/dev/fd/3" in command
        assert b"TOKEN" not in pathlib.Path(f"/proc/{pid}/environ").read_bytes()
    assert not any("sandbox-token" in os.readlink(f) for f in descriptors(ready.supervisor))
    names = {p.name for p in ready.gateway.sandbox_dir(ready.id).iterdir()}
    assert names == {"work", "supervisor.pid", "supervisor.log"}


def descriptors(pid):
    return list(pathlib.Path(f"/proc/{pid}/fd").iterdir())


MESS = """
mkdir -p sealed/in && touch sealed/in/file "$(printf 'new\\nline')" "$(printf '\\377')" -- -rf ' '
ln -s / root; mkfifo pipe; chmod 0 sealed/in; chmod 500 sealed
d=.; i=0; while [ $i -lt 700 ]; do mkdir deep && cd -P deep; i=$((i+1)); done
"""

HIDE = """
trap '' TERM HUP
(setsid sh -c 'trap "" TERM; env -i sleep 4715 & exec env -i sleep 4715' &)
(cd /; sleep 4715 &)
sleep 4715
"""


@pytest.mark.parametrize("how", ["stop", "delete"])
def test_nothing_outlives_it(gateway, how):
    ready = Ready(gateway, gateway.create("doomed"))
    place = ready.gateway.sandbox_dir(ready.id)
    shell(ready, MESS)
    request = pb.ExecSandboxRequest(sandbox=ready.name, command=["sh", "-c", HIDE])
    call = ready.gateway.stub.ExecSandbox(request, timeout=60)

    def sleepers():
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if b"4715" in entry.read_bytes() and b"sleep" in entry.read_bytes():
                    found.append(entry)
            except OSError:
                pass
        return found

    wait_until(lambda: len(sleepers()) >= 4, 10, "they run")
    if how == "stop":
        ready.gateway.stub.StopSandbox(pb.StopSandboxRequest(name=ready.name), timeout=30)
        ready.gateway.wait_phase(ready.name, "STOPPED")
        assert not sleepers() and not processes_of(place)
        assert (place / "work" / "sealed").exists()
    ready.gateway.stub.DeleteSandbox(pb.DeleteSandboxRequest(name=ready.name), timeout=30)
    wait_until(lambda: not place.exists(), 15, "its files are gone")
    assert not sleepers() and not processes_of(place)
    call.cancel()
