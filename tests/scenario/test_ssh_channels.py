"""Channels of SSH by OpenSSH's client and by packets: commands, files, and their ends."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import termios
import time

import pytest
from conftest import settles, wait_until
from openshell._proto import openshell_pb2 as pb
from raw_ssh import CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE, channel_open, string
from ssh_box import box  # noqa: F401
from ssh_channel import (
    CLOSE,
    DATA,
    EOF,
    GLOBAL_REQUEST,
    MIB,
    REQUEST_FAILURE,
    REQUEST_SUCCESS,
    adjust,
    command,
    drain,
    open_session,
    read_data,
    read_some,
    request,
    send_data,
)
from test_forward import echo, service


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    path = tmp_path_factory.mktemp("large") / "large"
    path.write_bytes(os.urandom(100 * MIB))
    return path


def digest_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Commands.


def test_exit_code_and_outputs(box):
    assert box.run("echo out; echo err >&2; exit 3") == (3, b"out\n", b"err\n")
    assert box.run("true") == (0, b"", b"")
    assert box.run("exit 255")[0] == 255
    assert box.run("no-such-program")[0] == 127


def test_command_is_verbatim(box):
    assert box.run("printf '%s|' \"a  b\" 'c\"d' $((1+1))")[1] == b'a  b|c"d|2|'


def test_input_and_shell(box):
    assert box.run("cat", stdin=b"in") == (0, b"in", b"")
    code, out, _ = box.run(stdin=b"echo shell=$0\nexit 9\n")
    assert code == 9 and b"shell=-" in out


def test_environment(box, monkeypatch):
    for name, value in {"LANG": "de_DE.UTF-8", "LC_ALL": "C.UTF-8", "SECRET": "x", "LD_PRELOAD2": "y"}.items():
        monkeypatch.setenv(name, value)
    options = ("-o", "SendEnv LANG LC_* SECRET LD_PRELOAD2")
    assert box.run("echo $LANG,$LC_ALL,$SECRET,$LD_PRELOAD2", options=options)[1] == b"de_DE.UTF-8,C.UTF-8,,\n"


def test_end_by_a_signal(box):
    raw = box.raw()
    assert command(raw, "kill -TERM $$")[1] == ("exit-signal", "TERM")
    assert command(raw, "exit 7", number=1)[1] == ("exit-status", 7)


def test_signals(box):
    raw = box.raw()
    theirs = open_session(raw)
    request(raw, theirs, "exec", string("trap 'echo got; exit 4' USR1; echo ready; while :; do sleep 0.1; done"))
    read_data(raw, b"ready\n")
    for name in ("NO-SUCH", "STOP", "USR1"):
        request(raw, theirs, "signal", string(name), reply=False)
    got = drain(raw)
    assert got.out == b"got\n" and got.end == ("exit-status", 4)


def test_terminal(box):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 22, 77, 0, 0))
    modes = termios.tcgetattr(slave)
    modes[6][termios.VINTR] = b"\x07"
    termios.tcsetattr(slave, termios.TCSANOW, modes)
    line = box.words("stty size; stty -a; test -t 2 && tty; echo $TERM; read x; stty size; read y", options=("-tt",))
    process = subprocess.Popen(line, stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                               env={**os.environ, "TERM": "vt100"})
    out = read_terminal(master, b"vt100")
    assert b"22 77" in out and b"intr = ^G" in out and b"/dev/pts/" in out
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 99, 0, 0))
    process.send_signal(signal.SIGWINCH)
    time.sleep(0.3)
    os.write(master, b"\n")
    assert b"33 99" in read_terminal(master, b"33 99")
    time.sleep(0.3)  # the shell reads again
    os.write(master, b"\x07")  # the key that interrupts
    read_until_exit(process, master)
    assert process.returncode in (130, 255)
    os.close(master)
    os.close(slave)


def test_no_agent_and_no_x11(box):
    assert box.run("echo [$SSH_AUTH_SOCK][$DISPLAY]", options=("-A", "-X"))[:2] == (0, b"[][]\n")


def test_client_goes_and_the_command_ends(box):
    mark = box.work / "mark"
    line = f"exec 2>/dev/null; trap 'echo ended > {mark}; exit' TERM; echo ready; while :; do sleep 0.1; done"
    process = subprocess.Popen(box.words(line), stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(mark.exists, 10, "the command has heard of it")


# Bytes.


def test_large_both_ways(box, large):
    want = digest_of(large)
    with open(large, "rb") as file:
        up = subprocess.run(box.words("sha256sum"), stdin=file, capture_output=True, timeout=60)
    assert up.stdout.split()[0].decode() == want
    down = subprocess.Popen(box.words(f"cat {large}"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert hashlib.file_digest(down.stdout, "sha256").hexdigest() == want
    down.stdout.close()
    assert down.wait(10) == 0


def test_slow_command_holds_what_is_sent(box, large):
    """More than the window comes while the command does not read; then it reads all of it."""
    with open(large, "rb") as file:
        done = subprocess.run(box.words("sleep 1; sha256sum"), stdin=file, capture_output=True, timeout=60)
    assert done.stdout.split()[0].decode() == digest_of(large)


def test_closed_window_delays_nobody(box):
    raw = box.raw()
    theirs = open_session(raw, window=1000)
    request(raw, theirs, "exec", string("yes"))
    assert read_some(raw, 1000)
    before = box.memory_kib()
    # The same connection, and others.
    assert command(raw, "echo here", number=1)[0] == b"here\n"
    assert box.run("echo there")[1] == b"there\n"
    time.sleep(1.5)  # what waits has been copied out of shared blocks
    assert box.memory_kib() - before < 8 << 10
    adjust(raw, theirs, 2000)
    assert read_some(raw, 2000).startswith(b"y\n")


def test_output_before_exit(box):
    raw = box.raw()
    theirs = open_session(raw, window=10)
    request(raw, theirs, "exec", string("printf %030d 7; exit 5"))
    for _ in range(2):
        read_some(raw, 10)
        adjust(raw, theirs, 10)
    got = drain(raw)
    assert got.out.endswith(b"7") and got.end == ("exit-status", 5)


@pytest.mark.parametrize("packet", [1, 9, 10, 11, 255])
def test_packets_that_are_too_small(box, packet):
    raw = box.raw()
    raw.send(channel_open(packet=packet))
    assert raw.read_until(CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE)[0] == CHANNEL_OPEN_FAILURE
    assert command(raw, "echo fine")[0] == b"fine\n"


def test_data_beyond_the_window(box):
    raw = box.raw()
    theirs = open_session(raw)
    request(raw, theirs, "exec", string("sleep 60"))
    with contextlib.suppress(ConnectionError):
        for _ in range(1024):
            raw.send(bytes([DATA]) + struct.pack(">I", theirs) + string(bytes(30000)))
    assert raw.read_all()[-1] == 1  # SSH_MSG_DISCONNECT
    assert box.run("true")[0] == 0


# Ends.


def test_half_close_of_the_client(box):
    raw = box.raw()
    theirs = open_session(raw)
    request(raw, theirs, "exec", string("cat; echo after"))
    send_data(raw, theirs, b"before\n")
    raw.send(bytes([EOF]) + struct.pack(">I", theirs))
    got = drain(raw)
    assert got.out == b"before\nafter\n" and got.end == ("exit-status", 0)


@pytest.mark.parametrize("with_eof", [True, False])
def test_close_before_the_end(box, with_eof):
    """What was sent before is still the command's, and it runs on."""
    target = box.work / "written"
    raw = box.raw()
    theirs = open_session(raw)
    request(raw, theirs, "exec", string(f"cat > {target}; sleep 0.3; echo more >> {target}"))
    send_data(raw, theirs, b"data\n")
    if with_eof:
        raw.send(bytes([EOF]) + struct.pack(">I", theirs))
    raw.send(bytes([CLOSE]) + struct.pack(">I", theirs))
    raw.read_until(CLOSE)
    wait_until(lambda: target.exists() and target.read_bytes() == b"data\nmore\n", 10, "all is written")


