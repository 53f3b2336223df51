"""Sources that the daemon asks or follows by itself: the journal, a Kubernetes API server, real log files, its own /metrics.

Each class skips nothing: a program that is missing fails its test (./dev setup installs them).
"""
import glob
import http.server
import json
import os
import pathlib
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request

from clients_test import Bare, free_port, wait_for


class Journald(unittest.TestCase):
    REMOTE = "/lib/systemd/systemd-journal-remote"

    def write(self, file, entries):
        now = int(time.time() * 1e6)
        text = "".join(f"__REALTIME_TIMESTAMP={now + i}\n__MONOTONIC_TIMESTAMP={now + i}\n_BOOT_ID={'ab' * 16}\n" + "".join(f"{k}={v}\n" for k, v in entry.items()) + "\n"
                       for i, entry in enumerate(entries))
        subprocess.run([self.REMOTE, "-o", str(file), "-"], input=text.encode(), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    # Each entry once, of its unit or of the host, also over a restart of the daemon.
    def test_follows_a_folder_of_journal_files(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="culprit-journal-"))
        self.write(folder / "a.journal", [{"MESSAGE": f"line {i}", "_SYSTEMD_UNIT": "cart.service", "PRIORITY": "3"} for i in range(100)])
        with Bare([{"type": "journald", "name": "logs", "path": str(folder), "from": "beginning"}]) as daemon:
            self.assertEqual(daemon.settled("logs", 100)["stored"], 100)
            self.write(folder / "a.journal", [{"MESSAGE": "Out of memory: Killed process 7 (cart)", "_TRANSPORT": "kernel", "PRIORITY": "3"},
                                              {"MESSAGE": "cart.service: Failed with result 'oom-kill'.", "UNIT": "cart.service", "_PID": "1", "PRIORITY": "4"}])
            self.assertEqual(daemon.settled("logs", 102)["stored"], 102)
            daemon.restart()
            self.write(folder / "b.journal", [{"MESSAGE": "after", "_SYSTEMD_UNIT": "cart.service"}])
            self.assertEqual(daemon.settled("logs", 1)["stored"], 1)  # none twice
            cart = daemon.events("--kind", "log", "--entity", "cart")
            self.assertEqual(sorted(line["body"] for line in cart), sorted([f"line {i}" for i in range(100)] + ["after", "cart.service: Failed with result 'oom-kill'."]))
            self.assertEqual([line["severity"] for line in daemon.events("--kind", "log", "--entity", "host")], ["error"])
            tried = daemon.ask("sources", "test", "journald", f"path={folder}", "units=cart")
            self.assertEqual(tried["examples"][0]["entity"], "service:cart")
        shutil.rmtree(folder)


def event(number, version, pod="cart-7c5d8f9b6d-x2x4z", message="Readiness probe failed", reason="Unhealthy", count=1):
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    return {"metadata": {"name": f"e{number}", "uid": f"uid-{number}", "resourceVersion": str(version)}, "type": "Warning", "reason": reason, "message": f"{message} {number}",
            "count": count, "lastTimestamp": when, "involvedObject": {"kind": "Pod", "name": pod, "namespace": "shop"}}


