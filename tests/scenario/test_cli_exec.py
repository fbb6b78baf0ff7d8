"""towline sandbox exec and connect: a remote command that behaves as a local one."""

import random
import signal
import subprocess
import time

import pytest
from conftest import processes_of, wait_until
from towline_cli import PROGRAM, box  # noqa: F401

EXEC = ("sandbox", "exec", "-n", "box")


def sh(box, script, *words, **options):
    return box(*EXEC, *words, "--", "sh", "-c", script, **options)


@pytest.mark.parametrize("code", [0, 1, 2, 124, 255])
def test_exit_code(box, code):
    done = sh(box, f"echo out; echo err >&2; exit {code}", code=code)
    assert (done.out, done.err) == ("out\n", "err\n")


def test_ended_by_a_signal(box):
    sh(box, "kill -TERM $$", code=128 + signal.SIGTERM)
    sh(box, "kill -KILL $$", code=128 + signal.SIGKILL)


def test_what_cannot_be_run(box):
    assert box(*EXEC, "--", "/no/such/program", code=None).code in (126, 127, 255)
    assert box(*EXEC, "--workdir", "/no/such/place", "--", "true", code=None).code != 0


def test_options(box):
    assert box(*EXEC, "--workdir", "/", "--", "pwd").out == "/\n"
    assert sh(box, "echo $A,$B", "-e", "A=1", "--env", "B=x=y").out == "1,x=y\n"
    assert box("sandbox", "exec", "-n", "box", "echo", "-n", "no dashes").out == "no dashes"
    assert box("sandbox", "exec", "box", "--", "echo", "by word").out == "by word\n"
    began = time.monotonic()
    sh(box, "sleep 100", "--timeout", "1s", code=124)
    assert time.monotonic() - began < 20


def test_arguments_as_they_are(box):
    words = ["", " ", "a b", "'\"`$(id)", "*", "\\", "-n", "--", "é€😀", "\t\n"]
    out = box(*EXEC, "--", "printf", "%s\\0", *words).out
    assert out.split("\0")[:-1] == words


def test_standard_input(box):
    data = random.Random(1).randbytes(5 << 20)
    assert box(*EXEC, "--", "cat", input=data).raw == data
    assert box(*EXEC, "--", "wc", "-c", input=b"").out.strip() == "0"
    with open(box.here / "f", "wb") as file:
        file.write(data)
    with open(box.here / "f", "rb") as file:
        assert box(*EXEC, "--", "wc", "-c", stdin=file).out.strip() == str(len(data))


def test_no_stdin_leaves_it_alone(box):
    script = f"{PROGRAM} {' '.join(EXEC)} --no-stdin -- cat; cat"
    left = subprocess.run(["sh", "-c", script], input=b"for later", stdout=subprocess.PIPE, env=box.env, check=True)
    assert left.stdout == b"for later"


def test_a_command_that_reads_nothing(box):
    sh(box, "exit 3", input=bytes(8 << 20), code=3)


def test_much_output(box):
    assert len(sh(box, "head -c 50000000 /dev/zero").raw) == 50_000_000
    assert len(sh(box, "head -c 5000000 /dev/zero >&2; head -c 5000000 /dev/zero").raw) == 5_000_000


def test_output_that_nobody_reads(box):
    process = box.popen(*EXEC, "--", "yes")
    assert process.stdout.read(2) == b"y\n"
    process.stdout.close()
    assert process.wait(30) == 128 + signal.SIGPIPE
    process.stdin.close()
    process.stderr.close()
    wait_until(lambda: not [c for c in processes_of(box.gateway.data_dir).values() if c.startswith("yes")], 15, "it ends")


def test_output_to_a_full_disk(box):
    with open("/dev/full", "wb") as full:
        failed = sh(box, "echo x", stdout=full, code=255)
    assert "No space" in failed.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_for_us_end_the_command(box, number):
    process = box.popen(*EXEC, "--", "sh", "-c", "echo up; exec sleep 1000")
    assert process.stdout.readline() == b"up\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    wait_until(lambda: not [c for c in processes_of(box.gateway.data_dir).values() if "sleep 1000" in c], 15, "it ends")


def test_gateway_dies(box):
    process = box.popen(*EXEC, "--", "sh", "-c", "echo up; exec sleep 1000")
    assert process.stdout.readline() == b"up\n"
    box.gateway.kill()
    _, err = process.communicate(timeout=30)
    assert process.returncode == 255 and err


def test_terminal(box):
    with box.terminal(*EXEC, "--", "sh", size=(33, 111)) as screen:
        screen.expect(rb"[$#] ")
        screen.type("stty size; tty; echo $TERM\r")
        screen.expect(rb"33 111\r\n/dev/\S+\r\nxterm\r\n")
        screen.resize(44, 122)
        time.sleep(0.3)
        screen.type("stty size\r")
        screen.expect(rb"44 122\r\n")
        screen.type("exit 5\r")
        assert screen.end() == 5


def test_keys_are_for_the_command(box):
    script = "trap 'echo; echo caught' INT; echo up; read x; read y; echo got $y"
    with box.terminal(*EXEC, "--", "sh", "-c", script) as screen:
        screen.expect(b"up\r\n")
        screen.type("\x03")
        screen.expect(b"caught")
        screen.type("a\rb\r")
        assert screen.end() == 0


def test_interrupted_command_on_a_terminal(box):
    with box.terminal(*EXEC, "--", "sh", "-c", "echo up; exec sleep 1000") as screen:
        screen.expect(b"up\r\n")
        screen.type("\x03")
        assert screen.end() == 128 + signal.SIGINT
    with box.terminal(*EXEC, "--", "sh", "-c", "echo up; exec cat") as screen:
        screen.expect(b"up\r\n")
        screen.type("line\r\x04")
        screen.expect(b"line\r\nline\r\n")
        assert screen.end() == 0


def test_no_tty_on_a_terminal(box):
    with box.terminal(*EXEC, "--no-tty", "--", "sh", "-c", "test -t 1 || echo none") as screen:
        screen.expect(b"none\r\n")
        assert screen.end() == 0
    assert "/dev/" in sh(box, "tty <&1", "--tty").out


def test_connect(box):
    with box.terminal("sandbox", "connect", "box", size=(30, 100)) as screen:
        screen.expect(rb"[$#] ")
        screen.type("stty size; pwd\r")
        screen.expect(rb"30 100\r\n(\S+)\r\n")
        screen.type("kill -TERM $$; exit 7\r")
        assert screen.end() in (7, 128 + signal.SIGTERM)
    with box.terminal("sandbox", "connect") as screen:
        screen.expect(rb"[$#] ")
        screen.type("\r")
        screen.expect(rb"[$#] ")
        screen.type("~.")
        assert screen.end() == 255
    assert "nonesuch" in box("sandbox", "connect", "nonesuch", code=255).err


def test_the_terminal_is_as_before(box):
    words = " ".join(EXEC)
    script = f'a=$(stty -g); {PROGRAM} {words} -- true; test "$a" = "$(stty -g)" && echo same'
    with box.terminal(program=["/bin/sh", "-c", script]) as screen:
        screen.expect(b"same\r\n")
        assert screen.end() == 0


def test_many_at_once(box):
    processes = [box.popen(*EXEC, "--", "sh", "-c", f"cat; echo {i}") for i in range(20)]
    for i, process in enumerate(processes):
        out, err = process.communicate(b"x" * 100_000, timeout=60)
        assert (process.returncode, out) == (0, b"x" * 100_000 + b"%d\n" % i), err
