"""Files.Sftp, spoken by the clients that people have."""

import hashlib
import os
import pathlib
import select
import shutil
import socket
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


def test_scp_tells_what_fails_and_goes_on(clients):
    (clients.there / "a").write_text("a")
    (clients.there / "b1").write_text("b")
    (clients.there / "d").mkdir()
    old = ["scp", "-O", "-S", clients.program]
    made = clients.run(*old, "box:missing", "box:b?", "box:d", "box:~/none", ".")
    assert made.returncode == 1
    for words in ("missing: No such file", "d: not a regular file", "none: No such file"):
        assert words in made.stderr, made.stderr
    assert (clients.here / "b1").read_text() == "b"
    made = clients.run(*old, "bridge", "box:d/no/such/place")
    assert made.returncode == 1 and "d/no" in made.stderr
    made = clients.run(*old, "bridge", "bridge", "box:a")
    assert made.returncode == 1 and "Not a directory" in made.stderr
    assert (clients.there / "a").read_text() == "a"


def test_old_scp_moves_100_mib_both_ways(clients):
    big = clients.here / "big"
    big.write_bytes(os.urandom(1 << 20) * 100)
    old = ["scp", "-O", "-S", clients.program]
    assert clients.run(*old, "big", "box:there").returncode == 0
    assert clients.run(*old, "box:there", "back").returncode == 0
    assert digest(clients.there / "there") == digest(clients.here / "back") == digest(big)
    assert not list(clients.there.glob(".there*"))


def test_sftp_commands(clients):
    """Each request that OpenSSH's client knows to make."""
    (clients.here / "f").write_text("content")
    said = clients.sftp(
        "pwd",
        "mkdir d",
        "put -p f d/f",
        "chmod 640 d/f",
        "rename d/f d/g",
        "ln d/g d/hard",
        "ln -s g d/soft",
        "cp d/g d/copy",
        "ls -la d",
        "ls -ln d/g",
        "df .",
        "df -i .",
        "get d/soft got",
        "rm d/hard",
        "mkdir e",
        "rmdir e",
        "chown -h 0 d/soft",
        "cd d",
        "pwd",
    )
    there = clients.there / "d"
    assert (there / "g").read_text() == (there / "copy").read_text() == "content"
    assert (there / "g").stat().st_mode & 0o777 == 0o640
    assert os.readlink(there / "soft") == "g" and not (there / "hard").exists()
    assert (clients.here / "got").read_text() == "content"
    assert f"Remote working directory: {clients.there}" in said
    assert f"Remote working directory: {there}" in said
    assert "-rw-r-----" in said and "%Capacity" in said and "lrwxrwxrwx" in said
    for failing, words in (("get missing", "not found"), ("rmdir d", "Failure"), ("mkdir d", "Failure"),
                           ("rm d", "Failure"), ("ls missing", "not found"), ("put f d/g/x", "No such")):
        said = clients.sftp(failing, code=1)
        assert words.lower() in said.lower(), said


def test_sftp_resumes(clients):
    content = os.urandom(3_000_000)
    (clients.here / "f").write_bytes(content)
    (clients.there / "f").write_bytes(content[:1_000_001])
    clients.sftp("reput f f")
    assert (clients.there / "f").read_bytes() == content
    (clients.here / "f").write_bytes(content[:1_234_567])
    clients.sftp("reget f f")
    assert (clients.here / "f").read_bytes() == content


def test_sftp_moves_directories(clients):
    make_odd_tree(clients.here / "tree")
    (clients.here / "tree" / "new\nline").write_text("x")
    clients.sftp("put -rp tree", "get -rp tree back")
    assert tree_of(clients.there / "tree") == tree_of(clients.here / "tree")
    assert tree_of(clients.here / "back") == tree_of(clients.here / "tree")


def test_many_entries_are_listed(clients):
    (clients.there / "many").mkdir()
    names = [f"{number:05}" + "x" * 100 for number in range(3000)]
    for name in names:
        (clients.there / "many" / name).touch()
    said = clients.sftp("ls -1 many")
    assert [line.rpartition("/")[2].strip() for line in said.splitlines()[1:]] == names


class BridgeSocket:
    """A bridge as a file of its own for paramiko."""

    def __init__(self, clients):
        self.ours, theirs = socket.socketpair()
        self.process = subprocess.Popen([clients.program], stdin=theirs, stdout=theirs, env=clients.env)
        theirs.close()

    def send(self, data):
        return self.ours.send(data)

    def recv(self, size):
        return self.ours.recv(size)

    def recv_ready(self):
        return bool(select.select([self.ours], [], [], 0)[0])

    def get_name(self):
        return "bridge"

    def close(self):
        self.ours.close()
        self.process.wait(10)

    closed = False


