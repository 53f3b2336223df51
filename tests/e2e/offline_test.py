"""Commands that need neither a daemon nor rights."""
import os
import subprocess
import tempfile
import unittest

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

    def test_policy(self):
        with tempfile.NamedTemporaryFile("w", prefix="redis", suffix=".conf") as conf:
            conf.write("maxmemory 1gb\n")
            conf.flush()
            os.chmod(conf.name, 0o644)
            done = self.culprit("policy", "check", conf.name)
        self.assertIn(conf.name, done.stdout)

    def test_mistakes(self):
        for arguments, code in ((["replay", "/nonexistent"], 3), (["why"], 2), (["frobnicate"], 2), (["templates", "/nonexistent"], 3)):
            done = self.culprit(*arguments)
            self.assertEqual(done.returncode, code, (arguments, done.stderr))
            self.assertTrue(done.stderr.strip())


if __name__ == "__main__":
    unittest.main(verbosity=2)