def test_close_of_a_terminal_hangs_up(box):
    mark = box.work / "hup"
    raw = box.raw()
    theirs = open_session(raw)
    request(raw, theirs, "pty-req", string("vt100") + struct.pack(">IIII", 80, 24, 0, 0) + string(b"\0"))
    request(raw, theirs, "exec", string(f"trap 'echo > {mark}; exit' HUP; echo ready; while :; do sleep 0.1; done"))
    read_data(raw, b"ready")
    raw.send(bytes([CLOSE]) + struct.pack(">I", theirs))
    wait_until(mark.exists, 10, "the command has heard of it")


@pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE])
@pytest.mark.parametrize("line", ["yes", "yes >&2", "cat /dev/zero"])
def test_reader_that_has_read_enough(box, line, stdin):
    """`ssh box yes | head -1`: what writes gets SIGPIPE, what does not write goes on."""
    mark, both = box.work / "mark", subprocess.STDOUT
    process = subprocess.Popen(box.words(f"{line}; echo $? > {mark}"), stdin=stdin, stdout=subprocess.PIPE, stderr=both)
    assert process.stdout.read(2) in (b"y\n", b"\0\0")
    process.stdout.close()
    # OpenSSH's client says that it reads no more of stdout, and of stderr nothing: it goes on.
    if "&2" in line:
        time.sleep(0.5)
        process.kill()
        process.wait(5)
    else:
        assert process.wait(5) == 0 and mark.read_text() == "141\n"
    if stdin == subprocess.PIPE:
        process.stdin.close()


