"""What people have on their machines, into a sandbox: each client in each of its ways."""

import hashlib
import json
import os
import socketserver
import subprocess
import threading
import time

import pytest
import ssh_clients
from towline_cli import ssh_box as box  # noqa: F401

MIB = 1 << 20
ODD_NAMES = ("with space", "quo'te", 'dou"ble', "dollar$HOME", "back\\slash", "-dash", "ümläut", "semi;colon",
             "star*", "new\nline", ".hidden")
# What a client's own command language cannot say, whoever the server is.
CANNOT_SAY = {
    "putty": {"new\nline", 'dou"ble'},
    "lftp": {"new\nline"},
    "asyncssh": {"back\\slash"},
    "scp -O": {"new\nline"},
}


def session_of(box, **options):
    words = [f"--{name}={value}" for name, value in options.items()]
    return box("-o", "json", "ssh-session", "create", "box", *words).json


@pytest.fixture(params=ssh_clients.ALL)
def client(request, box, tmp_path):
    kind = ssh_clients.ALL[request.param]
    missing = kind.missing()
    if missing:
        pytest.skip(f"{missing} is not here")
    folder = tmp_path / "client"
    folder.mkdir(mode=0o700)
    made = kind(session_of(box), folder)
    made.name = request.param
    made.there = box.workdir
    return made


def need(client, name):
    if getattr(client, name, None) is None:
        pytest.skip(f"{client.name} has nothing like it")
    return getattr(client, name)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_command_and_its_exit_code(client):
    run = need(client, "run")
    assert run("echo hello; exit 7") == (7, "hello\n")
    assert run("true")[0] == 0


def test_a_terminal_of_that_size(client):
    assert "22 77" in need(client, "pty")(22, 77)


def test_100_mib_up_and_down(client, tmp_path):
    here, back = tmp_path / "sent", tmp_path / "back"
    here.write_bytes(os.urandom(100 * MIB))
    need(client, "put")(here, str(client.there / "big"))
    assert digest(client.there / "big") == digest(here)
    client.get(str(client.there / "big"), back)
    assert digest(back) == digest(here)


def test_a_directory_with_odd_names(client, tmp_path):
    tree = tmp_path / "tree"
    names = [name for name in ODD_NAMES if name not in CANNOT_SAY.get(client.name, ())]
    (tree / "sub dir" / "empty").mkdir(parents=True)
    for name in names:
        (tree / name).write_text(name)
        (tree / "sub dir" / name).write_text(name + name)
    need(client, "tree")(tree, str(client.there / "tree"))
    arrived = client.there / "tree"
    assert sorted(os.listdir(arrived)) == sorted([*names, "sub dir"])
    assert sorted(os.listdir(arrived / "sub dir")) == sorted([*names, "empty"] if (arrived / "sub dir/empty").exists()
                                                             else names)
    for name in names:
        assert (arrived / name).read_text() == name
        assert (arrived / "sub dir" / name).read_text() == name + name


class Pong(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(self.rfile.read().replace(b"ping", b"pong"))


@pytest.fixture
def service():
    """A service in the sandbox: the local driver's has this machine's network."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Pong) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_a_forward(client, service):
    assert need(client, "forward")(service) == "pong\n"


def test_no_second_use_after_expiry(client, box, tmp_path):
    folder = tmp_path / "short"
    folder.mkdir(mode=0o700)
    short = type(client)(session_of(box, ttl="2s"), folder)
    here = tmp_path / "small"
    here.write_text("first")
    use = (lambda text: short.run(f"echo {text} >{client.there}/used")[0]) if getattr(short, "run", None) else (
        lambda text: (here.write_text(text), short.put(here, str(client.there / "used"))))
    use("first")
    assert (client.there / "used").read_text().strip() == "first"
    time.sleep(2.5)
    try:
        assert use("second") != 0
    except Exception as refused:  # noqa: BLE001: every library has its own
        assert not isinstance(refused, subprocess.TimeoutExpired), refused
    assert (client.there / "used").read_text().strip() == "first"


def test_the_first_scp_works(box, tmp_path):
    """As the answer of CreateSshSession says it, with nothing but the key."""
    made = session_of(box)
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(made["private_key"])
    known = tmp_path / "known"
    known.write_text(f"[{made['host']}]:{made['port']} {made['host_key']}\n")
    (tmp_path / "f").write_text("content")
    subprocess.run(["scp", "-q", "-o", f"UserKnownHostsFile={known}", "-i", key, "-P", str(made["port"]),
                    tmp_path / "f", f"{made['username']}@{made['host']}:"], check=True, timeout=60)
    assert (box.workdir / "f").read_text() == "content"
    assert json.dumps(made).count("PRIVATE KEY") == 2
