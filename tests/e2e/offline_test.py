"""Commands that need neither a daemon nor rights."""
import json
import os
import pathlib
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree

import daemon

AS_NOBODY = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"] if os.geteuid() == 0 else []


class Offline(unittest.TestCase):
    def culprit(self, *arguments):
        with tempfile.TemporaryDirectory() as state:
            os.chmod(state, 0o777)
            return subprocess.run([*AS_NOBODY, str(daemon.BIN / "culprit"), "--state", state, *arguments], stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, timeout=60)

    def test_templates_of_a_file(self):
        with tempfile.NamedTemporaryFile("w") as log:
            log.writelines(f"connection from 10.0.0.{i} took {i} ms\n" for i in range(50))
            log.flush()
            os.chmod(log.name, 0o644)
            done = self.culprit("templates", log.name)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("50", done.stdout)
        self.assertIn("connection from <*> took <*> ms", done.stdout)

    def test_knowledge(self):
        done = self.culprit("knowledge", "match", "FATAL:  sorry, too many clients already")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("postgresql/too-many-clients", done.stdout)
        self.assertIn("lock", self.culprit("knowledge", "search", "statements hang behind a migration").stdout)

    def test_rules(self):
        done = self.culprit("rules", "test")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

        strict = self.culprit("rules", "check", "--strict")
        self.assertEqual(strict.returncode, 0, strict.stdout + strict.stderr)

    # The same incident with one rule more: it ranks differently, and each clause says why the rule fires.
    def test_rules_against_an_export(self):
        rule = """rule: slow-shop
status: stable
summary: The shop is slow
match:
  - {id: slow, metric: http.server.latency.p99, above: 0.5, least: 3}
blame: slow.entity
cause: application/dependency-timeouts
weight: 5
explain: "it takes {slow.value:seconds}"
source: test
tests:
  - {name: slow, events: [{metric: http.server.latency.p99, entity: 'service:shop', series: '900ms x3'}], expect: fires}
  - {name: quick, events: [{metric: http.server.latency.p99, entity: 'service:shop', series: '9ms x3'}], expect: none}
  - {name: once, events: [{metric: http.server.latency.p99, entity: 'service:shop', value: 0.9}], expect: none}
"""
        start = 700_000_000_000
        incident = {"id": 7, "state": "open", "service": "shop", "services": ["shop"], "onset_ns": start, "wave_ns": start, "opened_ns": start, "last_symptom_ns": start, "closed_ns": 0,
                    "symptoms": [{"entity": "service:shop", "series": "http.server.latency.p99", "since_ns": start, "last_ns": start, "value": 1.8, "normal": 0.02, "unit": "s", "score": 9.0, "text": ""}]}
        lines = [{"culprit_export": 1, "incident": incident, "options": {"now_ns": start + 20_000_000_000}}]
        lines += [{"time_ns": start + second * 1_000_000_000, "kind": "sample", "entity": "service:shop", "name": "http.server.latency.p99", "value": 0.02 if second < 0 else 1.8} for second in range(-30, 20)]
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            file, export = pathlib.Path(folder) / "slow-shop.yaml", pathlib.Path(folder) / "incident.ndjson"
            file.write_text(rule)
            export.write_text("".join(json.dumps(line) + "\n" for line in lines))
            done = self.culprit("rules", "diff", str(file), str(export))
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("1 incidents compared, 1 rank differently", done.stdout)
            explain = ["rules", "explain", "slow-shop", "--rules", str(file), "--events", str(export), "--at"]
            done = self.culprit(*explain, "1970-01-01T00:11:45Z")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("slow-shop fires", done.stdout)
            self.assertIn("true  above 0.5: 1.8", done.stdout)
            done = self.culprit(*explain, "1970-01-01T00:01:00Z")
            self.assertIn("slow-shop does not fire", done.stdout)
            self.assertIn("no event of this name in the window", done.stdout)

    # Exit codes and every format, of a clean file, one with a violation and one that is broken.
    def test_policy_formats(self):
        with tempfile.TemporaryDirectory() as folder:
            os.chmod(folder, 0o755)
            files = {"clean.json": "{}", "bad.env": "JWT_SECRET=short\n", "broken.yaml": "a: [\n"}
            for name, text in files.items():
                (pathlib.Path(folder) / name).write_text(text)
            at = lambda name: str(pathlib.Path(folder) / name)
            for arguments, code in (([at("clean.json")], 0), ([at("bad.env")], 7), ([at("bad.env"), "--pack", "envoy"], 0), ([at("broken.yaml")], 2), ([folder], 2), ([at("none")], 2)):
                done = self.culprit("policy", "check", *arguments)
                self.assertEqual(done.returncode, code, (arguments, done.stdout, done.stderr))
            told = {form: self.culprit("policy", "check", "--format", form, folder).stdout for form in ("json", "sarif", "junit", "github")}
            document = json.loads(told["json"])
            self.assertEqual([row["policy"] for row in document["findings"]], ["jwt-secret-weak"])
            self.assertEqual([pathlib.Path(row["file"]).name for row in document["unreadable"]], ["broken.yaml"])
            run = json.loads(told["sarif"])["runs"][0]
            self.assertEqual([row["ruleId"] for row in run["results"]], ["jwt-secret-weak"])
            self.assertFalse(run["invocations"][0]["executionSuccessful"])
            suite = xml.etree.ElementTree.fromstring(told["junit"]).find("testsuite")
            self.assertEqual([suite.get(key) for key in ("tests", "failures", "errors")], ["3", "1", "1"])
            self.assertEqual(sum(line.startswith("::error file=") for line in told["github"].splitlines()), 2)

    def test_policy(self):
        with tempfile.NamedTemporaryFile("w", prefix="redis", suffix=".conf") as conf:
            conf.write("maxmemory 1gb\n")
            conf.flush()
            os.chmod(conf.name, 0o644)
            done = self.culprit("policy", "check", conf.name)
        self.assertIn(conf.name, done.stdout)

    def test_mistakes(self):
        for arguments, code in ((["replay", "/nonexistent"], 3), (["why", "shop", "--since", "soon"], 2), (["frobnicate"], 2), (["templates", "/nonexistent"], 3)):
            done = self.culprit(*arguments)
            self.assertEqual(done.returncode, code, (arguments, done.stderr))
            self.assertTrue(done.stderr.strip())


if __name__ == "__main__":
    unittest.main(verbosity=2)