def stop_reading(raw, channel, name="eow@openssh.com"):
    request(raw, channel, name, b"", reply=False)


def as_openssh(box):
    return box.raw(identification=b"SSH-2.0-OpenSSH_9.2")


def test_one_of_two_readers_has_read_enough(box):
    raw = as_openssh(box)
    first, second = open_session(raw, 7, window=1000), open_session(raw, 8)
    request(raw, second, "exec", string("echo ready; trap 'echo got; exit 4' USR1; while :; do sleep 0.1; done"))
    read_data(raw, b"ready\n")
    request(raw, first, "exec", string("yes"))
    read_some(raw, 1000)
    stop_reading(raw, first)
    got = drain(raw)
    assert got.end == ("exit-signal", "PIPE") and got.out == b""
    request(raw, second, "signal", string("USR1"), reply=False)
    got = drain(raw)
    assert got.end == ("exit-status", 4) and got.out == b"got\n"


@pytest.mark.parametrize("identification", [b"SSH-2.0-OpenSSH_9.2", b"SSH-2.0-PuTTY_Release_0.78", b"SSH-2.0-raw"])
def test_requests_that_are_not_taken_for_it(box, identification):
    """Before there is a command, with an answer wanted, and of clients that do not say so."""
    raw = box.raw(identification=identification)
    theirs = open_session(raw)
    stop_reading(raw, theirs)
    request(raw, theirs, "exec", string("read x; echo got $x"))
    assert not request(raw, theirs, "break", struct.pack(">I", 100))
    if b"OpenSSH" not in identification:
        stop_reading(raw, theirs, "simple@putty.projects.tartarus.org")
    send_data(raw, theirs, b"it\n")
    assert drain(raw).out == b"got it\n"


def test_reader_of_a_terminal_has_read_enough(box):
    raw = as_openssh(box)
    theirs = open_session(raw)
    request(raw, theirs, "pty-req", string("vt100") + struct.pack(">IIII", 80, 24, 0, 0) + string(b"\0"))
    request(raw, theirs, "exec", string("trap 'exit 6' HUP; echo ready; while :; do echo; sleep 0.05; done"))
    read_data(raw, b"ready")
    stop_reading(raw, theirs)
    assert drain(raw).end == ("exit-status", 6)


