"""Commands in a sandbox: what they get, how they end, and that nothing of them stays."""

import concurrent.futures
import os
import queue
import signal
import time

import grpc
import pytest
from conftest import fails, processes_of, wait_until
from google.protobuf import duration_pb2
from openshell._proto import openshell_pb2 as pb


def run(ready, *command, **fields):
    """(exit code, stdout, stderr) of ExecSandbox; exactly one exit, and it comes last."""
    request = pb.ExecSandboxRequest(sandbox=ready.name, command=command, **fields)
    events = list(ready.gateway.stub.ExecSandbox(request, timeout=30))
    kinds = [event.WhichOneof("payload") for event in events]
    assert kinds.count("exit") == 1 and kinds[-1] == "exit"
    out = b"".join(event.stdout.data for event in events)
    err = b"".join(event.stderr.data for event in events)
    return events[-1].exit.exit_code, out, err


class Interactive:
    """An ExecSandboxInteractive call that is talked to step by step."""

    def __init__(self, ready, *command, **fields):
        self.requests = queue.Queue()
        start = pb.ExecSandboxRequest(sandbox=ready.name, command=command, **fields)
        self.send(start=start)
        self.call = ready.gateway.stub.ExecSandboxInteractive(iter(self.requests.get, None), timeout=30)
        self.out = b""
        self.exit_code = None

    def send(self, **fields):
        self.requests.put(pb.ExecSandboxInput(**fields))

    def close(self):
        self.requests.put(None)

    def read_until(self, text):
        while text not in self.out:
            event = next(self.call)
            assert event.WhichOneof("payload") != "exit", self.out
            self.out += event.stdout.data + event.stderr.data
        return self.out

    def finish(self):
        for event in self.call:
            self.out += event.stdout.data + event.stderr.data
            if event.WhichOneof("payload") == "exit":
                self.exit_code = event.exit.exit_code
        return self.exit_code


def test_outputs_and_exit_code(ready):
    assert run(ready, "sh", "-c", "echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert run(ready, "true") == (0, b"", b"")
    assert run(ready, "sh", "-c", "kill -9 $$")[0] == 128 + 9


def test_argv_is_no_shell_line(ready):
    words = ["a b", "new\nline", "$HOME", "'\"", "*", "\\", "x" * 100_000]
    code, out, _ = run(ready, "printf", r"%s\0", *words)
    assert code == 0
    assert out.decode().split("\0")[:-1] == words


def test_programs_that_do_not_start(ready):
    for command, code in (("no-such-program", 127), ("/no/such", 127), ("/etc", 126)):
        got, out, err = run(ready, command)
        assert (got, out) == (code, b"")
        assert command in err.decode()


def test_stdin(ready):
    data = os.urandom(3 << 20)
    code, out, _ = run(ready, "sha256sum", stdin=data)
    import hashlib

    assert (code, out.split()[0].decode()) == (0, hashlib.sha256(data).hexdigest())
    assert run(ready, "cat") == (0, b"", b"")


def test_workdir_and_environment(ready):
    ready.workdir.joinpath("sub").mkdir()
    assert run(ready, "pwd")[1].decode().strip() == str(ready.workdir)
    assert run(ready, "pwd", workdir="sub")[1].decode().strip() == str(ready.workdir / "sub")
    assert run(ready, "pwd", workdir="/usr")[1] == b"/usr\n"
    code, out, _ = run(ready, "env", environment={"A": "1 2\n3", "OPENSHELL_MINE": "x"})
    assert b"A=1 2\n3\n" in out and b"OPENSHELL_MINE=x\n" in out
    with fails(grpc.StatusCode.NOT_FOUND, "missing"):
        run(ready, "true", workdir="missing")
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "A-B"):
        run(ready, "true", environment={"A-B": "1"})
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "OPENSHELL_SANDBOX_ID"):
        run(ready, "true", environment={"OPENSHELL_SANDBOX_ID": "1"})
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "command"):
        run(ready)


