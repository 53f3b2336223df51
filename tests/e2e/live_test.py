"""The daemon, the command line and the API together, on the real kernel. Needs root."""
import datetime
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import daemon
import service

FLOOD_WRITES = 1_000_000
FLOOD = """
import os, sys
out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
sys.stdin.read(1)
for i in range(int(sys.argv[2])):
    os.write(out, b"a line of a flood\\n")
    if i % 50000 == 0: os.ftruncate(out, 0)
"""


def settled(running):
    """Every source's row, once nothing is in flight."""
    def check():
        rows = running.json("status")["sources"]
        return rows if all(row["in_flight"] == 0 for row in rows if row["source"].startswith("kernel:")) else None
    return daemon.wait_for("nothing in flight", check)


class Conservation(unittest.TestCase):
    # Whatever the load, each source says exactly what became of everything it produced.
    def test_flood_through_small_rings(self):
        with tempfile.TemporaryDirectory() as folder:
            flood = subprocess.Popen([sys.executable, "-c", FLOOD, os.path.join(folder, "flood.log"), str(FLOOD_WRITES)], stdin=subprocess.PIPE)
            try:
                with daemon.Daemon("--watch", f"pid:{flood.pid}", "--set", "data_ring_bytes=65536", "--set", "payload_per_second=1000000") as running:
                    time.sleep(3)  # the daemon asks the sensor to watch the process
                    before = {row["source"]: row["produced"] for row in settled(running)}
                    started = time.monotonic()
                    flood.communicate(b"x", timeout=120)
                    seconds = time.monotonic() - started
                    rows = {row["source"]: row for row in settled(running)}
                    for row in rows.values():
                        self.assertEqual(row["produced"], row["stored"] + row["in_flight"] + sum(row["dropped"].values()), row)
                    log = rows["kernel:log"]
                    self.assertGreaterEqual(log["produced"] - before["kernel:log"], FLOOD_WRITES)
                    print(f"flood: {FLOOD_WRITES / seconds:,.0f} writes/s, stored {log['stored']:,}, dropped {log['dropped']}", file=sys.stderr)
            finally:
                flood.kill()
                flood.wait()


class Death(unittest.TestCase):
    def our_programs(self):
        listed = json.loads(subprocess.run(["bpftool", "-j", "prog", "list"], capture_output=True, text=True).stdout or "[]")
        return {program["id"] for program in listed if program.get("name", "").startswith("on_")}

    def test_sensor_is_started_again(self):
        with daemon.Daemon() as running:
            sensor = running.pids()["culprit-sensor"]
            os.kill(sensor, signal.SIGKILL)
            daemon.wait_for("another sensor", lambda: running.connected() and running.pids()["culprit-sensor"] != sensor, 60)

    def test_worker_is_started_again(self):
        with daemon.Daemon() as running:
            pids = running.pids()
            os.kill(pids["culpritd"], signal.SIGKILL)
            daemon.wait_for("another worker", lambda: (running.try_json("status") or {}).get("pid", pids["culpritd"]) != pids["culpritd"], 60)
            daemon.wait_for("the old sensor ends", lambda: daemon.gone(pids["culprit-sensor"]))
            daemon.wait_for("a sensor for the new worker", running.connected, 60)

    def test_nothing_stays_behind_the_supervisor(self):
        before = self.our_programs()
        with daemon.Daemon() as running:
            pids = running.pids()
            self.assertGreater(len(self.our_programs()), len(before))
            running.process.kill()
            running.process.wait()
            for pid in pids.values():
                daemon.wait_for(f"pid {pid} ends", lambda pid=pid: daemon.gone(pid))
            daemon.wait_for("BPF programs are gone", lambda: self.our_programs() <= before)


