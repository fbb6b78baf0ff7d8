"""SSH clients that people have, each told how to reach one session, all asked the same.

    run(command) -> (code, output)    pty(rows, columns) -> what `stty size` says there
    put(here, there), get(there, here), tree(here, there)
    forward(port) -> what answers "ping" at a port of the sandbox, through -L or its like

A client that has no such thing leaves the function out. What ends with another code than 0
raises CalledProcessError, but for run().
"""

import asyncio
import contextlib
import fcntl
import os
import pathlib
import pty
import shlex
import shutil
import socket
import struct
import subprocess
import termios

from conftest import REPOSITORY, wait_until

SECONDS = 120
GO_CLIENT = REPOSITORY / "build/go/bin/ssh-client"
NODE_CLIENT = REPOSITORY / "build/node"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def ask(port):
    """What answers "ping" on a port of this machine."""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as stream:
        stream.sendall(b"ping\n")
        stream.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: stream.recv(4096), b"")).decode()


def on_terminal(command, rows, columns):
    """Its output, run on a terminal of that size."""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.execvp(command[0], command)
    seen = b""
    with contextlib.suppress(OSError):  # EIO: nobody has the other side
        while more := os.read(fd, 4096):
            seen += more
    # Some let go of the terminal before they end; to close it then would kill them.
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.close(fd)
    if code != 0:
        raise subprocess.CalledProcessError(code, command, seen)
    return seen.decode()