def test_reader_that_closes_its_channel(box):
    mark = box.work / "ended"
    raw = box.raw()
    theirs = open_session(raw, window=1000)
    request(raw, theirs, "exec", string(f"yes; echo $? > {mark}"))
    read_some(raw, 1000)
    raw.send(bytes([CLOSE]) + struct.pack(">I", theirs))
    wait_until(lambda: mark.exists() and mark.read_text() == "141\n", 5, "it has had SIGPIPE")
    assert command(raw, "echo fine", number=1)[0] == b"fine\n"


def test_signal_after_the_input_has_ended(box):
    raw = box.raw()
    theirs = open_session(raw)
    request(raw, theirs, "exec", string("trap 'exit 4' USR1; cat; echo ready; while :; do sleep 0.1; done"))
    raw.send(bytes([EOF]) + struct.pack(">I", theirs))
    read_data(raw, b"ready\n")
    request(raw, theirs, "signal", string("USR1"), reply=False)
    assert drain(raw).end == ("exit-status", 4)


def running(word):
    """Processes with that word in their command line."""
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if word.encode() in (folder / "cmdline").read_bytes():
                found.append(folder.name)
    return found


def test_client_goes_and_the_command_ends_at_once(box):
    """Whether it writes or not, as long as it does not ignore SIGTERM."""
    word = f"is{box.session.id}"
    process = subprocess.Popen(box.words(f"yes {word} & yes {word} > /dev/null & sleep 1000"),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert process.stdout.read(2) == b"is"
    wait_until(lambda: len(running(word)) == 4, 5, "the shell, its commands and ssh are there")
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: not running(word), 1, "they have ended")


def test_two_closes_and_data_after(box):
    raw = box.raw()
    theirs = open_session(raw)
    request(raw, theirs, "exec", string("cat"))
    for _ in range(2):
        raw.send(bytes([CLOSE]) + struct.pack(">I", theirs))
        send_data(raw, theirs, b"late")
        request(raw, theirs, "exec", string("true"), wait=False)
    assert command(raw, "echo fine", number=1)[0] == b"fine\n"


def test_requests_that_make_no_sense(box):
    raw = box.raw()
    theirs = open_session(raw)
    assert not request(raw, theirs, "no-such", b"")
    assert not request(raw, theirs, "window-change", struct.pack(">IIII", 1, 1, 1, 1))
    assert not request(raw, theirs, "subsystem", string("no-such"))
    assert not request(raw, theirs, "env", string("PATH") + string("x"))
    assert not request(raw, theirs, "env", string("LC_A") + string("\x1b[31m"))
    assert request(raw, theirs, "env", string("LC_A") + string("x"))
    assert request(raw, theirs, "exec", string("cat"))
    for kind in ("exec", "shell", "pty-req", "subsystem"):
        assert not request(raw, theirs, kind, string("x") + struct.pack(">IIII", 1, 1, 1, 1) + string(b""))
    assert not request(raw, theirs, "window-change", struct.pack(">IIII", 1, 1, 1, 1))


def test_many_channels(box):
    """64 at once on one connection; the next is refused, until one of them has gone."""
    raw = box.raw()
    theirs = [open_session(raw, number=n) for n in range(64)]
    for number in theirs:
        assert request(raw, number, "exec", string("cat"))
    raw.send(channel_open(number=64))
    assert raw.read_until(CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE)[0] == CHANNEL_OPEN_FAILURE
    for number in theirs:
        raw.send(bytes([EOF]) + struct.pack(">I", number))
        raw.read_until(CLOSE)
        raw.send(bytes([CLOSE]) + struct.pack(">I", number))
    assert command(raw, "echo again", number=65)[0] == b"again\n"


def test_crowd(box):
    """More commands at one moment than the gateway lets wait for a sandbox: all are served."""
    crowd = [box.raw() for _ in range(24)]
    channels = [[open_session(raw, number=n) for n in range(4)] for raw in crowd]
    for raw, theirs in zip(crowd, channels):
        for number in theirs:
            request(raw, number, "exec", string("echo served"), wait=False)
    for raw in crowd:
        for _ in range(4):
            got = drain(raw)
            assert got.end == ("exit-status", 0), got.err


