"""An sshd of its own, on a port, with keys and a configuration that go with it: the reference
of transfers. The fastest cipher of OpenSSH is used unless another is named, and connections are
made anew for each command, as ours are."""
import getpass
import os
import pathlib
import shutil
import socket
import subprocess
import time

CIPHER = "aes128-gcm@openssh.com"
DEFAULT_CIPHER = "chacha20-poly1305@openssh.com"  # what ssh asks for first
TOOLS = ("ssh", "scp", "sftp", "rsync", "ssh-keygen")


def find_sshd():
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def missing():
    """Names of the tools that are not here."""
    return [tool for tool in TOOLS if shutil.which(tool) is None] + ([] if find_sshd() else ["sshd"])


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Client:
    """OpenSSH's tools, told how to reach one sshd: whoever's it is."""

    def __init__(self, directory, port, key, user):
        self.directory = pathlib.Path(directory)
        self.port, self.key, self.user = port, key, user

    def options(self, port=None, cipher=CIPHER):
        return ["-F", "none", "-i", str(self.key), "-c", cipher,
                "-o", f"Port={port or self.port}", "-o", "StrictHostKeyChecking=no",
                "-o", f"UserKnownHostsFile={self.directory}/known", "-o", "LogLevel=ERROR",
                "-o", "BatchMode=yes", "-o", "Compression=no"]

    @property
    def at(self):
        return f"{self.user}@127.0.0.1"

    def ssh(self, port=None):
        """As rsync -e takes it."""
        return " ".join(["ssh", *self.options(port)])

    def scp(self, source, target):
        self.run("scp", "-q", *self.options(), source, target)

    def sftp(self, order):
        self.run("sftp", "-q", "-b", "-", *self.options(), self.at, input=order.encode())

    def rsync(self, *arguments, port=None):
        self.run("rsync", "-e", self.ssh(port), *arguments)

    def run(self, *command, **options):
        subprocess.run([str(c) for c in command], check=True, stdout=subprocess.DEVNULL, **options)


class OpenSsh(Client):
    """The sshd of this machine's OpenSSH, and its client."""

    def __init__(self, directory):
        super().__init__(directory, free_port(), pathlib.Path(directory) / "client", getpass.getuser())
        self.directory.mkdir(mode=0o700)
        for name in ("host", "client"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.directory / name], check=True)
        shutil.copy(self.directory / "client.pub", self.directory / "authorized")
        if os.geteuid() == 0:
            pathlib.Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        subsystem = next((p for p in ("/usr/lib/openssh/sftp-server", "/usr/libexec/openssh/sftp-server")
                          if os.path.exists(p)), "internal-sftp")
        config = self.directory / "sshd_config"
        config.write_text(f"ListenAddress 127.0.0.1:{self.port}\nHostKey {self.directory}/host\nPidFile none\n"
                          f"AuthorizedKeysFile {self.directory}/authorized\nStrictModes no\nUsePAM no\n"
                          "PermitRootLogin yes\nPasswordAuthentication no\nPrintMotd no\n"
                          # What somebody's ~/.bashrc takes is not what is measured.
                          f"SetEnv HOME={self.directory}\n"
                          f"Subsystem sftp {subsystem}\nMaxStartups 100\nLogLevel QUIET\n")
        self.process = subprocess.Popen([find_sshd(), "-D", "-e", "-f", config])
        self._wait()

    def _wait(self):
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("sshd did not start") from None
                time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(30)
