"""A service that the kernel's probes watch and that tells spans by OpenTelemetry's SDK: each of its calls is one span. Needs root and BPF."""
import http.client
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import daemon
import service

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))
import clients_test  # noqa: E402  its SDK

COUNT = 40
CAP_BPF, CAP_SYS_ADMIN = 39, 21


def missing_rights():
    with open("/proc/self/status") as status:
        effective = int(next(line for line in status if line.startswith("CapEff:")).split()[1], 16)
    if os.geteuid() != 0:
        return "no root"
    if not effective & (1 << CAP_BPF | 1 << CAP_SYS_ADMIN):
        return "no CAP_BPF"
    return None if os.path.exists("/sys/kernel/btf/vmlinux") else "the kernel has no BTF"


class Lines(unittest.TestCase):
    """What the probes see a program write and a source reads as well is one event, with what both know of it."""
    PROGRAM = "import os, sys\nlog = open(sys.argv[1], 'a')\nfor text in sys.stdin:\n  to, line = text.rstrip('\\n').split(' ', 1)\n" \
              "  os.write(log.fileno() if to == 'file' else 1, line.replace('|', '\\n').encode() + b'\\n')"
    COUNT = 20

    def test_in_a_followed_file_and_in_the_journal(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            folder = pathlib.Path(folder)
            log, journal, config = folder / "shop.log", folder / "journal", folder / "c.yaml"
            log.write_text("before\n")
            journal.mkdir()
            self.write_journal(journal, [("1", "old")])
            config.write_text(json.dumps({"otlp_http": "off", "otlp_grpc": "off", "sources": [{"type": "file", "name": "file", "path": str(log)},
                                                                                            {"type": "journald", "name": "journal", "path": str(journal)}]}))
            program = subprocess.Popen([sys.executable, "-c", self.PROGRAM, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                with daemon.Daemon("--config", config, "--watch", f"pid:{program.pid}") as running:
                    self.lines(running, program, journal)
            finally:
                program.kill()
                program.wait()
                program.stdin.close()
                program.stdout.close()

    def say(self, program, to, line):
        program.stdin.write(f"{to} {line}\n")
        program.stdin.flush()
        if to == "out":
            program.stdout.readline()

    def write_journal(self, folder, lines):
        now = int(time.time() * 1e6)
        text = "".join(f"__REALTIME_TIMESTAMP={now + i}\n__MONOTONIC_TIMESTAMP={now + i}\n_BOOT_ID={'ab' * 16}\n_HOSTNAME={socket.gethostname()}\n_TRANSPORT=stdout\n_PID={pid}\n"
                       f"PRIORITY=6\nMESSAGE={line}\n\n" for i, (pid, line) in enumerate(lines))
        subprocess.run(["/lib/systemd/systemd-journal-remote", "-o", str(folder / "a.journal"), "-"], input=text.encode(), check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.chmod(folder / "a.journal", 0o644)  # the daemon reads it as its own user

    def lines(self, running, program, journal):
        def seen():
            self.say(program, "file", "probe")
            return running.json("status")["join"]["lines_in_files"] > 0
        daemon.wait_for("the probes see the program", seen)
        for i in range(self.COUNT):
            self.say(program, "file", f"file line {i}")
            self.say(program, "out", f"out line {i}")
        self.say(program, "file", "ValueError: trace|  at here|  at there")
        self.write_journal(journal, [(program.pid, f"out line {i}") for i in range(self.COUNT)])
        self.say(program, "out", "not in the journal")
        wanted = sorted([f"file line {i}" for i in range(self.COUNT)] + [f"out line {i}" for i in range(self.COUNT)] +
                        ["ValueError: trace\n  at here\n  at there", "not in the journal"])

        def rows():
            found = [row for row in running.json("events", "--kind", "log", "--limit", "1000")["events"] if row["body"] != "probe"]
            return found if len(found) >= len(wanted) and running.json("status")["join"]["lines_held"] == 0 else None
        found = daemon.wait_for("all lines", rows)
        self.assertEqual(sorted(row["body"] for row in found), wanted)
        for row in found:
            self.assertEqual(row["attributes"]["process.pid"], str(program.pid), row)
            self.assertEqual(row["attributes"]["thread.id"], str(program.pid), row)
            self.assertNotIn("line.mark", row["attributes"])
            self.assertEqual("log.file.path" in row["attributes"], "file" in row["body"] or "at here" in row["body"], row)
            self.assertEqual("journal.transport" in row["attributes"], row["body"].startswith("out"), row)
        self.assertEqual(len({row["entity"] for row in found if "log.file.path" in row["attributes"]}), 1)


class Joined(unittest.TestCase):
    def request(self, number, header):
        trace = f"{number + 1:032x}"
        connection = http.client.HTTPConnection("127.0.0.1", self.node_port, timeout=10)
        connection.request("GET", f"/orders/{number}", headers={"traceparent": f"00-{trace}-{number + 1:016x}-01"} if header else {})
        self.assertEqual(connection.getresponse().read(), b"ok")
        connection.close()
        return trace

    # Whether a header names the trace or not: one span, the program's, with the kernel's waits, and the lines that the process wrote meanwhile:
    # one into a file that is followed and that the probes see, too; one to its output, which only the probes saw.
    def test_each_call_is_one_span(self):
        clients_test.install_sdk()
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)  # the daemon reads the log as its own user
            log, config, port = pathlib.Path(folder) / "orders.log", pathlib.Path(folder) / "c.yaml", daemon.free_port()
            log.touch()
            config.write_text(json.dumps({"otlp_http": f"127.0.0.1:{port}", "otlp_grpc": "off",
                                          "sources": [{"type": "file", "name": "orders", "path": str(log), "service": "orders", "format": "json", "from": "beginning"}]}))
            # In a control group of its own, so that the kernel's sums are those of its requests.
            group = service.cgroup_root() / f"culprit-e2e-{os.getpid()}"
            group.mkdir()
            node = subprocess.Popen(["node", "serve.mjs", f"http://127.0.0.1:{port}", str(log)], cwd=pathlib.Path(clients_test.HERE) / "otel",
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                self.node_port, pid = map(int, node.stdout.readline().split())
                (group / "cgroup.procs").write_text(str(pid))
                with daemon.Daemon("--config", config, "--watch", f"pid:{pid}") as running:
                    self.calls(running)
            finally:
                node.kill()
                node.wait()
                node.stdin.close()
                node.stdout.close()
                daemon.wait_for("its control group is empty", lambda: self.removed(group))

    def removed(self, group):
        try:
            group.rmdir()
            return True
        except OSError:
            return False

    def calls(self, running):
        # Until the service was seen by both: what the kernel saw before a service's first telling stays a span of its own.
        first = iter(range(1_000_000, 1_001_000))

        def told():
            self.request(next(first), True)
            join = running.json("status")["join"]
            return join["late"] + join["by_trace"]
        daemon.wait_for("the kernel sees the service, and the service tells", told)
        daemon.wait_for("nothing is held back", lambda: running.json("status")["join"]["held"] == 0)
        before = running.json("status")["join"]
        named = [self.request(number, True) for number in range(0, COUNT, 2)]
        for number in range(1, COUNT, 2):
            self.request(number, False)

        def spans():
            rows = [row for row in running.json("events", "--kind", "span", "--limit", "10000")["events"]]
            mine = {row["trace_id"]: row for row in rows if row["trace_id"] in named}
            others = [row for row in rows if row["time"] > max(row["time"] for row in mine.values())] if mine else []
            return (mine, others) if len(mine) == len(named) and len(others) >= COUNT // 2 else None
        mine, others = daemon.wait_for("all calls", spans)
        join = daemon.wait_for("the counters of the join", lambda: (now := running.json("status")["join"])["held"] == 0 and now)  # told once a second
        self.assertEqual([join[key] - before[key] for key in ("by_trace", "by_time", "late", "alone", "pushed_out")], [COUNT // 2, COUNT // 2, 0, 0, 0], join)
        self.assertEqual(len(others), COUNT // 2)
        urls, cpu_s = set(), 0
        for trace in [*named, *(row["trace_id"] for row in others)]:
            shown = running.json("trace", trace)
            self.assertEqual([(row["seen_by"], row["name"], row["kind"]) for row in shown["spans"]], [("both", "GET /orders/:id", "server")], shown)
            span, kernel = shown["spans"][0], shown["spans"][0]["kernel"]
            self.assertIn("self", span["waits"], span)
            cpu_s += kernel["cpu_s"]
            parts = sum(kernel[key] for key in ("network_s", "cpu_s", "run_queue_s", "disk_s", "lock_s"))
            self.assertLessEqual(parts, float(span["attributes"]["kernel.duration"]) + 1e-4, span)
            bodies = sorted(line["body"] for line in shown["logs"])
            self.assertEqual([body.rsplit("/", 1)[0] for body in bodies], ["answers /orders", "looked up /orders"], shown)
            urls.add(tuple(body.rsplit("/", 1)[1] for body in bodies))
        self.assertGreater(cpu_s, 0)  # of one alone it is an estimate, by seconds
        self.assertEqual(urls, {(str(number), str(number)) for number in range(COUNT)})
        print(f"joined: {COUNT} calls, {COUNT // 2} by trace and {COUNT // 2} by time; {cpu_s / COUNT * 1e3:.1f} ms of CPU each", file=sys.stderr)


if __name__ == "__main__":
    if (why := missing_rights()) and os.environ.get("CULPRIT_REQUIRE_BPF") != "1":
        print(f"skipped: this test loads kernel programs, but there is {why}", file=sys.stderr)
        sys.exit(77)
    unittest.main(verbosity=2)
