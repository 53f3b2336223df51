"""A culpritd of a test's own: its state, socket and page port are its own, and it is ended in every case."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

BIN = pathlib.Path(os.environ.get("CULPRIT_BIN", pathlib.Path(__file__).resolve().parents[2] / "build/release/bin"))
READY_S = 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, seconds=30):
    """Polls until condition() answers something true, and returns it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


class Daemon:
    def __init__(self, *arguments, state=None, prefix=()):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="culprit-e2e-"))
        os.chmod(self.folder, 0o755)
        self.state = pathlib.Path(state or self.folder / "state")
        self.socket = self.folder / "api/api.sock"
        self.port = free_port()
        self.arguments = [str(argument) for argument in arguments]
        self.prefix = list(prefix)
        self.log = self.folder / "culpritd.log"
        self.process = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def command(self):
        return [*self.prefix, str(BIN / "culpritd"), "--state", str(self.state), "--socket", str(self.socket), "--port", str(self.port), *self.arguments]

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(self.command(), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            wait_for("culpritd answers with its sensor attached", self.connected, READY_S)
        except AssertionError as late:
            self.stop()
            raise AssertionError(f"{late}\n{self.log.read_text(errors='replace')[-4000:]}") from None

    def connected(self):
        if self.process.poll() is not None:
            raise AssertionError(f"culpritd ended with {self.process.returncode}")
        status = self.try_json("status")
        return status and any(process["name"] == "culprit-sensor" and process["state"] == "running" for process in status["processes"])

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def culprit(self, *arguments):
        return culprit("--socket", self.socket, *arguments)

    def json(self, *arguments):
        done = self.culprit("-o", "json", *arguments)
        assert done.returncode == 0, f"culprit {arguments}: exit {done.returncode}: {done.stderr}"
        return json.loads(done.stdout)

    def try_json(self, *arguments):
        done = self.culprit("-o", "json", *arguments)
        try:
            return json.loads(done.stdout) if done.returncode == 0 else None
        except ValueError:
            return None

    def pids(self):
        """Pids of the worker and of the sensor."""
        return {process["name"]: process["pid"] for process in self.json("status")["processes"]}


def culprit(*arguments):
    return subprocess.run([str(BIN / "culprit"), *map(str, arguments)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


def gone(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True
