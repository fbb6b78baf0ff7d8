"""Commands as SSH asks for them: the login shell, terminal modes, signals and exits by signal."""

import os
import pwd
import queue
import struct

import grpc
import pytest
import towline_api
from conftest import fails

API = towline_api.load()
REQUEST, INPUT = API["openshell.v1.ExecSandboxRequest"], API["openshell.v1.ExecSandboxInput"]
SHELL = API["towline.v1.ExecShell"]
LOGIN_SHELL = pwd.getpwuid(os.getuid()).pw_shell


class Shell:
    """ExecSandboxInteractive of a shell's command."""

    def __init__(self, ready, command=b"", **fields):
        self.requests = queue.Queue()
        start = REQUEST(sandbox=ready.name, shell=SHELL(command=command), **fields)
        self.send(start=start)
        call = API.method(ready.gateway.channel(), "openshell.v1.OpenShell/ExecSandboxInteractive")
        self.call = call(iter(self.requests.get, None), timeout=30)
        self.out = self.err = b""
        self.exit = None

    def send(self, **fields):
        self.requests.put(INPUT(**fields))

    def read_until(self, text):
        while text not in self.out:
            event = next(self.call)
            assert event.WhichOneof("payload") != "exit", self.out + self.err
            self.out += event.stdout.data
            self.err += event.stderr.data

    def finish(self, stdin=b""):
        if stdin:
            self.send(stdin=stdin)
        self.requests.put(None)
        for event in self.call:
            self.out += event.stdout.data
            self.err += event.stderr.data
            if event.WhichOneof("payload") == "exit":
                self.exit = event.exit
        return self.exit


def run(ready, command, stdin=b"", **fields):
    shell = Shell(ready, command, **fields)
    code = shell.finish(stdin).exit_code
    return code, shell.out, shell.err


def modes(**wanted):
    opcodes = {"VINTR": 1, "ECHO": 53, "ONLCR": 72}
    return b"".join(struct.pack(">BI", opcodes[name], value) for name, value in wanted.items()) + b"\0"


def test_command_is_a_shell_line(ready):
    assert run(ready, b"echo $((1 + 2)); echo err >&2; exit 3") == (3, b"3\n", b"err\n")
    assert run(ready, b"cat", b"in") == (0, b"in", b"")


def test_bytes_are_verbatim(ready):
    line = bytes(range(1, 256)).replace(b"'", b"").replace(b"\n", b"")
    assert run(ready, b"printf %s '" + line + b"'") == (0, line, b"")


def test_login_environment(ready):
    code, out, _ = run(ready, b"echo $SHELL; echo $USER; echo $LOGNAME; echo ${SSH_TTY-none}; pwd")
    name = pwd.getpwuid(os.getuid()).pw_name
    assert code == 0
    workdir = out.splitlines()[4]
    assert out.splitlines()[:4] == [LOGIN_SHELL.encode(), name.encode(), name.encode(), b"none"]
    assert run(ready, b"echo $A; cd ..; pwd", environment={"A": "b c"})[1].startswith(b"b c\n")
    assert os.path.isdir(workdir)


def test_shell_to_talk_to(ready):
    code, out, _ = run(ready, b"", b"echo name=$0\nexit 7\n")
    assert code == 7
    assert f"name=-{os.path.basename(LOGIN_SHELL)}\n".encode() in out


def test_terminal(ready):
    shell = Shell(ready, b"stty -a; tty; echo $SSH_TTY; echo $TERM", tty=True, cols=77, rows=22,
                  width_pixels=770, height_pixels=440, environment={"TERM": "vt100"},
                  terminal_modes=modes(VINTR=7, ECHO=0, ONLCR=0))
    assert shell.finish().exit_code == 0
    lines = shell.out.split(b"\n")
    assert b"rows 22; columns 77" in lines[0]
    assert b"intr = ^G" in shell.out and b" -echo " in shell.out and b"-onlcr" in shell.out
    assert lines[-4].startswith(b"/dev/pts/") and lines[-4] == lines[-3]
    assert lines[-2] == b"vt100"