class Client:
    """One that is a program, or several."""

    programs = ()

    def __init__(self, session, folder):
        self.folder = pathlib.Path(folder)
        self.host, self.port, self.user = session["host"], session["port"], session["username"]
        self.host_key = session["host_key"]
        self.key = self.folder / "key"
        if not self.key.exists():
            self.key.touch(mode=0o600)
            self.key.write_text(session["private_key"])
        (self.folder / "known").write_text(f"[{self.host}]:{self.port} {self.host_key}\n")
        self.prepare()

    @classmethod
    def missing(cls):
        """What it needs and is not here; None if it is all there."""
        return next((program for program in cls.programs if shutil.which(program) is None), None)

    def prepare(self):
        pass

    def call(self, command, input=None, code=0):
        done = subprocess.run(list(map(str, command)), input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=SECONDS)
        if code is not None and done.returncode != code:
            raise subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr.decode())
        return done.returncode, done.stdout.decode()

    def through(self, command, port):
        """With a forward that a command makes on a port of this machine."""
        tunnel = subprocess.Popen(list(map(str, command)), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        try:
            def listens():
                assert tunnel.poll() is None, f"{command}: {tunnel.returncode}"
                return socket.socket().connect_ex(("127.0.0.1", port)) == 0

            wait_until(listens, 20, "the forward listens")
            return ask(port)
        finally:
            tunnel.terminate()
            tunnel.wait(10)


class OpenSsh(Client):
    programs = ("ssh", "scp", "sftp")

    def options(self):
        return ["-F", "none", "-i", self.key, "-o", f"Port={self.port}", "-o", "IdentitiesOnly=yes", "-o",
                f"UserKnownHostsFile={self.folder}/known", "-o", "GlobalKnownHostsFile=none", "-o",
                "StrictHostKeyChecking=yes", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]

    @property
    def at(self):
        return f"{self.user}@{self.host}"

    def run(self, command):
        return self.call(["ssh", *self.options(), self.at, command], code=None)

    def pty(self, rows, columns):
        return on_terminal(["ssh", "-tt", *map(str, self.options()), self.at, "stty size"], rows, columns)

    def put(self, here, there):
        self.call(["sftp", "-q", "-b", "-", *self.options(), self.at], input=f'put "{here}" "{there}"\n'.encode())

    def get(self, there, here):
        self.call(["sftp", "-q", "-b", "-", *self.options(), self.at], input=f'get "{there}" "{here}"\n'.encode())

    def tree(self, here, there):
        self.call(["sftp", "-q", "-b", "-", *self.options(), self.at], input=f'put -R "{here}" "{there}"\n'.encode())

    def forward(self, target):
        port = free_port()
        return self.through(["ssh", "-N", *self.options(), "-L", f"{port}:127.0.0.1:{target}", self.at], port)


class Scp(OpenSsh):
    """scp as it is now: by SFTP."""

    protocol = ()

    def put(self, here, there):
        self.call(["scp", "-q", *self.protocol, *self.options(), here, f"{self.at}:{there}"])

    def get(self, there, here):
        self.call(["scp", "-q", *self.protocol, *self.options(), f"{self.at}:{there}", here])

    def tree(self, here, there):
        self.call(["scp", "-q", "-r", *self.protocol, *self.options(), here, f"{self.at}:{there}"])

    pty = forward = None


class OldScp(Scp):
    """As it was: its own protocol, with a program at the other end."""

    protocol = ("-O",)


class Rsync(OpenSsh):
    programs = ("ssh", "rsync")

    def rsync(self, *arguments):
        shell = " ".join(shlex.quote(str(word)) for word in ["ssh", *self.options()])
        self.call(["rsync", "-e", shell, *arguments])

    def put(self, here, there):
        self.rsync("-a", here, f"{self.at}:{there}")

    def get(self, there, here):
        self.rsync("-a", f"{self.at}:{there}", here)

    def tree(self, here, there):
        self.rsync("-a", "-s", f"{here}/", f"{self.at}:{there}/")

    pty = forward = None


class Sshfs(OpenSsh):
    programs = ("sshfs", "fusermount3")

    @classmethod
    def missing(cls):
        return super().missing() or (None if os.access("/dev/fuse", os.R_OK | os.W_OK) else "/dev/fuse")

    @contextlib.contextmanager
    def mounted(self):
        point = self.folder / "mount"
        point.mkdir(exist_ok=True)
        self.call(["sshfs", f"{self.at}:/", point, "-o", f"ssh_command=ssh {' '.join(map(str, self.options()))}"])
        try:
            yield point
        finally:
            self.call(["fusermount3", "-u", point])

    def put(self, here, there):
        with self.mounted() as point:
            shutil.copy(here, f"{point}{there}")

    def get(self, there, here):
        with self.mounted() as point:
            shutil.copy(f"{point}{there}", here)

    def tree(self, here, there):
        with self.mounted() as point:
            shutil.copytree(here, f"{point}{there}")

    run = pty = forward = None


class Putty(Client):
    """plink and psftp."""

    programs = ("plink", "psftp", "puttygen")

    def prepare(self):
        self.ppk = self.folder / "key.ppk"
        if not self.ppk.exists():
            self.call(["puttygen", self.key, "-O", "private", "-o", self.ppk])
        fingerprint = self.call(["ssh-keygen", "-lf", self.folder / "known"])[1].split()[1]
        self.options = ["-batch", "-P", self.port, "-i", self.ppk, "-l", self.user, "-hostkey", fingerprint]

    def run(self, command):
        return self.call(["plink", *self.options, self.host, command], code=None)

    def pty(self, rows, columns):
        return on_terminal(["plink", "-t", *map(str, self.options), self.host, "stty size"], rows, columns)

    def psftp(self, script):
        batch = self.folder / "psftp"
        batch.write_text(script)
        self.call(["psftp", *self.options, "-b", batch, self.host])

    def put(self, here, there):
        self.psftp(f'put "{here}" "{there}"\n')

    def get(self, there, here):
        self.psftp(f'get "{there}" "{here}"\n')

    def tree(self, here, there):
        self.psftp(f'put -r -- "{here}" "{there}"\n')

    def forward(self, target):
        port = free_port()
        return self.through(["plink", "-N", *self.options, "-L", f"{port}:127.0.0.1:{target}", self.host], port)


class Dropbear(Client):
    """dbclient; files go through cat, as it has no transfer of its own."""

    programs = ("dbclient", "dropbearconvert")

    def prepare(self):
        converted = self.folder / "key.dropbear"
        if not converted.exists():
            self.call(["dropbearconvert", "openssh", "dropbear", self.key, converted])
        # It looks for the host's key at HOME, where we have no say of our own.
        self.options = ["-y", "-y", "-p", self.port, "-i", converted]

    @property
    def at(self):
        return f"{self.user}@{self.host}"

    def run(self, command):
        return self.call(["dbclient", *self.options, self.at, command], code=None)

    def pty(self, rows, columns):
        return on_terminal(["dbclient", "-t", *map(str, self.options), self.at, "stty size"], rows, columns)

    def put(self, here, there):
        self.call(["dbclient", *self.options, self.at, f"cat >{shlex.quote(there)}"],
                  input=pathlib.Path(here).read_bytes())

    def get(self, there, here):
        with open(here, "wb") as out:
            subprocess.run(list(map(str, ["dbclient", *self.options, self.at, f"cat {shlex.quote(there)}"])), stdout=out,
                           stderr=subprocess.DEVNULL, timeout=SECONDS, check=True)

    def tree(self, here, there):
        archive = subprocess.run(["tar", "-C", here, "-cf", "-", "."], stdout=subprocess.PIPE, check=True).stdout
        self.call(["dbclient", *self.options, self.at, f"mkdir {shlex.quote(there)}; tar -C {shlex.quote(there)} -xf -"],
                  input=archive)

    def forward(self, target):
        port = free_port()
        return self.through(["dbclient", "-N", *self.options, "-L", f"{port}:127.0.0.1:{target}", self.at], port)


class Lftp(OpenSsh):
    """Its own SFTP, over ssh."""

    programs = ("lftp", "ssh")

    def lftp(self, script):
        connect = "ssh -a -x " + " ".join(map(str, self.options()))
        script = (f'set sftp:connect-program "{connect}"; set net:max-retries 1; set cmd:fail-exit yes; '
                  f"set net:timeout 20; open -u {self.user},x sftp://{self.host}:{self.port}; {script}")
        self.call(["lftp", "-c", script])

    def put(self, here, there):
        self.lftp(f'put -O "{os.path.dirname(there)}" "{here}" -o "{os.path.basename(there)}"')

    def get(self, there, here):
        self.lftp(f'get "{there}" -o "{here}"')

    def tree(self, here, there):
        self.lftp(f'mirror -R "{here}" "{there}"')

    run = pty = forward = None


class Paramiko(Client):
    @contextlib.contextmanager
    def connected(self):
        import paramiko

        client = paramiko.SSHClient()
        client.load_host_keys(str(self.folder / "known"))
        client.connect(self.host, self.port, self.user, key_filename=str(self.key), allow_agent=False,
                       look_for_keys=False, timeout=SECONDS)
        with contextlib.closing(client):
            yield client

    def run(self, command):
        with self.connected() as client:
            _, out, _ = client.exec_command(command, timeout=SECONDS)
            text = out.read().decode()
            return out.channel.recv_exit_status(), text

    def pty(self, rows, columns):
        with self.connected() as client:
            channel = client.get_transport().open_session()
            channel.get_pty("xterm", columns, rows)
            channel.exec_command("stty size")
            return channel.makefile().read().decode()

    def put(self, here, there):
        with self.connected() as client, client.open_sftp() as files:
            files.put(str(here), there)

    def get(self, there, here):
        with self.connected() as client, client.open_sftp() as files:
            files.get(there, str(here))

    def tree(self, here, there):
        with self.connected() as client, client.open_sftp() as files:
            for folder, _, names in os.walk(here):
                at = os.path.normpath(os.path.join(there, os.path.relpath(folder, here)))
                files.mkdir(at)
                for name in names:
                    files.put(os.path.join(folder, name), os.path.join(at, name))

    def forward(self, target):
        with self.connected() as client:
            channel = client.get_transport().open_channel("direct-tcpip", ("127.0.0.1", target), ("127.0.0.1", 1))
            channel.sendall(b"ping\n")
            channel.shutdown_write()
            return channel.makefile().read().decode()


class Asyncssh(Client):
    def do(self, action):
        import asyncssh

        async def go():
            async with asyncssh.connect(self.host, self.port, username=self.user, client_keys=[str(self.key)],
                                        known_hosts=str(self.folder / "known"), config=None) as connection:
                return await action(connection)

        return asyncio.run(asyncio.wait_for(go(), SECONDS))

    def run(self, command):
        async def action(connection):
            done = await connection.run(command)
            return done.exit_status, done.stdout

        return self.do(action)

    def pty(self, rows, columns):
        async def action(connection):
            return (await connection.run("stty size", term_type="xterm", term_size=(columns, rows))).stdout

        return self.do(action)

    def files(self, method, *arguments, **options):
        async def action(connection):
            async with connection.start_sftp_client() as files:
                await getattr(files, method)(*arguments, **options)

        self.do(action)

    def put(self, here, there):
        self.files("put", str(here), there)

    def get(self, there, here):
        self.files("get", there, str(here))

    def tree(self, here, there):
        self.files("put", str(here), there, recurse=True)

    def forward(self, target):
        async def action(connection):
            reader, writer = await connection.open_connection("127.0.0.1", target)
            writer.write(b"ping\n")
            writer.write_eof()
            return (await reader.read()).decode()

        return self.do(action)


class Program(Client):
    """tests/clients/go and tests/clients/node: one program with verbs."""

    def verb(self, *words, code=0):
        return self.call([*self.command(), self.host, self.port, self.user, self.key, self.host_key, *words], code=code)

    def run(self, command):
        return self.verb("run", command, code=None)

    def pty(self, rows, columns):
        return self.verb("pty", rows, columns)[1]

    def put(self, here, there):
        self.verb("put", here, there)

    def get(self, there, here):
        self.verb("get", there, here)

    def tree(self, here, there):
        self.verb("tree", here, there)

    def forward(self, target):
        return self.verb("forward", target)[1]


class Go(Program):
    @classmethod
    def missing(cls):
        return None if GO_CLIENT.exists() else str(GO_CLIENT)

    def command(self):
        return [GO_CLIENT]


class Node(Program):
    @classmethod
    def missing(cls):
        needed = (NODE_CLIENT / "client.js", NODE_CLIENT / "node_modules/ssh2")
        return next((str(path) for path in needed if not path.exists()), None) or (
            None if shutil.which("node") else "node")

    def command(self):
        return ["node", NODE_CLIENT / "client.js"]


ALL = {
    "openssh": OpenSsh,
    "scp": Scp,
    "scp -O": OldScp,
    "rsync": Rsync,
    "sshfs": Sshfs,
    "putty": Putty,
    "dropbear": Dropbear,
    "lftp": Lftp,
    "paramiko": Paramiko,
    "asyncssh": Asyncssh,
    "go": Go,
    "node": Node,
}
