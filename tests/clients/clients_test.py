"""Real clients and servers against the daemon's receivers, without its sensor: no root, no kernel needed.

Each class skips nothing: a program that is missing fails its test (./dev setup installs them).
"""
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.error
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DAEMON = os.environ.get("CULPRIT_BARE_DAEMON", str(ROOT / "build/release/tests/bare_daemon"))
CLI = os.environ.get("CULPRIT_CLI", str(ROOT / "build/release/bin/culprit"))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(what, condition, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.2)
    raise AssertionError(f"not within {seconds} s: {what}")


class Bare:
    """A daemon of the test's own; `sources` is the list of the configuration."""

    def __init__(self, sources=(), **settings):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="culprit-clients-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.grpc_url = f"http://127.0.0.1:{(grpc_port := free_port())}"
        self.socket = self.folder / "api.sock"
        config = {"otlp_http": f"127.0.0.1:{self.port}", "otlp_grpc": f"127.0.0.1:{grpc_port}", **settings, "sources": list(sources)}
        (self.folder / "c.yaml").write_text(json.dumps(config))  # JSON is YAML
        self.children = []
        self.kernel = None

    def __enter__(self):
        self.start()
        return self

    def restart(self):
        self.process.terminate()
        if self.process.wait(20) != 0:
            raise AssertionError(f"the daemon ended with {self.process.returncode}")
        self.process.stdout.close()
        self.start()

    def start(self):
        more = [f"kernel={self.kernel}"] if self.kernel else []
        self.process = subprocess.Popen([DAEMON, str(self.folder / "state"), str(self.socket), str(self.folder / "c.yaml"), *more],
                                        stdout=subprocess.PIPE)
        if self.process.stdout.readline() != b"ready\n":
            raise AssertionError("the daemon did not start; its reason is above")

    def __exit__(self, *_):
        for child in self.children:
            child.terminate()
            child.wait(20)
        self.process.terminate()
        ended = self.process.wait(20)
        self.process.stdout.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        if ended != 0:  # also when it crashed half-way: what the test saw then is only a consequence
            raise AssertionError(f"the daemon ended with {ended}")

    def child(self, *command, **more):
        self.children.append(subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                              stderr=subprocess.DEVNULL, **more))
        return self.children[-1]

    def ask(self, *arguments):
        done = subprocess.run([CLI, "--socket", str(self.socket), "-o", "json", *arguments], capture_output=True, text=True)
        if done.returncode not in (0, 1):
            raise AssertionError(f"culprit {' '.join(arguments)}: {done.stderr}")
        return json.loads(done.stdout)

    def source(self, name):
        return next(row for row in self.ask("sources", "list")["sources"] if row["source"] == name)

    def settled(self, name, stored):
        def check():
            row = self.source(name)
            return row if row["stored"] >= stored and row["in_flight"] == 0 else None
        row = wait_for(f"{name} has stored {stored}", check)
        assert row["produced"] == row["stored"] + sum(row["dropped"].values()), row
        return row

    def events(self, *filters):
        return self.ask("events", "--limit", "10000", *filters)["events"]

    def post(self, path, document):
        request = urllib.request.Request(self.url + path, json.dumps(document).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            return answer.status


def install_sdk():
    lock, installed = HERE / "otel/package-lock.json", HERE / "otel/node_modules/.package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
        subprocess.run(["npm", "--prefix", str(HERE / "otel"), "ci", "--no-audit", "--no-fund", "--no-progress"], check=True, stdout=subprocess.DEVNULL)


class OpenTelemetry(unittest.TestCase):
    COUNT = 1500

    @classmethod
    def setUpClass(cls):
        install_sdk()

    # Every span, log record and data point of the SDK arrives exactly once, over each transport.
    def test_sdk(self):
        for form in ("proto", "http", "grpc"):
            with self.subTest(form=form), Bare() as daemon:
                done = subprocess.run(["node", "send.mjs", daemon.grpc_url if form == "grpc" else daemon.url, form, str(self.COUNT)], cwd=HERE / "otel", capture_output=True, text=True, timeout=120)
                self.assertEqual(done.returncode, 0, done.stderr)
                # One span failed with a message, which is a log line besides.
                self.assertEqual(daemon.settled("otlp-traces", 2 * self.COUNT + 1)["stored"], 2 * self.COUNT + 1)
                self.assertEqual(daemon.settled("otlp-logs", self.COUNT)["stored"], self.COUNT)
                metrics = daemon.settled("otlp-metrics", 1)
                self.assertEqual(metrics["malformed"], 0, metrics)
                names = {event["name"] for event in daemon.events("--kind", "sample", "--entity", f"js-{form}")}
                self.assertLessEqual({"pool.size", "orders.placed.rate", "order.value.mean"}, names)
                spans = daemon.events("--kind", "span", "--entity", f"js-{form}")
                self.assertEqual(len({span["span_id"] for span in spans}), 2 * self.COUNT)
                trace = daemon.ask("trace", done.stdout.strip())
                self.assertEqual([(row["depth"], row["name"]) for row in trace["spans"]], [(0, "GET /orders/{id}"), (1, "SELECT orders")])
                self.assertEqual([row["body"] for row in trace["logs"]], [f"order {self.COUNT - 1} failed"])


class Joined(unittest.TestCase):
    COUNT = 40

    # Each request is seen by the kernel (played: the client tells what it saw of its connection) and told by the server's SDK: one
    # span of both, whether a header names the trace or not; the server's own line, which only names its process, is its line.
    def test_a_call_is_counted_once(self):
        install_sdk()
        daemon = Bare()
        log = daemon.folder / "orders.log"
        daemon.kernel = daemon.folder / "kernel"
        os.mkfifo(daemon.kernel)
        config = json.loads((daemon.folder / "c.yaml").read_text())
        config["sources"] = [{"type": "file", "name": "orders", "path": str(log), "service": "node", "format": "json", "from": "beginning"}]
        (daemon.folder / "c.yaml").write_text(json.dumps(config))
        with daemon, open(daemon.kernel, "w", buffering=1) as kernel, \
             subprocess.Popen(["node", "serve.mjs", daemon.url, str(log)], cwd=HERE / "otel", stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
            port, pid = node.stdout.readline().split()

            def request(number, header):
                trace, parent = f"{number + 1:032x}", f"{number + 1:016x}"
                connection = http.client.HTTPConnection("127.0.0.1", int(port))
                connection.connect()
                client = connection.sock.getsockname()[1]
                begin = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                connection.request("GET", f"/orders/{number}", headers={"traceparent": f"00-{trace}-{parent}-01"} if header else {})
                self.assertEqual(connection.getresponse().read(), b"ok")
                end = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
                connection.close()
                seen = {"entity": "service:node", "name": "GET /orders/{id}", "end_ns": end, "duration_s": (end - begin) / 1e9, "span_id": f"{0xaaaa0000 + number:016x}",
                        "trace_id": trace if header else f"{0xbbbb0000 + number:032x}",
                        "attributes": {"http.request.method": "GET", "url.path": "/orders/{id}", "http.response.status_code": "200", "thread.id": pid, "process.pid": pid,
                                       "client.port": str(client), "wait.postgres": "0.015000", "self": "0.006000", **({"parent.span_id": parent} if header else {})}}
                kernel.write(json.dumps(seen) + "\n")
                return time.time_ns() - (end - begin) // 2

            # The first tells the daemon that this service tells; what it was told with is the one that may be there twice.
            request(0, True)
            wait_for("the service's first telling", lambda: daemon.ask("status")["join"]["late"] + daemon.ask("status")["join"]["by_trace"])
            before = len(daemon.events("--kind", "span"))
            for i in range(1, self.COUNT + 1):
                meanwhile = request(i, i % 2 == 0)
            joined = wait_for("all pairs", lambda: (join := daemon.ask("status")["join"])["by_time"] + join["by_trace"] + join["late"] > self.COUNT and join)
            self.assertEqual((joined["by_time"], joined["alone"], joined["pushed_out"], joined["held"]), (self.COUNT // 2, 0, 0, 0), joined)
            spans = daemon.events("--kind", "span")
            self.assertEqual(len(spans) - before, self.COUNT)
            self.assertEqual({span["entity"] for span in spans}, {"service:node"})  # though it calls itself orders
            daemon.settled("orders", self.COUNT + 1)
            shown = daemon.ask("trace", f"{self.COUNT + 1:032x}")
            self.assertEqual([(row["seen_by"], row["waits"]["wait.postgres"]) for row in shown["spans"]], [("both", "0.015000")])
            self.assertAlmostEqual(shown["spans"][0]["kernel"]["lock_s"], 0.006)  # nothing is known of its seconds: the rest of its own time
            self.assertEqual([line["body"] for line in shown["logs"]], [f"looked up /orders/{self.COUNT}"])
            traced = [line for line in daemon.events("--kind", "log") if line["trace_id"]]
            self.assertGreaterEqual(len(traced), self.COUNT, daemon.ask("status")["join"])

            # Lines that come when the join remembers nothing are found when the trace is asked for.
            kernel.close()
            daemon.kernel = None
            daemon.restart()
            lines = [{"timeUnixNano": str(at // 1000 * 1000 + 1), "body": {"stringValue": body}} for at, body in ((meanwhile, "much later"), (meanwhile - 10**9, "of another time"))]
            daemon.post("/v1/logs", {"resourceLogs": [{"resource": {"attributes": [{"key": "process.pid", "value": {"stringValue": pid}}]}, "scopeLogs": [{"logRecords": lines}]}]})
            daemon.settled("otlp-logs", 2)
            shown = daemon.ask("trace", f"{self.COUNT + 1:032x}")
            self.assertEqual({line["body"]: line["joined_by"] for line in shown["logs"]}, {f"looked up /orders/{self.COUNT}": "trace", "much later": "process"})


class Prometheus(unittest.TestCase):
    # Debian's Prometheus scrapes node-exporter and writes to us; its own metrics come to the service of its job.
    def test_remote_write_and_scrape(self):
        exporter, prometheus = free_port(), free_port()
        with Bare([{"type": "scrape", "name": "node", "target": f"127.0.0.1:{exporter}", "interval": "1s"}]) as daemon:
            daemon.child("prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{exporter}")
            (daemon.folder / "p.yml").write_text(json.dumps({
                "global": {"scrape_interval": "1s"}, "remote_write": [{"url": daemon.url + "/api/v1/write"}],
                "scrape_configs": [{"job_name": "prom", "static_configs": [{"targets": [f"127.0.0.1:{prometheus}"]}]}]}))
            daemon.child("prometheus", f"--config.file={daemon.folder / 'p.yml'}", f"--storage.tsdb.path={daemon.folder / 'tsdb'}",
                         f"--web.listen-address=127.0.0.1:{prometheus}")
            written = daemon.settled("remote-write", 500) if wait_for("remote write", lambda: daemon.source("remote-write")["stored"] > 500, 60) else None
            self.assertEqual(written["malformed"], 0, written)
            names = {event["name"] for event in daemon.events("--kind", "sample", "--entity", "prom")}
            self.assertTrue(any(name.startswith("prometheus_http_request_duration_seconds.rate{") for name in names), sorted(names)[:20])
            self.assertTrue(any(name.startswith("process_cpu_seconds_total.rate") for name in names))
            scraped = wait_for("two scrapes", lambda: (row := daemon.source("node"))["requests"] > 3 and row["state"] == "running" and row)
            self.assertGreater(scraped["stored"], 100)
            hosts = {event["name"] for event in daemon.events("--kind", "sample", "--entity", "host", "--name", "node_*")}
            self.assertIn(f'node_load1{{instance="127.0.0.1:{exporter}",job="node"}}', hosts)
            self.assertTrue(any(name.startswith("node_cpu_seconds_total.rate{") for name in hosts))

    # Debian's Alertmanager opens an incident with its webhook, and its end closes it.
    def test_alertmanager_opens_an_incident(self):
        port = free_port()
        with Bare() as daemon:
            (daemon.folder / "a.yml").write_text(json.dumps({
                "route": {"receiver": "culprit", "group_wait": "0s", "group_interval": "1s"},
                "receivers": [{"name": "culprit", "webhook_configs": [{"url": daemon.url + "/alerts", "send_resolved": True}]}]}))
            daemon.child("prometheus-alertmanager", f"--config.file={daemon.folder / 'a.yml'}", f"--storage.path={daemon.folder / 'am'}",
                         f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=")
            alert = {"labels": {"alertname": "HighLatency", "service": "order", "severity": "critical"}, "annotations": {"summary": "p99 over 2 s"}}

            def send(**more):
                request = urllib.request.Request(f"http://127.0.0.1:{port}/api/v2/alerts", json.dumps([{**alert, **more}]).encode(), {"Content-Type": "application/json"})
                try:
                    return urllib.request.urlopen(request).status == 200
                except OSError:
                    return False
            wait_for("alertmanager", send)
            incident = wait_for("an incident", lambda: daemon.ask("incidents")["incidents"])[0]
            self.assertEqual(incident["service"], "order")
            self.assertIn("HighLatency", incident["headline"])
            send(startsAt="2020-01-01T00:00:00Z", endsAt="2020-01-01T00:01:00Z")
            wait_for("its end", lambda: daemon.ask("incidents")["incidents"][0]["state"] == "closed", 60)


class Imports(unittest.TestCase):
    # A file that is imported twice is shown once; one that is broken leaves nothing behind and says where.
    def test_twice_and_broken(self):
        trace, now = "4bf92f3577b34da6a3ce929d0e0e4736", int(time.time() * 1e6) - 10_000_000
        spans = [{"traceID": trace, "spanID": f"{i + 1:016x}", "operationName": f"step {i}", "startTime": now + i, "duration": 1000, "processID": "p",
                  "references": [{"refType": "CHILD_OF", "traceID": trace, "spanID": f"{i:016x}"}] if i else [],
                  "logs": [{"timestamp": now + i, "fields": [{"key": "message", "value": word}]} for word in ("tried", "done")]} for i in range(3)]
        document = json.dumps({"data": [{"traceID": trace, "spans": spans, "processes": {"p": {"serviceName": "shop"}}}]})
        with Bare() as daemon:
            for name, text in (("broken", document + "\n" + document[:200]), ("whole", document)):
                (daemon.folder / name).write_text(text)
            with self.assertRaisesRegex(AssertionError, f"line at offset {len(document) + 1}"):
                daemon.ask("import", str(daemon.folder / "broken"))
            for _ in range(2):
                said = daemon.ask("import", str(daemon.folder / "whole"))
                self.assertEqual((said["records"], said["events"]), (3, 9))
                self.assertLessEqual(said["first"], said["last"])
            daemon.settled("import", 18)
            shown = daemon.ask("trace", trace)
            self.assertEqual([(row["depth"], row["name"]) for row in shown["spans"]], [(i, f"step {i}") for i in range(3)])
            self.assertEqual(sorted(line["body"] for line in shown["logs"]), ["done"] * 3 + ["tried"] * 3)
            self.assertEqual(daemon.source("import")["malformed"], 1)


class Logs(unittest.TestCase):
    # util-linux' logger in each form and over each socket: each message once, with its program.
    def test_logger(self):
        port, folder = free_port(), tempfile.mkdtemp()
        path = os.path.join(folder, "log.sock")
        with Bare([{"type": "syslog", "name": "net", "listen": f"127.0.0.1:{port}"}, {"type": "syslog", "name": "local", "listen": path}]) as daemon:
            forms = [("-d", "--rfc5424"), ("-d", "--rfc3164"), ("-T", "--rfc5424"), ("-T", "--rfc3164"), ("-T", "--octet-count", "--rfc5424")]
            for i, form in enumerate(forms):
                subprocess.run(["logger", "-n", "127.0.0.1", "-P", str(port), *form, "-t", "shopd", f"message number {i}"], check=True)
            subprocess.run(["logger", "-u", path, "-d", "-t", "shopd", "message number 5"], check=True)
            self.assertEqual(daemon.settled("net", 5)["stored"], 5)
            self.assertEqual(daemon.settled("local", 1)["stored"], 1)
            lines = daemon.events("--kind", "log", "--entity", "shopd")
            self.assertEqual(sorted(line["body"] for line in lines), [f"message number {i}" for i in range(6)])
        shutil.rmtree(folder)

    # A source that is tried, added while the daemon runs, and refused with its reason.
    def test_sources_test_and_add(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        (folder / "shop.log").write_text('{"level":"error","msg":"it failed"}\nnot json\n')
        with Bare() as daemon:
            tried = daemon.ask("sources", "test", "file", f"path={folder}/*.log", "format=json")
            self.assertIn("1 of 2 lines", tried["text"])
            self.assertEqual(len(tried["problems"]), 1)
            self.assertEqual(tried["examples"][0]["entity"], "service:shop")
            for wrong in (("file",), ("file", f"path={folder}/*.log", "from=start"), ("scrape", "target= ,"), ("file", f"path={folder}/none"), ("file", "path=relative"), ("scrape", "target=127.0.0.1:1"), ("fil", "path=/x"), ("file", "pth=/x")):
                with self.assertRaises(AssertionError):
                    daemon.ask("sources", "add", *wrong)
            added = daemon.ask("sources", "add", "file", f"path={folder}/*.log", "name=shop", "from=beginning", "format=json")
            self.assertEqual(added["source"], "shop")
            self.assertEqual(daemon.settled("shop", 2)["stored"], 2)
            self.assertIn('"shop"', (daemon.folder / "state/sources.yaml").read_text())
        shutil.rmtree(folder)

    # Kinds of lines keep their ids and first sights over a restart, whatever comes first after it; what was never seen is new, and first.
    def test_templates_over_a_restart(self):
        folder = pathlib.Path(tempfile.mkdtemp())
        log = folder / "shop.log"
        log.touch()
        kinds = ["order {} placed", "payment of order {} failed: card refused", "stock of item {} is low", "cart {} was left"]
        with Bare([{"type": "file", "name": "shop", "path": str(log), "from": "beginning"}]) as daemon:
            def write(lines):
                with log.open("a") as out:
                    out.writelines(line + "\n" for line in lines)

            def names():
                return {kind: {line["name"] for line in daemon.events("--kind", "log") if line["body"].startswith(kind.split("{")[0])} for kind in kinds}
            write(kind.format(i) for kind in kinds for i in range(10))
            write(f"user {name} logged in again" for name in ("anna", "berta", "carl", "dora", "emil", "fritz", "gustav", "hanna"))
            daemon.settled("shop", 48)
            before = names()
            self.assertEqual({len(of) for of in before.values()}, {1}, before)
            time.sleep(1.1)  # the lines before are older than the window that is asked for below
            daemon.restart()
            began = time.monotonic()
            write(["user ida logged in again", *(kind.format(99) for kind in reversed(kinds)), "disk sda is on fire"])
            daemon.settled("shop", 6)
            self.assertEqual(names(), before)
            patterns = daemon.ask("logs", "--since", f"{max(1, int(time.monotonic() - began + 1))}s")["patterns"]
            self.assertEqual([(row["pattern"], row["new"]) for row in patterns if row["new"]], [("disk sda is on fire", True)], patterns)
            self.assertEqual(patterns[0]["pattern"], "disk sda is on fire")
            again = next(row for row in patterns if row["pattern"] == "user <*> logged in again")
            self.assertLess(again["first"], patterns[0]["first"])
        shutil.rmtree(folder)

    # nginx writes its access log, is told to rotate it, and every request is there once with its route and status.
    def test_nginx_with_rotation(self):
        port = free_port()
        folder = pathlib.Path(tempfile.mkdtemp(prefix="culprit-nginx-"))
        log = folder / "access.log"
        (folder / "n.conf").write_text(
            f"daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
            f"http {{ access_log {log}; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;"
            f" scgi_temp_path {folder}/s; server {{ listen 127.0.0.1:{port}; location / {{ return 200 'ok'; }} location /orders {{ return 504; }} }} }}\n")
        with Bare([{"type": "file", "name": "web", "path": str(log), "service": "web", "from": "beginning", "format": "nginx"}]) as daemon:
            nginx = daemon.child("nginx", "-c", folder / "n.conf", "-p", folder)

            def get(path):
                try:
                    return urllib.request.urlopen(f"http://127.0.0.1:{port}{path}").status
                except urllib.error.HTTPError as error:
                    return error.code
                except OSError:
                    return None
            wait_for("nginx", lambda: get("/first"))
            daemon.settled("web", 1)  # a file is looked for every 2 s: one that is renamed before that was never seen
            for i in range(20):
                self.assertEqual(get(f"/orders/{i}?token=secret"), 504)
            os.rename(log, folder / "access.log.1")
            for i in range(10):  # written to the old file still
                get("/")
            nginx.send_signal(10)  # USR1: reopen
            wait_for("the new file", log.exists)
            for i in range(10):
                get("/")
            self.assertEqual(daemon.settled("web", 41)["stored"], 41)
            lines = daemon.events("--kind", "log", "--entity", "web")
            failed = [line for line in lines if line["attributes"]["http.response.status_code"] == "504"]
            self.assertEqual({(line["attributes"]["http.route"], line["severity"]) for line in failed}, {("/orders/{id}", "error")})
            self.assertEqual(len(failed), 20)
            self.assertFalse(any("secret" in line["body"] for line in lines))
        shutil.rmtree(folder)


if __name__ == "__main__":
    unittest.main(verbosity=2)
