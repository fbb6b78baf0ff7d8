"""towline sandbox ssh, scp, sftp, rsync, ssh-config, ssh-proxy and ssh-session: the real tools."""

import os
import socket
import stat
import subprocess

import pytest
from conftest import wait_until
from ssh_clients import free_port
from towline_cli import ssh_box as box  # noqa: F401


@pytest.fixture
def ended(box):
    """Whatever a tool did: its session is revoked, its key gone."""
    yield
    # ssh does not wait for its proxy.
    wait_until(lambda: box("-o", "json", "ssh-session", "list").json == [], 10, "there is no session")
    assert not list(box.state.glob("ssh/run-*"))


def test_ssh(box, ended):
    done = box("sandbox", "ssh", "box", "--", "echo out; echo err >&2; exit 3", code=3)
    assert (done.out, "err" in done.err) == ("out\n", True)
    assert box("sandbox", "ssh", "box", "cat", input=b"through").out == "through"


def test_ssh_on_a_terminal(box, ended):
    with box.terminal("sandbox", "ssh", "box", size=(22, 77)) as screen:
        screen.type("stty size; exit 4\n")
        screen.expect(rb"22 77")
        assert screen.end() == 4


def test_scp_both_ways(box, ended):
    (box.here / "d").mkdir()
    (box.here / "d" / "f").write_text("content")
    box("sandbox", "scp", "-r", "d", "box:e")
    assert (box.workdir / "e" / "f").read_text() == "content"
    box("sandbox", "scp", "box:e/f", "back")
    assert (box.here / "back").read_text() == "content"


def test_sftp(box, ended):
    (box.here / "f").write_text("content")
    box("sandbox", "sftp", "-b", "-", "box", input=b"put f g\nrename g h\nget h i\n")
    assert (box.here / "i").read_text() == "content"
    assert os.listdir(box.workdir) == ["h"]


def test_rsync(box, ended):
    (box.here / "d").mkdir()
    for i in range(20):
        (box.here / "d" / f"f{i}").write_text(str(i))
    box("sandbox", "rsync", "-a", "d/", "box:e/")
    assert sorted(os.listdir(box.workdir / "e")) == sorted(f"f{i}" for i in range(20))
    box("sandbox", "rsync", "-a", "box:e", ".")
    assert (box.here / "e" / "f7").read_text() == "7"


def test_what_names_no_sandbox(box):
    assert "NAME:PATH" in box("sandbox", "scp", "a", "b", code=255).err
    assert "nosuch" in box("sandbox", "ssh", "nosuch", code=255).err
    assert "which sandbox" in box("sandbox", "ssh", code=2).err
    many = [f"b{i}:x" for i in range(17)]
    assert "more than 16" in box("sandbox", "scp", *many, ".", code=255).err