def test_no_secret_is_visible(ready):
    """Neither the token nor a descriptor of the supervisor reaches a command."""
    code, out, _ = run(ready, "sh", "-c", "ls /proc/self/fd | wc -l; cat /proc/1/environ; cat /proc/1/cmdline")
    assert out.startswith(b"4\n")  # the fourth is of ls itself
    assert b"token" not in out.replace(b"--token-file", b"").lower()
    assert not list(ready.gateway.sandbox_dir(ready.id).rglob("*token*"))


def test_timeout(ready):
    began = time.monotonic()
    assert run(ready, "sleep", "60", execution_timeout=duration_pb2.Duration(seconds=1))[0] == 124
    code, out, _ = run(
        ready, "sh", "-c", "trap '' TERM; echo on; sleep 60 & wait",
        execution_timeout=duration_pb2.Duration(nanos=300_000_000),
    )
    assert (code, out) == (124, b"on\n")
    assert time.monotonic() - began < 15


def test_timeout_ends_the_group(ready):
    """Those too that the command has left behind, and that will not hear of SIGTERM."""
    script = "trap '' TERM HUP; sleep 4713 & (sleep 4713; true) & exec sleep 4713"
    limit = duration_pb2.Duration(nanos=200_000_000)
    assert run(ready, "sh", "-c", script, execution_timeout=limit)[0] == 124
    wait_until(
        lambda: not any("4713" in line for line in processes_of(ready.gateway.data_dir).values()),
        2, "the whole group has ended",
    )


def test_large_output_arrives_whole(ready):
    size = 64 << 20
    code, out, _ = run(ready, "head", "-c", str(size), "/dev/zero")
    assert (code, len(out)) == (0, size)


def test_exit_comes_behind_both_outputs(ready):
    """The command has ended long before its outputs have left the pipes, and the sandbox."""
    size = 10 << 20
    script = f"head -c {size} /dev/zero & head -c {size} /dev/zero >&2; wait; exit 5"
    for _ in range(3):
        code, out, err = run(ready, "sh", "-c", script)
        assert (code, len(out), len(err)) == (5, size, size)


def test_exit_waits_for_outputs_but_not_for_daemons(ready):
    began = time.monotonic()
    code, out, _ = run(ready, "sh", "-c", "(sleep 0.1; echo late) & echo early")
    assert code == 0 and out == b"early\nlate\n"
    code, out, _ = run(ready, "sh", "-c", "sleep 30 & echo done")
    assert (code, out) == (0, b"done\n")
    assert time.monotonic() - began < 10


def test_interactive_pipes(ready):
    it = Interactive(ready, "cat")
    it.send(stdin=b"one\n")
    it.read_until(b"one\n")
    it.send(stdin=b"two\n")
    it.read_until(b"two\n")
    it.close()
    assert it.finish() == 0


def test_terminal(ready):
    it = Interactive(ready, "sh", tty=True, cols=100, rows=30)
    it.send(stdin=b"stty size; tty; echo $TERM\n")
    out = it.read_until(b"xterm-256color")
    assert b"30 100" in out and b"/dev/pts/" in out
    it.send(resize=pb.ExecSandboxWindowResize(cols=90, rows=20))
    it.send(stdin=b"sleep 0.1; stty size\n")
    it.read_until(b"20 90")
    it.send(stdin=b"sleep 100\n")
    processes = lambda: processes_of(ready.gateway.data_dir).values()
    wait_until(lambda: any("sleep 100" in p for p in processes()), 10, "it sleeps")
    it.send(stdin=b"\x03")
    it.send(stdin=b"exit 7\n")
    assert it.finish() == 7