class Unit(unittest.TestCase):
    # The unit leaves root few rights, and the folders belong to the daemon's user: that must be enough to start.
    def test_starts_with_the_rights_of_the_unit(self):
        unit = (pathlib.Path(__file__).resolve().parents[2] / "packaging/systemd/culprit.service").read_text()
        bound = next(line for line in unit.splitlines() if line.startswith("CapabilityBoundingSet=")).split("=", 1)[1].split()
        bound = [name.removeprefix("CAP_").lower() for name in bound if name != "CAP_SYSLOG"]  # ProtectKernelLogs= takes it
        self.assertNotIn("dac_override", bound)
        running = daemon.Daemon("--user", "nobody", prefix=["setpriv", "--bounding-set", "-all," + ",".join(f"+{name}" for name in bound)])
        for folder in (running.socket.parent, running.state):
            folder.mkdir()
            shutil.chown(folder, "nobody", "nogroup")
        with running:
            self.assertEqual(running.socket.owner(), "nobody")
            self.assertNotIn("cannot give up rights", running.log.read_text())
            doctor = running.json("doctor")
            self.assertTrue(any(program["state"] == "attached" for program in doctor["programs"]), doctor)


class Diagnosis(unittest.TestCase):
    # A stopped service is named, the incident outlives the worker, and what was exported ranks the same elsewhere.
    def test_incident_survives_the_worker(self):
        with service.Service("teapot") as teapot, daemon.Daemon("--watch", f"cgroup:{teapot.path}") as running:
            teapot.load()
            daemon.wait_for("normal is learned", lambda: (running.json("status")["detect"]["learned_s"].get("teapot", 0)) >= 30, 90)
            self.assertEqual(running.json("why", "teapot")["verdict"], "healthy")
            self.assertEqual(running.json("incidents")["incidents"], [])
            os.kill(teapot.process.pid, signal.SIGSTOP)
            found = daemon.wait_for("the stopped service is named", lambda: self.named(running), 30)
            self.assertEqual(found["candidates"][0]["service"], "teapot")
            incident = running.json("incidents")["incidents"][0]["incident"]

            export = running.folder / "incident.jsonl"
            done = running.culprit("incidents", "export", incident, export)
            self.assertEqual(done.returncode, 0, done.stderr)
            replayed = [daemon.culprit("-o", "json", "replay", export) for _ in range(2)]
            self.assertEqual(replayed[0].returncode, 0, replayed[0].stderr)
            self.assertEqual(replayed[0].stdout, replayed[1].stdout)
            self.assertEqual(json.loads(replayed[0].stdout)["candidates"][0]["failure_mode"], found["candidates"][0]["failure_mode"])

            worker = running.pids()["culpritd"]
            os.kill(worker, signal.SIGKILL)
            daemon.wait_for("another worker", lambda: running.process.poll() is None and (running.try_json("status") or {}).get("pid", worker) != worker, 60)
            rows = running.json("incidents")["incidents"]
            self.assertEqual([row["incident"] for row in rows], [incident])
            os.kill(teapot.process.pid, signal.SIGCONT)

    def named(self, running):
        answer = running.try_json("why", "teapot")
        if answer and answer["candidates"] and "stopped" in answer["candidates"][0]["failure_mode"]:
            return answer
        return None


