"""Each configuration and command of docs/sources.md does what it says: ours in a daemon, those of other tools by their own checkers."""
import json
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import yaml

from clients_test import CLI, ROOT, Bare, wait_for

PAGE = (ROOT / "docs/sources.md").read_text()
COMBINED = '10.0.0.9 - - [27/Nov/2026:10:00:00 +0000] "GET /cart HTTP/1.1" 200 17 "-" "curl/8"\n'
ENVOY = '[2026-11-27T10:00:00.000Z] "GET /cart HTTP/1.1" 504 UT 0 24 5000 - "-" "curl/8" "r1" "shop" "10.1.0.4:8080"\n'
# What own format strings of the page are tried with.
OWN = {"nginx": '10.0.0.9 "GET /cart HTTP/1.1" 200 0.010\n', "apache": '10.0.0.9 "GET /cart HTTP/1.1" 200 1500\n', "envoy": '[2026-11-27T10:00:00.000Z] "GET /cart" 504 UT 5000\n'}


def blocks(language):
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert found, f"no {language} in the page"
    return found


class Page(unittest.TestCase):
    def setUp(self):
        keep = tempfile.TemporaryDirectory(prefix="culprit-docs-")
        self.addCleanup(keep.cleanup)
        self.folder = pathlib.Path(keep.name)

    # Folders of this test instead of the system's, and nobody else's hosts.
    def moved(self, text):
        for name, content in (("var/log/nginx/access.log", COMBINED), ("var/log/shop/a.log", '{"level":"error","msg":"it failed"}\n'), ("var/log/envoy/access.log", ENVOY),
                              (f"var/lib/docker/containers/{'a' * 64}/{'a' * 64}-json.log", '{"log":"it failed\\n","stream":"stderr","time":"2026-11-23T14:02:08.5Z"}\n'),
                              ("var/log/pods/shop_cart-7c5d8f9b6d-x2x4z_0b7e/cart/0.log", "2026-11-23T14:02:08.5Z stderr F it failed\n"),
                              ("etc/culprit/kubernetes.token", "t\n"), ("etc/culprit/kubernetes.crt", ""), ("srv/collected/journals/none", ""), ("run/culprit/none", "")):
            file = self.folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
        return re.sub(r"(?<![\w/])/(?=(?:var/log|var/lib/docker|etc/culprit|srv/collected|run/culprit)\b)", f"{self.folder}/", text.replace("10.0.0.", "127.0.0."))

    # A daemon starts with all sources of the page, each is listed, and trying it fails at most for want of what it would ask.
    def test_sources(self):
        entries = []
        for block in blocks("yaml"):
            if not block.startswith("sources:"):
                continue
            file = self.folder / "block.yaml"
            file.write_text(self.moved(block))
            done = subprocess.run([CLI, "config", "--file", str(file)], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, block + done.stderr)
            entries += yaml.safe_load(file.read_text())["sources"]
        self.assertGreater(len(entries), 12)
        self.assertEqual({entry["type"] for entry in entries}, {"file", "scrape", "journald", "syslog", "kubernetes"})
        with Bare([{**entry, "name": f"s{i}"} for i, entry in enumerate(entries)]) as daemon:
            rows = daemon.ask("sources", "list")["sources"]
            for i, entry in enumerate(entries):
                states = [row["state"] for row in rows if re.fullmatch(rf"s{i}([^0-9].*)?", row["source"])]
                self.assertTrue(states, entry)
                if entry["type"] in ("file", "scrape", "kubernetes"):  # the others need a journal, or a port that is free
                    self.assertNotIn("failed", states, entry)
                options = [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in entry.items() if key not in ("type", "relabel", "target_relabel")]
                done = subprocess.run([CLI, "--socket", str(daemon.socket), "-o", "json", "sources", "test", entry["type"], *options], capture_output=True, text=True)
                self.assertNotIn(done.returncode, (2, 6), (entry, done.stderr))
                if entry["type"] == "file":
                    self.assertEqual(done.returncode, 0, (entry, done.stderr))
                    self.assertIn("1 of 1 lines", json.loads(done.stdout)["text"], entry)

    def test_own_formats(self):
        formats = re.findall(r"`((?:nginx|apache|envoy):[^`]+)`", PAGE)
        self.assertEqual({text.split(":")[0] for text in formats}, set(OWN))
        with Bare() as daemon:
            for text in formats:
                log = self.folder / "own.log"
                log.write_text(OWN[text.split(":")[0]])
                tried = daemon.ask("sources", "test", "file", f"path={log}", f"format={text}")
                self.assertIn("1 of 1 lines", tried["text"], tried)
                self.assertRegex(json.dumps(tried["examples"]), "/cart", text)

    # Prometheus' and Alertmanager's own checkers, and addresses at which the daemon listens unless told otherwise.
    def test_other_tools(self):
        listens = {row["key"]: row["value"] for row in json.loads(subprocess.run([CLI, "-o", "json", "config", "--file", os.devnull], capture_output=True, text=True, check=True).stdout)["values"]}
        checked = set()
        for block in blocks("yaml"):
            document = yaml.safe_load(block)
            file = self.folder / "other.yaml"
            if "remote_write" in document:
                file.write_text(block)
                command = ["promtool", "check", "config", str(file)]
            elif "receivers" in document:
                file.write_text(block + "route: {receiver: culprit}\n")
                command = ["amtool", "check-config", str(file)]
            elif "exporters" in document:
                self.assertEqual(document["exporters"]["otlphttp"]["endpoint"], f"http://{listens['otlp_http']}")
                checked.add("collector")
                continue
            else:
                self.assertIn("sources", document)
                continue
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            self.assertIn(f"http://{listens['otlp_http']}/", block)
            checked.add(command[0])
        self.assertEqual(checked, {"promtool", "amtool", "collector"})

    # The commands, against a daemon of this test; kubectl says what a cluster would say.
    def test_commands(self):
        kubectl = self.folder / "kubectl"
        kubectl.write_text("""#!/bin/sh
echo '{"kind":"EventList","items":[{"involvedObject":{"kind":"Pod","name":"cart-7c5d8f9b6d-x2x4z","namespace":"shop"},"type":"Warning","reason":"Unhealthy","message":"Readiness probe failed","lastTimestamp":"2026-11-27T10:00:00Z"}]}'
""")
        kubectl.chmod(0o755)
        traces = self.folder / "traces.json"
        traces.write_text(json.dumps([{"traceId": "0000000000000007", "id": "0000000000000009", "name": "get", "timestamp": 1764237600000000, "duration": 1000, "localEndpoint": {"serviceName": "shop"}}]))
        with Bare() as daemon:
            ran = 0
            for block in blocks("sh"):
                for line in block.splitlines():
                    if not ("curl " in line or line.startswith("culprit import")):
                        continue
                    line = line.replace("http://127.0.0.1:4318", daemon.url).replace("curl ", "curl -sS --fail ", 1)
                    line = re.sub(r"^culprit import", f"{CLI} --socket {daemon.socket} import", line)
                    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], cwd=self.folder, env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"}, capture_output=True, text=True)
                    self.assertEqual(done.returncode, 0, line + done.stdout + done.stderr)
                    ran += 1
            self.assertEqual(ran, 3)
            daemon.settled("kubernetes-events", 1)
            wait_for("the alert's incident", lambda: any("Checkout fails" in json.dumps(row) for row in daemon.ask("incidents")["incidents"]))
            self.assertEqual(len(daemon.ask("trace", "00000000000000000000000000000007")["spans"]), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