@pytest.fixture
def paramiko_client(clients):
    paramiko = pytest.importorskip("paramiko")
    sock = BridgeSocket(clients)
    yield paramiko.SFTPClient(sock)
    sock.close()


def test_paramiko(clients, paramiko_client):
    sftp = paramiko_client
    content = os.urandom(5_000_000)
    with sftp.open("f", "wb") as file:
        file.set_pipelined(True)
        file.write(content)
    assert sftp.stat("f").st_size == len(content)
    with sftp.open("f", "rb") as file:
        file.prefetch(len(content))
        assert file.read() == content
        file.seek(4_999_990)
        assert file.read(100) == content[-10:]
        assert file.readv([(0, 10), (1_000_000, 10)]).__next__() == content[:10]
    with sftp.open("f", "ab") as file:
        file.write(b"end")
    with sftp.open("f", "r+b") as file:
        file.seek(0)
        file.write(b"begin")
    assert (clients.there / "f").read_bytes() == b"begin" + content[5:] + b"end"
    with pytest.raises(OSError):
        sftp.open("f", "x")
    sftp.mkdir("d", 0o700)
    with pytest.raises(OSError):
        sftp.rename("f", "d")
    sftp.posix_rename("f", "d/g")
    sftp.symlink("g", "d/l")
    assert sftp.readlink("d/l") == "g"
    sftp.truncate("d/g", 3)
    sftp.utime("d/g", (1, 2))
    sftp.chmod("d/g", 0o600)
    info = sftp.lstat("d/g")
    assert (info.st_size, info.st_mode & 0o777, info.st_atime, info.st_mtime) == (3, 0o600, 1, 2)
    assert sorted(sftp.listdir("d")) == ["g", "l"]
    assert sftp.normalize("d/../d/l") == str(clients.there / "d" / "g")
    with pytest.raises(FileNotFoundError):
        sftp.stat("missing")
    with pytest.raises(OSError):
        sftp.rmdir("d")
    for name in ("d/g", "d/l"):
        sftp.remove(name)
    sftp.rmdir("d")
    assert os.listdir(clients.there) == []


def test_no_fifo_is_waited_for(clients, paramiko_client):
    os.mkfifo(clients.there / "fifo")
    for mode in ("rb", "wb", "r+b"):
        with pytest.raises(OSError):
            paramiko_client.open("fifo", mode)
    with paramiko_client.open("/dev/null", "wb") as null:
        null.write(b"gone")


@pytest.fixture
def mounted(clients):
    if shutil.which("sshfs") is None or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("no sshfs, or no FUSE here")
    point = clients.here / "mount"
    point.mkdir()
    made = clients.run(
        "sshfs", "box:", str(point), "-o", f"ssh_command={clients.program},dir_cache=no,max_conns=1"
    )
    assert made.returncode == 0, made.stderr
    yield point
    clients.run("fusermount3", "-u", str(point))


def test_sshfs(clients, mounted):
    content = os.urandom(20 << 20)
    (mounted / "f").write_bytes(content)
    assert digest(clients.there / "f") == hashlib.sha256(content).hexdigest()
    assert (mounted / "f").read_bytes() == content
    make_odd_tree(mounted / "tree")
    assert tree_of(mounted / "tree") == tree_of(clients.there / "tree")
    (mounted / "g").write_text("other")
    os.replace(mounted / "g", mounted / "f")
    os.link(mounted / "f", mounted / "hard")
    os.symlink("f", mounted / "soft")
    os.truncate(mounted / "f", 2)
    os.chmod(mounted / "f", 0o600)
    os.utime(mounted / "f", (3, 4))
    assert (mounted / "soft").read_text() == "ot"
    info = (clients.there / "f").stat()
    assert (info.st_mode & 0o777, info.st_mtime, info.st_nlink) == (0o600, 4, 2)
    assert os.statvfs(mounted).f_blocks == os.statvfs(clients.there).f_blocks
    shutil.rmtree(mounted / "tree")
    assert sorted(os.listdir(clients.there)) == ["f", "hard", "soft"]


def test_lftp(clients):
    if shutil.which("lftp") is None:
        pytest.skip("no lftp")
    make_odd_tree(clients.here / "tree")
    (clients.here / "f").write_bytes(os.urandom(5_000_000))
    made = clients.run(
        "lftp", "--norc", "-c",
        f"set sftp:connect-program {clients.program}; set net:max-retries 1; open sftp://box;"
        "put f; mirror -R tree there; mirror --parallel=2 there back; get f -o g; mv f h; cls -l; chmod 600 h",
    )
    assert made.returncode == 0, made.stdout + made.stderr
    assert digest(clients.there / "h") == digest(clients.here / "g") == digest(clients.here / "f")
    assert tree_of(clients.there / "there") == tree_of(clients.here / "back") == tree_of(clients.here / "tree")
    assert (clients.there / "h").stat().st_mode & 0o777 == 0o600
