"""culprit as the lab runs and asks it. Every command line of culpritd and culprit that the lab uses is built here."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time

import host

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Culprit:
    """A culpritd of the run's own: its state, socket and page port are below the run's folder."""

    def __init__(self, running, bin_dir, daemon=None, client=None, watch=True, settings=()):
        folder = pathlib.Path(bin_dir or ROOT / "build/release/bin")
        self.daemon, self.client = pathlib.Path(daemon or folder / "culpritd"), pathlib.Path(client or folder / "culprit")
        for program in (self.daemon, self.client):
            if not os.access(program, os.X_OK):
                raise RuntimeError(f"'{program}' is missing; run `./dev build` first, or name it with --bin DIR")
        self.running, self.log = running, running.logs / "culpritd.log"
        self.folder = running.root / "culprit"
        self.socket = self.folder / "api.sock"
        self.page_port = running.host.port()
        self.watch, self.settings, self.process = watch, settings, None

    def daemon_command(self):
        watch = ["--watch", f"cgroup:/culprit-lab-{self.running.host.id}/*"] if self.watch else []
        return [self.daemon, "--state", self.folder / "state", "--socket", self.socket, "--port", self.page_port, *watch,
                *(word for setting in self.settings for word in ("--set", setting))]

    def client_command(self, *arguments):
        return [str(word) for word in (self.client, "--socket", self.socket, *arguments)]

    def start(self, seconds=60):
        self.folder.mkdir(exist_ok=True)
        self.process = self.running.start_tool("culpritd", self.daemon_command(), self.log)
        deadline = time.monotonic() + seconds
        while not self._sensor_runs():
            if self.process.poll() is not None:
                raise RuntimeError(f"culpritd ended with {self.process.returncode}:\n{self._log_end()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"culpritd is not ready after {seconds} s:\n{self._log_end()}")
            time.sleep(0.5)

    def _log_end(self):
        return self.log.read_text(errors="replace")[-2000:]

    def _sensor_runs(self):
        try:
            status = self.ask("status")
        except RuntimeError:
            return False
        return any(process["name"] == "culprit-sensor" and process["state"] == "running" for process in status.get("processes", []))

    def text(self, *arguments, timeout=20):
        try:
            done = subprocess.run(self.client_command(*arguments), capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"culprit {' '.join(arguments)} took more than {timeout} s") from None
        if done.returncode:
            raise RuntimeError(f"culprit {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def ask(self, *arguments, timeout=20):
        answer = self.text("-o", "json", *arguments, timeout=timeout)
        try:
            return json.loads(answer)
        except ValueError:
            raise RuntimeError(f"culprit {' '.join(arguments)}: no JSON: {answer[:200]!r}") from None

    def why(self, service, since):
        return self.ask("why", service, "--since", since)

    def rules(self):
        return self.ask("rules", "list").get("rules", [])

    def incidents(self):
        return self.ask("incidents").get("incidents", [])

    def open_incidents(self):
        return [incident for incident in self.incidents() if incident["state"] == "open"]

    def usage(self):
        """CPU seconds since its start, and resident bytes now, of daemon, sensor and supervisor together: what they share (rings, the
        program, libraries) is counted once (PSS). The cgroup counts the CPU time also of processes that have ended."""
        group = self.running.host.cgroup("culpritd", tools=True)["unified"]
        rss = 0
        for pid in host.processes_in(group):
            try:
                rolled = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                rss += int(re.search(r"^Pss:\s+(\d+) kB", rolled, re.M)[1]) * 1024
            except (OSError, TypeError):  # it ended meanwhile
                pass
        return self.running.host.cpu_seconds("culpritd", tools=True), rss

    def stop(self):
        """SIGTERM, then whatever is left when the run is cleaned up."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
