"""A service that the kernel's probes watch and that tells spans by OpenTelemetry's SDK: each of its calls is one span. Needs root and BPF."""
import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
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


class Joined(unittest.TestCase):
    def request(self, number, header):
        trace = f"{number + 1:032x}"
        connection = http.client.HTTPConnection("127.0.0.1", self.node_port, timeout=10)
        connection.request("GET", f"/orders/{number}", headers={"traceparent": f"00-{trace}-{number + 1:016x}-01"} if header else {})
        self.assertEqual(connection.getresponse().read(), b"ok")
        connection.close()
        return trace

    # Whether a header names the trace or not: one span, the program's, with the kernel's waits, and the lines that the process wrote meanwhile:
    # one into a file that is followed, which names only its process; one to its output, which the probes saw.
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