def test_pixels(ready):
    program = b"import fcntl,struct,termios;print(struct.unpack('4H',fcntl.ioctl(0,termios.TIOCGWINSZ,bytes(8))))"
    shell = Shell(ready, b'read x; python3 -c "' + program + b'"', tty=True, cols=77, rows=22,
                  width_pixels=770, height_pixels=440)
    resize = API["openshell.v1.ExecSandboxWindowResize"]
    shell.send(resize=resize(cols=100, rows=30, width_pixels=1000, height_pixels=70000))
    assert shell.finish(b"\n").exit_code == 0
    assert b"(30, 100, 1000, 65535)" in shell.out


def test_terminal_modes_that_are_cut_off(ready):
    shell = Shell(ready, b"true", tty=True, terminal_modes=b"\x35\0\0")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "terminal_modes"):
        shell.finish()


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "KILL", "USR1", "ALRM"])
def test_signal_ends_the_group(ready, name):
    shell = Shell(ready, b"ulimit -c 0; echo ready; sleep 60; echo no")
    shell.read_until(b"ready\n")
    shell.send(signal=API["towline.v1.ExecSignal"](name=name))
    end = shell.finish()
    assert end.signal == name and end.exit_code > 128 and not end.core_dumped
    assert b"no" not in shell.out


def test_signal_that_is_caught(ready):
    shell = Shell(ready, b"trap 'echo caught; exit 5' USR2; echo ready; while :; do sleep 0.05; done")
    shell.read_until(b"ready\n")
    shell.send(signal=API["towline.v1.ExecSignal"](name="USR2"))
    end = shell.finish()
    assert (end.exit_code, end.signal) == (5, "")
    assert b"caught" in shell.out


@pytest.mark.parametrize("name", ["", "SIGTERM", "STOP", "term", "15"])
def test_signal_of_no_name(ready, name):
    shell = Shell(ready, b"sleep 60")
    shell.send(signal=API["towline.v1.ExecSignal"](name=name))
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "signal"):
        shell.finish()


def test_input_that_ends_before_a_signal(ready):
    shell = Shell(ready, b"trap 'echo caught; exit 5' USR2; cat; echo ready; while :; do sleep 0.05; done")
    shell.send(stdin=b"in\n")
    shell.send(close_input=API["towline.v1.ExecCloseInput"]())
    shell.send(stdin=b"late\n")
    shell.read_until(b"in\nready\n")
    shell.send(signal=API["towline.v1.ExecSignal"](name="USR2"))
    assert shell.finish().exit_code == 5
    assert b"late" not in shell.out


@pytest.mark.parametrize("command", ["yes", "yes >&2", "cat /dev/zero"])
def test_output_that_nobody_reads(ready, command):
    shell = Shell(ready, f"trap '' USR1; echo ready; {command}; exit $?".encode())
    shell.read_until(b"ready\n")
    for _ in range(2):
        shell.send(close_output=API["towline.v1.ExecCloseOutput"]())
    assert shell.finish().exit_code == 128 + 13


def test_terminal_that_nobody_reads(ready):
    shell = Shell(ready, b"trap 'exit 6' HUP; echo ready; while :; do echo more; sleep 0.05; done", tty=True)
    shell.read_until(b"ready")
    shell.send(close_output=API["towline.v1.ExecCloseOutput"]())
    assert shell.finish().exit_code == 6


def test_end_by_a_signal_of_its_own(ready):
    shell = Shell(ready, b"kill -BUS $$")
    end = shell.finish()
    assert end.signal == "BUS@towline"


def test_what_is_refused(ready):
    both = REQUEST(sandbox=ready.name, shell=SHELL(command=b"true"), command=["true"])
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "both"):
        list(API.method(ready.gateway.channel(), "openshell.v1.OpenShell/ExecSandbox")(both, timeout=10))
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "zero"):
        Shell(ready, b"tr\0ue").finish()


def test_command_longer_than_the_system_takes(ready):
    code, _, err = run(ready, b"true " + b"x" * 200_000)
    assert code == 126 and b"rgument list too long" in err


def test_rsync_where_there_is_none(ready):
    shell = Shell(ready, b"rsync --server -vlogDtpre.iLsfxCIvu . x", environment={"PATH": "/nowhere"})
    assert shell.finish().exit_code == 127
    assert b"towline sync" in shell.err


def test_rsync_of_the_image(ready):
    code, out, err = run(ready, b"rsync --server --version")
    assert code == 0 and b"protocol version" in out + err