class ApiServer:
    """List and watch of events, as kube-apiserver answers: pages, bookmarks, 410 Gone, tokens that are exchanged."""

    def __init__(self, tls=None):
        self.token, self.events, self.version, self.asked, self.watchers = "first", [], 100, [], []
        self.gone_before, self.refuse = 0, 0
        self.lock = threading.Condition()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def say(self, status, document):
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                url = urllib.parse.urlparse(self.path)
                query = dict(urllib.parse.parse_qsl(url.query))
                with outer.lock:
                    outer.asked.append((url.path, query, self.headers.get("Authorization")))
                    if outer.refuse > 0:
                        outer.refuse -= 1
                        return self.say(500, {"kind": "Status", "message": "etcd has no leader"})
                    if self.headers.get("Authorization") != f"Bearer {outer.token}":
                        return self.say(401, {"kind": "Status", "message": "Unauthorized"})
                    if "watch" not in query:
                        start = int(query.get("continue", "0"))
                        page = outer.events[start:start + 2]  # fewer than the limit: a server may
                        more = {"continue": str(start + 2)} if start + 2 < len(outer.events) else {}
                        return self.say(200, {"kind": "EventList", "metadata": {"resourceVersion": str(outer.version), **more}, "items": page})
                    since = int(query["resourceVersion"])
                    if since < outer.gone_before:
                        if since % 2:  # both forms occur
                            return self.say(410, {"kind": "Status", "code": 410, "message": "too old resource version"})
                        return self.say(200, {"type": "ERROR", "object": {"kind": "Status", "code": 410, "message": "too old resource version"}})
                    self.send_response(200)
                    self.send_header("Transfer-Encoding", "chunked")
                    self.end_headers()
                    missed = [item for item in outer.events if int(item["metadata"]["resourceVersion"]) > since]
                    queue = [{"type": "ADDED", "object": item} for item in missed]
                    outer.watchers.append(queue)
                    while True:
                        while queue:
                            line = queue.pop(0)
                            if line is None:
                                self.wfile.write(b"0\r\n\r\n")
                                return
                            data = json.dumps(line).encode() + b"\n"
                            for piece in (data[:7], data[7:]):  # lines do not come whole
                                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                                self.wfile.flush()
                        outer.lock.wait(0.2)

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass  # the daemon hangs up when it ends

        self.server = Server(("127.0.0.1", 0), Handler)
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*tls)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def tell(self, item, kind="ADDED"):
        with self.lock:
            self.version = max(self.version, int(item["metadata"]["resourceVersion"]))
            if kind != "BOOKMARK":
                self.events = [other for other in self.events if other["metadata"]["uid"] != item["metadata"]["uid"]]
            if kind in ("ADDED", "MODIFIED"):
                self.events.append(item)
            for queue in self.watchers:
                queue.append({"type": kind, "object": item})
            self.lock.notify_all()

    def end_watches(self):
        with self.lock:
            for queue in self.watchers:
                queue.append(None)
            self.watchers.clear()
            self.lock.notify_all()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Kubernetes(unittest.TestCase):
    # Each telling of an event once: over pages, watches that end, a server that forgot, tokens that change, a restart of the daemon.
    def test_list_and_watch(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="culprit-kubernetes-"))
        api = ApiServer()
        (folder / "token").write_text("first\n")
        for i in range(5):
            api.tell(event(i, 101 + i))
        source = {"type": "kubernetes", "name": "cluster", "server": api.url, "namespace": "shop", "token_file": str(folder / "token")}
        with Bare([source]) as daemon:
            daemon.settled("cluster", 5)
            wait_for("the watch", lambda: api.watchers)
            self.assertEqual(api.asked[0][0], "/api/v1/namespaces/shop/events")
            self.assertEqual(api.asked[-1][1]["resourceVersion"], "105")
            api.tell(event(5, 106))
            daemon.settled("cluster", 6)
            api.tell({"kind": "Event", "metadata": {"resourceVersion": "150"}}, "BOOKMARK")
            api.tell(event(0, 151, count=9), "MODIFIED")
            api.tell(event(1, 152), "DELETED")
            daemon.settled("cluster", 7)
            # The watch ends, the token was exchanged, and once the server fails: it goes on from where it was.
            with api.lock:
                api.token, api.refuse = "second", 1
            (folder / "token").write_text("second")
            api.end_watches()
            wait_for("another watch", lambda: api.watchers)
            self.assertEqual(api.asked[-1][1]["resourceVersion"], "152")
            self.assertEqual(api.asked[-1][2], "Bearer second")
            # Twice the server has forgotten where the watch was, and tells it in both ways.
            for version in (201, 302):
                api.tell(event(version, version))
                daemon.settled("cluster", 8 if version == 201 else 10)
                lists = sum("watch" not in query for _, query, _ in api.asked)
                with api.lock:
                    api.gone_before = version + 50
                    api.version = version + 99
                    api.events.append(event(version + 1, version + 60))  # only the list tells it
                api.end_watches()
                wait_for("another list", lambda: sum("watch" not in query for _, query, _ in api.asked) > lists)
                daemon.settled("cluster", 9 if version == 201 else 11)
                wait_for("another watch", lambda: api.watchers)
            row = daemon.settled("cluster", 11)
            self.assertEqual(row["stored"], 11, row)
            # A restart goes on from where it was.
            daemon.restart()
            api.end_watches()
            wait_for("another watch", lambda: api.watchers)
            api.tell(event(900, 900))
            self.assertEqual(daemon.settled("cluster", 1)["stored"], 1)
            lines = daemon.events("--kind", "log", "--entity", "cart")
            self.assertEqual(sorted(line["body"] for line in lines), sorted(f"Unhealthy: Readiness probe failed {i}" for i in (0, 0, 1, 2, 3, 4, 5, 201, 202, 302, 303, 900)))
            self.assertNotIn("second", json.dumps(daemon.ask("sources", "list")))
            self.assertEqual(daemon.source("cluster")["malformed"], 0)
        api.close()
        shutil.rmtree(folder)

    # A wrong token and no server are told with their reason, over TLS with the cluster's own authority; then all is well.
    def test_troubles_are_told(self):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="culprit-kubernetes-"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
                        "-keyout", str(folder / "key.pem"), "-out", str(folder / "ca.pem")], check=True, stderr=subprocess.DEVNULL)
        api = ApiServer((folder / "ca.pem", folder / "key.pem"))
        api.tell(event(1, 101))
        (folder / "token").write_text("wrong")
        with Bare([{"type": "kubernetes", "name": "cluster", "server": api.url, "token_file": str(folder / "token"), "ca_file": str(folder / "ca.pem")},
                   {"type": "kubernetes", "name": "stranger", "server": api.url, "token_file": str(folder / "token")},
                   {"type": "kubernetes", "name": "none", "server": f"http://127.0.0.1:{free_port()}"},
                   {"type": "kubernetes", "name": "tokenless", "server": api.url, "token_file": str(folder / "absent")}]) as daemon:
            wait_for("401", lambda: "401" in (daemon.source("cluster")["last_error"] or ""))
            wait_for("an unknown authority", lambda: "certificate" in (daemon.source("stranger")["last_error"] or "").lower())
            wait_for("no server", lambda: daemon.source("none")["last_error"])
            wait_for("no token", lambda: "absent" in (daemon.source("tokenless")["last_error"] or ""))
            self.assertEqual({daemon.source(name)["state"] for name in ("cluster", "stranger", "none", "tokenless")}, {"waiting"})
            (folder / "token").write_text("first")
            self.assertEqual(daemon.settled("cluster", 1)["stored"], 1)
            tried = daemon.ask("sources", "test", "kubernetes", f"server={api.url}", f"token_file={folder / 'token'}", f"ca_file={folder / 'ca.pem'}")
            self.assertEqual(tried["examples"][0]["entity"], "service:cart")
        api.close()
        shutil.rmtree(folder)


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="culprit-files-"))
        os.chmod(self.folder, 0o755)

    def tearDown(self):
        shutil.rmtree(self.folder)

    # HAProxy writes its own httplog to our syslog socket: routes, statuses and its termination states.
    def test_haproxy(self):
        port, dead, log = free_port(), free_port(), self.folder / "log.sock"
        (self.folder / "h.cfg").write_text(
            f"global\n  log {log} local0\ndefaults\n  mode http\n  log global\n  option httplog\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n  retries 0\n"
            f"frontend in\n  bind 127.0.0.1:{port}\n  default_backend orders\nbackend orders\n  server one 127.0.0.1:{dead}\n")
        with Bare([{"type": "syslog", "name": "proxy", "listen": str(log)}, {"type": "file", "name": "file", "path": str(self.folder / "h.log"), "format": "haproxy", "from": "beginning"}]) as daemon:
            daemon.child("haproxy", "-db", "-f", self.folder / "h.cfg")

            def get():
                try:
                    return urllib.request.urlopen(f"http://127.0.0.1:{port}/orders/17").status
                except urllib.error.HTTPError as error:
                    return error.code
                except OSError:
                    return None
            wait_for("haproxy", get)
            self.assertEqual(get(), 503)
            daemon.settled("proxy", 2)
            lines = [line["body"] for line in daemon.events("--kind", "log", "--entity", "haproxy") if "GET /orders" in line["body"]]
            self.assertGreaterEqual(len(lines), 2)
            # The same lines, as a syslog daemon would write them into a file.
            with open(self.folder / "h.log", "w") as file:
                for line in lines:
                    file.write(f"{time.strftime('%b %e %H:%M:%S')} host haproxy[17]: {line}\n")
            daemon.settled("file", len(lines))
            read = [line for line in daemon.events("--kind", "log") if line["attributes"].get("log.file.path", "").endswith("h.log")]
            self.assertEqual({line["attributes"].get("http.response.status_code") for line in read}, {"503"}, read[:1])
            self.assertEqual({line["severity"] for line in read}, {"error"})

    # PostgreSQL writes its log, an error with its statement and a FATAL.
    def test_postgresql(self):
        binaries = pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        data, port = self.folder / "data", free_port()
        shutil.chown(self.folder, "postgres")
        as_postgres = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}
        subprocess.run([binaries / "initdb", "-D", data, "-A", "trust", "-U", "postgres"], check=True, stdout=subprocess.DEVNULL, cwd="/", **as_postgres)
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": str(self.folder), "logging_collector": "on", "log_directory": str(self.folder), "log_filename": "pg.log",
                    "log_min_duration_statement": 0, "max_connections": 5, "superuser_reserved_connections": 1}
        log = self.folder / "pg.log"
        with Bare([{"type": "file", "name": "pg", "path": str(log), "format": "postgresql", "service": "postgresql", "from": "beginning"}]) as daemon:
            daemon.child(binaries / "postgres", "-D", data, *[word for key, value in settings.items() for word in ("-c", f"{key}={value}")], cwd="/", **as_postgres)

            def sql(text):
                return subprocess.run(["psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-c", text], capture_output=True, text=True)
            wait_for("postgresql", lambda: sql("SELECT 1").returncode == 0)
            self.assertNotEqual(sql("SELECT *\nFROM nowhere").returncode, 0)

            def lines(body):
                return [line for line in daemon.events("--kind", "log", "--entity", "postgresql") if body in line["body"]]
            found = wait_for("the error", lambda: lines('relation "nowhere" does not exist'))
            self.assertEqual(found[0]["severity"], "error")
            self.assertTrue(wait_for("a slow statement", lambda: lines("duration:")))
            self.assertTrue(lines("database system is ready to accept connections"))
            row = daemon.source("pg")
            self.assertEqual(row["malformed"], 0, row)

    # Redis writes its log: its levels are the marks . - * #.
    def test_redis(self):
        port, log = free_port(), self.folder / "redis.log"
        with Bare([{"type": "file", "name": "redis", "path": str(log), "format": "redis", "service": "redis", "from": "beginning"}]) as daemon:
            server = daemon.child("redis-server", "--port", port, "--bind", "127.0.0.1", "--logfile", log, "--loglevel", "verbose", "--dir", self.folder, "--save", "")

            def ask(text):
                try:
                    with socket.create_connection(("127.0.0.1", port)) as connection:
                        connection.sendall(text)
                        return connection.recv(100)
                except OSError:
                    return None
            wait_for("redis", lambda: ask(b"PING\r\n"))
            ask(b"CONFIG SET maxmemory 1\r\n")
            server.terminate()
            server.wait(20)

            def severities():
                return {line["body"]: line["severity"] for line in daemon.events("--kind", "log", "--entity", "redis")}
            found = wait_for("its end", lambda: any("bye bye" in body for body in severities()) and severities())
            self.assertLessEqual({"warn", "info"}, set(found.values()), found)
            self.assertEqual(daemon.source("redis")["malformed"], 0)

    # Messages over a Unix stream, with newlines and counted, each once.
    def test_syslog_over_a_unix_stream(self):
        path = str(self.folder / "stream.sock")
        with Bare([{"type": "syslog", "name": "local", "listen": path, "protocol": "unix-stream"}]) as daemon:
            with socket.socket(socket.AF_UNIX) as sender:
                sender.connect(path)
                sender.sendall(b"<11>1 - - shopd 7 - - first\n")
                message = b"<11>1 - - shopd 7 - - second"
                sender.sendall(b"%d %s" % (len(message), message))
            self.assertEqual(daemon.settled("local", 2)["stored"], 2)
            self.assertEqual(sorted(line["body"] for line in daemon.events("--kind", "log", "--entity", "shopd")), ["first", "second"])