def test_ssh_config_and_proxy(box, ended):
    config = box.here / "config"
    config.write_text(box("sandbox", "ssh-config", "box").out)
    text = config.read_text()
    assert "StrictHostKeyChecking yes" in text and "StrictHostKeyChecking no" not in text
    ssh = ["ssh", "-F", str(config), "-o", "BatchMode=yes"]
    done = subprocess.run([*ssh, "box", "echo hi; exit 5"], env=box.env, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (5, b"hi\n"), done.stderr
    # A host key that is not the pinned one is refused.
    known = next(box.state.glob("ssh/known_hosts"))
    good = known.read_text()
    wrong = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPtx1Q5tUjLzFHvSwqlFsWLv2nS9qOMeJEmz6bkq1234"
    known.write_text(" ".join([good.split()[0], wrong]) + "\n")
    done = subprocess.run([*ssh, "box", "true"], env=box.env, capture_output=True, timeout=60)
    assert done.returncode == 255 and b"ost key verification failed" in done.stderr, done.stderr
    assert box("sandbox", "ssh-config", "box").out == text
    assert known.read_text() == good


def test_as_vs_code_does(box, ended):
    """Its server is installed by a script on standard input, and reached by the same connection's SOCKS."""
    config = box.here / "config"
    config.write_text(box("sandbox", "ssh-config", "box").out)
    script = """
        uname -srm; umask 077; mkdir -p .server/bin; printf 'token' >.server/token
        python3 -c 'import socketserver as s
        class H(s.StreamRequestHandler):
            def handle(self): self.wfile.write(b"served " + self.rfile.readline())
        t = s.TCPServer(("127.0.0.1", 0), H); print("listeningOn==", t.server_address[1], "==", flush=True)
        t.serve_forever()'
    """
    lines = "\n".join(line.removeprefix("        ") for line in script.splitlines())
    socks = free_port()
    server = subprocess.Popen(["ssh", "-F", config, "-T", "-D", str(socks), "-o", "ConnectTimeout=15", "box", "bash"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=box.env)
    try:
        server.stdin.write(lines.encode())
        server.stdin.close()
        port = next(int(line.split(b"==")[1]) for line in server.stdout if b"listeningOn" in line)
        with socket.create_connection(("127.0.0.1", socks), timeout=30) as stream:
            stream.sendall(b"\x05\x01\x00")
            assert stream.recv(2) == b"\x05\x00"
            stream.sendall(b"\x05\x01\x00\x01\x7f\x00\x00\x01" + port.to_bytes(2, "big"))
            assert stream.recv(10)[:2] == b"\x05\x00"
            stream.sendall(b"it\n")
            assert stream.makefile("rb").read() == b"served it\n"
        assert (box.workdir / ".server" / "token").read_text() == "token"
    finally:
        server.terminate()
        server.wait(20)


def test_proxy_with_a_token(box):
    made = box("-o", "json", "ssh-session", "create", "box").json
    known = box.here / "known"
    known.write_text(f"x {made['host_key']}\n")
    program = box.popen("--version").args[0]
    done = subprocess.run(
        ["ssh", "-F", "none", "-o", f"ProxyCommand={program} sandbox ssh-proxy box", "-o", "HostKeyAlias=x",
         "-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "box", "echo hi"],
        env=box.env | {"TOWLINE_SSH_TOKEN": made["token"]}, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, b"hi\n"), done.stderr
    assert "token" in box("sandbox", "ssh-proxy", "box", "--token", "ssh-0.1", code=255, input=b"").err


def test_sessions(box):
    table = box("ssh-session", "create", "box", "--ttl", "1h", "--permit", "exec").out
    rows = dict(line.split(None, 1) for line in table.splitlines() if not line.startswith(("host key", "key file")))
    key = next(box.state.glob("ssh/*.key"))
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert rows["connect"].startswith(f"ssh -p {rows['port']} -i {key} ")
    listed = box("-o", "json", "ssh-session", "list", "box").json
    assert [s["session_id"] for s in listed] == [rows["session"]]
    assert listed[0]["permissions"] == ["exec"]
    assert rows["session"] in box("ssh-session", "list").out
    assert box("-o", "json", "ssh-session", "revoke", rows["session"]).json[0]["revoked"]
    assert not key.exists()
    assert not box("-o", "json", "ssh-session", "revoke", rows["session"]).json[0]["revoked"]
    assert box("-o", "json", "ssh-session", "list").json == []
    assert box("-o", "json", "ssh-session", "list", "--all").json[0]["revoked_at"] != ""


def test_a_key_of_ones_own(box):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", box.here / "mine"], check=True)
    made = box("-o", "json", "ssh-session", "create", "box", "--public-key", "mine.pub").json
    assert "private_key" not in made
    known = box.here / "known"
    known.write_text(f"[{made['host']}]:{made['port']} {made['host_key']}\n")
    done = subprocess.run(["ssh", "-F", "none", "-i", box.here / "mine", "-o", f"UserKnownHostsFile={known}", "-p",
                           str(made["port"]), f"{made['username']}@{made['host']}", "echo mine"], capture_output=True,
                          timeout=60)
    assert done.stdout == b"mine\n", done.stderr


def test_what_cannot_be(box):
    for words, what in ((["--ttl", "25h"], "ttl"), (["--ttl", "0s"], "ttl")):
        assert what in box("ssh-session", "create", "box", *words, code=2).err
    assert "none of exec" in box("ssh-session", "create", "box", "--permit", "root", code=1).err
    (box.here / "bad.pub").write_text("ssh-ed25519 nonsense\n")
    assert "key" in box("ssh-session", "create", "box", "--public-key", "bad.pub", code=1).err
    (box.here / "there").write_text("precious")
    assert "there" in box("ssh-session", "create", "box", "--key-file", "there", code=1).err
    assert (box.here / "there").read_text() == "precious"
    assert box("-o", "json", "ssh-session", "list").json == []