def test_one_after_the_other(box):
    """Nothing of a channel stays."""
    raw = box.raw()
    assert command(raw, "true")[1] == ("exit-status", 0)
    pid, count = box.process.pid, len(os.listdir(f"/proc/{box.process.pid}/fd"))
    for n in range(1, 100):
        assert command(raw, f"echo {n}", number=n)[0] == f"{n}\n".encode()
    raw.close()
    settles(pid, [None] * count)


# Files.


def test_sftp_and_scp(box, large, tmp_path):
    want = digest_of(large)
    for number, old in enumerate(([], ["-O"])):
        back = tmp_path / f"back{number}"
        there = f"a b{number}"
        remote = "{}:" + (there.replace(" ", "\\ ") if old else there)
        assert box.tool("scp", *old, "-q", str(large), remote).returncode == 0
        assert digest_of(box.work / there) == want
        assert box.tool("scp", *old, "-q", remote, str(back)).returncode == 0
        assert digest_of(back) == want
    batch = box.tool("sftp", "-b", "-", "{}", input=b"mkdir d\nrename d e\nls -1\n")
    assert batch.returncode == 0 and b"\ne\n" in batch.stdout


def test_scp_of_a_pattern(box, tmp_path):
    for name in ("x1", "x2", "y"):
        (box.work / name).write_text(name)
    assert box.tool("scp", "-O", "-q", "{}:x*", str(tmp_path)).returncode == 0
    assert sorted(path.name for path in tmp_path.glob("?[12]")) == ["x1", "x2"]


def test_rsync(box, tmp_path):
    tree = tmp_path / "tree"
    for n in range(300):
        file = tree / f"d{n % 7}" / f"f{n}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(n * 10))
    where = f"{box.session.username}@{box.host}:copy/"
    for source, target in ((f"{tree}/", where), (where, f"{tmp_path}/back/")):
        subprocess.run(["rsync", "-a", "-e", box.shell_option(), source, target], check=True, timeout=60)
    assert subprocess.run(["diff", "-r", tree, tmp_path / "back"]).returncode == 0


# Permissions.


@pytest.mark.parametrize("granted", [[1], [2], [3], [4]])
def test_permissions(box, granted, tmp_path):
    box.session = box.new_session(permissions=granted)
    _, out, err = box.run("echo fine")
    assert (out == b"fine\n") == (1 in granted)
    assert (b"does not permit commands" in err) == (1 not in granted)
    _, out, err = box.run("echo fine", options=("-tt",))
    assert (b"fine" in out) == (2 in granted), err
    (box.work / "file").write_text("x")
    for old in ([], ["-O"]):
        target = tmp_path / f"file{len(old)}"
        box.tool("scp", *old, "-q", "{}:file", str(target))
        assert target.exists() == (3 in granted)
    with service(echo) as port:
        done = subprocess.run(box.words(options=("-W", f"127.0.0.1:{port}")), input=b"in", capture_output=True,
                              timeout=20)
        assert (done.stdout == b"in") == (4 in granted)
    raw = box.raw()
    raw.send(bytes([GLOBAL_REQUEST]) + string("tcpip-forward") + b"\1" + string("") + struct.pack(">I", 0))
    assert (raw.read_until(REQUEST_SUCCESS, REQUEST_FAILURE)[0] == REQUEST_SUCCESS) == (4 in granted)


def test_sandbox_that_is_stopped(box):
    box.real.stub.StopSandbox(pb.StopSandboxRequest(name="box"), timeout=30)
    box.real.wait_phase("box", "STOPPED")
    code, _, err = box.run("true")
    assert code == 255 and b"towline: " in err


# Terminals.


def read_terminal(master, text, seconds=10):
    out, deadline = b"", time.monotonic() + seconds
    while text not in out and time.monotonic() < deadline:
        if select.select([master], [], [], 0.2)[0]:
            out += os.read(master, 65536)
    return out


def read_until_exit(process, master):
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        if select.select([master], [], [], 0.1)[0]:
            os.read(master, 65536)
    assert process.poll() is not None