class Metrics(unittest.TestCase):
    # Debian's Prometheus scrapes our /metrics: promtool finds nothing to mend, and each series that we show is in Prometheus.
    def test_prometheus_scrapes_us(self):
        port, prometheus = free_port(), free_port()
        with Bare([{"type": "syslog", "name": "net", "listen": f"127.0.0.1:{free_port()}"}], page_port=port) as daemon:
            daemon.post("/alerts", {"service": "shop", "name": "Checkout fails"})  # a source that was used shows more
            text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read()
            checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True)
            self.assertEqual((checked.returncode, checked.stderr), (0, b""), checked.stdout)
            (daemon.folder / "p.yml").write_text(json.dumps({"global": {"scrape_interval": "1s"}, "scrape_configs": [{"job_name": "culprit", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}]}))
            daemon.child("prometheus", f"--config.file={daemon.folder / 'p.yml'}", f"--storage.tsdb.path={daemon.folder / 'tsdb'}", f"--web.listen-address=127.0.0.1:{prometheus}")

            def query(text):
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{prometheus}/api/v1/query?query={urllib.parse.quote(text)}") as answer:
                        return json.load(answer)["data"]["result"]
                except OSError:
                    return []
            wait_for("a scrape", lambda: (found := query('up{job="culprit"}')) and found[0]["value"][1] == "1", 60)
            ours = {line.split("{")[0].split(" ")[0] for line in text.decode().splitlines() if line and not line.startswith("#")}
            stored = {row["metric"]["__name__"] for row in query('{job="culprit"}')}
            self.assertLessEqual(ours, stored)

    # Several targets, of which relabeling drops one, moves one and names both.
    def test_target_relabeling(self):
        port = free_port()
        steps = [{"source_labels": ["__address__"], "regex": ".*:1", "action": "drop"},
                 {"source_labels": ["__address__"], "regex": "nowhere:(.*)", "target_label": "__address__", "replacement": "127.0.0.1:$1"},
                 {"source_labels": ["__address__"], "regex": ".*:(.*)", "target_label": "port", "replacement": "$1"}]
        with Bare([{"type": "scrape", "name": "two", "target": f"nowhere:{port}, 127.0.0.1:1", "interval": "1s", "service": "two", "labels": "env=test", "target_relabel": steps},
                   {"type": "scrape", "name": "none", "target": "127.0.0.1:1", "target_relabel": steps}], page_port=port) as daemon:
            wait_for("two scrapes", lambda: daemon.source("two")["requests"] > 2)
            self.assertEqual((daemon.source("two")["state"], daemon.source("none")["state"]), ("running", "off"))
            names = {sample["name"] for sample in daemon.events("--kind", "sample", "--entity", "two")}
            self.assertTrue([name for name in names if f'env="test"' in name and f'port="{port}"' in name], sorted(names)[:5])
            self.assertFalse([name for name in names if name.startswith("up{") and ':1"' in name])

    # Two targets of one service: each has its series, and none takes the other's growth for its own.
    def test_two_targets_of_one_service(self):
        port = free_port()
        with Bare([{"type": "scrape", "name": "both", "target": f"127.0.0.1:{port}, localhost:{port}", "interval": "1s", "service": "pair", "keep": "culprit_*"}], page_port=port) as daemon:
            wait_for("two scrapes of each", lambda: daemon.source("both")["requests"] > 5)
            names = {sample["name"] for sample in daemon.events("--kind", "sample", "--entity", "pair")}
            of = {host: {name.replace(host, "X") for name in names if f'instance="{host}:{port}"' in name and 'job="both"' in name} for host in ("127.0.0.1", "localhost")}
            self.assertEqual(len(of["127.0.0.1"]) + len(of["localhost"]), len(names))
            self.assertIn(f'up{{instance="X:{port}",job="both"}}', of["localhost"])
            self.assertGreater(len(of["127.0.0.1"] & of["localhost"]), 10)

    # The daemon scrapes its own /metrics, and relabeling decides which samples stay and how they are named.
    def test_scrapes_itself(self):
        port = free_port()
        relabel = [{"source_labels": ["__name__"], "regex": "culprit_(channel|map)_.*", "action": "drop"},
                   {"regex": "culprit_(.*)", "source_labels": ["__name__"], "target_label": "__name__", "replacement": "self_$1"}]
        with Bare([{"type": "scrape", "name": "self", "target": f"127.0.0.1:{port}", "interval": "1s", "service": "culprit"},
                   {"type": "scrape", "name": "renamed", "target": f"127.0.0.1:{port}", "interval": "1s", "service": "renamed", "relabel": relabel}], page_port=port) as daemon:
            row = wait_for("two scrapes", lambda: (row := daemon.source("self"))["requests"] > 2 and row["state"] == "running" and row)
            self.assertEqual((row["malformed"], row["dropped"]), (0, {}), row)
            names = {sample["name"] for sample in daemon.events("--kind", "sample", "--entity", "culprit")}
            self.assertTrue(any(name.startswith("culprit_channel_") for name in names), sorted(names))
            wait_for("two scrapes", lambda: daemon.source("renamed")["requests"] > 2)
            renamed = {sample["name"].split("{")[0] for sample in daemon.events("--kind", "sample", "--entity", "renamed")} - {"up"}
            self.assertTrue(renamed)
            self.assertFalse([name for name in renamed if not name.startswith("self_") or "channel" in name or "_map_" in name], sorted(renamed))
            with self.assertRaisesRegex(AssertionError, "did you mean 'labelkeep'"):
                daemon.ask("sources", "test", "scrape", f"target=127.0.0.1:{port}", 'relabel=[{"action": "labelkep", "regex": "x"}]')


if __name__ == "__main__":
    unittest.main(verbosity=2)