class BadInput(unittest.TestCase):
    def run_daemon(self, *arguments, prefix=()):
        with tempfile.TemporaryDirectory() as folder:
            command = [*prefix, str(daemon.BIN / "culpritd"), "--state", f"{folder}/state", "--socket", f"{folder}/s", "--port", "0", *map(str, arguments)]
            return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)

    def test_unknown_key(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("slow_ms: 5\npage_prot: 80\n")
            file.flush()
            done = self.run_daemon("--config", file.name)
        self.assertEqual(done.returncode, 6)
        self.assertIn(f"{file.name}:2: unknown key 'page_prot'; did you mean 'page_port'?", done.stderr)

    def test_no_rights(self):
        done = self.run_daemon(prefix=["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"])
        self.assertEqual(done.returncode, 5)
        self.assertIn("must start as root", done.stderr)

    def test_no_btf(self):
        done = self.run_daemon(prefix=["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/kernel/btf && exec "$@"', "sh"])
        self.assertEqual(done.returncode, 7)
        self.assertIn("BTF", done.stderr)

    def test_port_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = self.run_daemon("--port", port)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(str(port), done.stderr)
        self.assertIn("--port", done.stderr)

    def test_no_sensor(self):
        done = self.run_daemon("--sensor", "/nonexistent/sensor")
        self.assertEqual(done.returncode, 6)
        self.assertIn("'/nonexistent/sensor': No such file or directory; name the program with --sensor", done.stderr)

    def test_a_second_daemon(self):
        with daemon.Daemon() as running:
            for arguments, words in ((["--socket", running.socket], "another culpritd answers there"), (["--state", running.state], "is in use by another process")):
                done = self.run_daemon(*arguments)
                self.assertEqual(done.returncode, 7, done.stderr)
                self.assertIn(words, done.stderr)

    def test_state_folder_of_somebody_else(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            (pathlib.Path(folder) / "theirs").touch()
            done = self.run_daemon("--state", folder)
        self.assertEqual(done.returncode, 5)
        self.assertIn("choose another with --state", done.stderr)

    def test_unknown_flag(self):
        self.assertEqual(self.run_daemon("--wacht", "all").returncode, 2)

    def test_no_daemon(self):
        done = daemon.culprit("--socket", "/nonexistent/api.sock", "status")
        self.assertEqual(done.returncode, 4)
        self.assertIn("culpritd", done.stderr)

    def test_questions_to_a_live_daemon(self):
        with service.Service("teapot") as teapot, daemon.Daemon("--watch", f"cgroup:{teapot.path}") as running:
            teapot.load()
            daemon.wait_for("the service is seen", lambda: any(s["service"] == "teapot" for s in running.json("services")["services"]))
            self.assertEqual(running.json("why")["service"], "teapot")  # no incident is open, and it is the only one that is watched
            self.follow(running)
            done = running.culprit("why", "teapto")
            self.assertEqual(done.returncode, 3)
            self.assertIn("teapot", done.stderr)
            self.assertEqual(running.culprit("incidents", "show", "4711").returncode, 3)
            self.assertEqual(running.culprit("why", "teapot", "--since", "soon").returncode, 2)
            for garbage in (b"\x00\xff" * 5000, b"GET / HTTP/1.1\r\n" + b"A: " + b"b" * 100_000, b"POST /api/v1/why HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{"):
                with socket.socket(socket.AF_UNIX) as client:
                    client.connect(str(running.socket))
                    try:
                        client.sendall(garbage)
                        client.settimeout(2)
                        client.recv(4096)
                    except OSError:
                        pass
            self.assertEqual(running.culprit("status").returncode, 0)
            for command in ([], ["status"], ["doctor"], ["services"], ["events"], ["incidents"], ["config"]):
                done = running.culprit(*command)
                self.assertEqual(done.returncode, 0, (command, done.stderr))
                self.assertTrue(done.stdout.strip())

    # What comes is shown once, and nothing from before the time that was asked for, however late it is looked for again.
    def follow(self, running):
        begin = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=1)
        since = begin.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        command = [str(daemon.BIN / "culprit"), "--socket", str(running.socket), "-o", "json", "events", "-f", "kind = span", "--since", since]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                process.communicate(timeout=4)
                self.fail("it ended by itself")
            except subprocess.TimeoutExpired:
                process.terminate()
                rows = [json.loads(line) for line in process.communicate()[0].splitlines()]
        self.assertTrue(rows)
        self.assertGreaterEqual(min(row["time"] for row in rows), since)
        shown = [(row["time"], row["span_id"]) for row in rows]
        self.assertEqual(len(shown), len(set(shown)))


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("these tests need root")
    unittest.main(verbosity=2)
