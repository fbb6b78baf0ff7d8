"""What the measurements of ./dev bench share: systems to measure, and figures with verdicts."""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = pathlib.Path(os.environ.get("TOWLINE_BIN", ROOT / "build/bin"))
BENCH = BIN / "towline-bench"
MIB = 1 << 20
GIB = 1 << 30


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no VmRSS of {pid}")


def run_json(*command, timeout=300):
    done = subprocess.run([str(c) for c in command], stdout=subprocess.PIPE, timeout=timeout, check=True)
    return json.loads(done.stdout)


class Background:
    """A process that prints its port and is ended with the block."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.pid = self.process.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


class Towline:
    """A gateway with the local driver and one sandbox, in a directory of its own."""

    def __init__(self, directory, loops=None, flags=()):
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(exist_ok=True)
        self.ready = self.directory / "ready.json"
        command = [BIN / "towline-gateway", "--data-dir", self.directory / "data", "--listen", "127.0.0.1:0",
                   "--driver", "local", "--supervisor", BIN / "towline-supervisor", "--ready-file", self.ready,
                   "--log-level", "warn", "--ssh-listen", "127.0.0.1:0", *flags]
        if loops:
            command += ["--loops", str(loops)]
        started = time.monotonic()
        self.process = subprocess.Popen([str(c) for c in command])
        while not self.ready.exists():
            if self.process.poll() is not None:
                raise RuntimeError("the gateway did not start")
            time.sleep(0.001)
        self.start_ms = (time.monotonic() - started) * 1000
        self.endpoint = json.loads(self.ready.read_text())["endpoint"]
        self.pid = self.process.pid
        self.sandbox = "bench"
        self.cli("sandbox", "create", "--name", self.sandbox)
        self.supervisor = self._supervisor_pid()

    def cli(self, *arguments, **options):
        return subprocess.run([str(BIN / "towline"), "--gateway-endpoint", self.endpoint, *map(str, arguments)],
                              check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)

    def _supervisor_pid(self):
        file = next((self.directory / "data").rglob("supervisor.pid"))
        return int(file.read_text().split()[0])

    def target(self, port):
        return f"{self.endpoint},{self.sandbox},{port}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.cli("sandbox", "delete", self.sandbox, timeout=30)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Figures:
    """Values, each with the limit it is held against, printed as they come."""

    def __init__(self, rounds):
        self.rounds = rounds
        self.figures = {}
        self.skipped = {}

    def put(self, name, value, unit, at_least=None, at_most=None):
        held = (at_least is None or value >= at_least) and (at_most is None or value <= at_most)
        self.figures[name] = {"value": round(value, 4), "unit": unit, "held": held,
                              "verdict": "holds" if held else "misses"}
        limit = ""
        if at_least is not None:
            self.figures[name]["at_least"] = at_least
            limit = f"  (at least {at_least})"
        if at_most is not None:
            self.figures[name]["at_most"] = at_most
            limit = f"  (at most {at_most})"
        print(f"{'' if held else 'MISSED '}{name:44s} {value:10.3f} {unit}{limit}", flush=True)

    def skip(self, name, why):
        """What cannot be measured here says so, and is no figure that holds."""
        self.skipped[name] = why
        print(f"skipped {name}: {why}", flush=True)

    def finish(self, file):
        congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
        if file:
            pathlib.Path(file).write_text(json.dumps(
                {"cores": os.cpu_count(), "congestion_control": congestion, "rounds": self.rounds,
                 "figures": self.figures, "skipped": self.skipped}, indent=1) + "\n")
        missed = [name for name, figure in self.figures.items() if not figure["held"]]
        print(f"{len(self.figures) - len(missed)} of {len(self.figures)} figures hold" +
              (f"; missed: {', '.join(missed)}" if missed else "") +
              (f"; skipped: {', '.join(self.skipped)}" if self.skipped else ""))


def scratch_base():
    """tmpfs if there is one: the disk is not what is measured."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