def test_terminal_keys(ready):
    it = Interactive(ready, "sleep", "100", tty=True)
    it.send(stdin=b"\x03")
    assert it.finish() == 128 + signal.SIGINT
    it = Interactive(ready, "sh", "-c", "echo up; exec sleep 100", tty=True)
    it.read_until(b"up")
    it.send(stdin=b"\x1c")
    assert it.finish() == 128 + signal.SIGQUIT
    it = Interactive(ready, "cat", tty=True)
    it.send(stdin=b"line\nno line\x04\x04")
    assert it.finish() == 0
    assert it.out.endswith(b"no line")
    it = Interactive(ready, "sh", "-c", "kill -USR1 $$", tty=True)
    assert it.finish() == 128 + signal.SIGUSR1


def test_terminal_sizes(ready):
    """None is 80 by 24, and nothing that a program would have to make room for is passed on."""
    script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done"
    it = Interactive(ready, "sh", "-c", script, tty=True)
    it.read_until(b"24 80\r\n")
    it.send(resize=pb.ExecSandboxWindowResize(cols=4_000_000_000, rows=100_000))
    it.read_until(b"10000 10000\r\n")
    it.send(resize=pb.ExecSandboxWindowResize(cols=1, rows=2))
    it.read_until(b"2 1\r\n")
    it.send(stdin=b"\x03")
    assert it.finish() == 128 + signal.SIGINT


def test_terminal_that_its_process_has_closed(ready):
    """It is not hung up: the process still has its exit code to give."""
    it = Interactive(ready, "sh", "-c", "exec <&- >&- 2>&-; sleep 0.2; exit 5", tty=True)
    assert it.finish() == 5


def test_resize_of_what_is_no_terminal(ready):
    it = Interactive(ready, "cat")
    it.send(resize=pb.ExecSandboxWindowResize(cols=1, rows=2))
    it.send(stdin=b"x")
    it.close()
    assert (it.finish(), it.out) == (0, b"x")


def test_login_shell(ready):
    it = Interactive(ready, tty=True)
    it.send(stdin=b"shopt -q login_shell 2>/dev/null && echo log''in; exit\n")
    assert it.finish() == 0
    assert b"login" in it.out


def test_end_of_input_ends_a_terminals_reader(ready):
    it = Interactive(ready, "cat", tty=True)
    it.send(stdin=b"line\n")
    it.read_until(b"line\r\nline\r\n")
    it.close()
    assert it.finish() == 0


def test_message_of_no_kind(ready):
    it = Interactive(ready, "cat")
    it.send()
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "stdin, resize or signal"):
        it.finish()
    it.close()


@pytest.mark.parametrize("tty", [False, True])
def test_client_goes_and_the_group_ends(ready, tty):
    it = Interactive(ready, "sh", "-c", "sleep 1000 & echo up; sleep 1000", tty=tty)
    it.read_until(b"up")
    marker = "sleep 1000"
    assert any(marker in line for line in processes_of(ready.gateway.data_dir).values())
    it.call.cancel()
    wait_until(
        lambda: not any(marker in line for line in processes_of(ready.gateway.data_dir).values()),
        10, "the command's processes are gone",
    )
    it.close()


def test_second_start_is_refused(ready):
    it = Interactive(ready, "cat")
    it.send(start=pb.ExecSandboxRequest(sandbox=ready.name, command=["true"]))
    with fails(grpc.StatusCode.INVALID_ARGUMENT, "second start"):
        it.finish()
    it.close()


def test_slow_reader_stops_the_command_and_nobody_else(ready):
    request = pb.ExecSandboxRequest(sandbox=ready.name, command=["head", "-c", str(256 << 20), "/dev/zero"])
    slow = ready.gateway.stub.ExecSandbox(request, timeout=60)
    next(slow)
    time.sleep(0.5)
    assert run(ready, "echo", "quick")[1] == b"quick\n"
    total = sum(len(event.stdout.data) for event in slow)
    assert total > (255 << 20)


def test_many_at_once(ready):
    """As many as may wait for their supervisor at once (docs/limits.md)."""

    def one(n):
        return run(ready, "echo", str(n)) == (0, f"{n}\n".encode(), b"")

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        assert all(pool.map(one, range(200)))
