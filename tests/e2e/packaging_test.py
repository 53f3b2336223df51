"""What `cmake --install` lays out, and the systemd unit."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import daemon

BUILD = pathlib.Path(os.environ.get("CULPRIT_BUILD", daemon.BIN.parent))
EXPOSURE_MAX = 3.0


class Packaging(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = pathlib.Path(cls.folder.name)
        subprocess.run(["cmake", "--install", str(BUILD)], env=dict(os.environ, DESTDIR=str(cls.root)), check=True, capture_output=True)
        cls.unit = cls.root / "usr/lib/systemd/system/culprit.service"

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_everything_is_there(self):
        for name in ("usr/sbin/culpritd", "usr/libexec/culprit/culprit-sensor", "usr/bin/culprit", "etc/culprit/culprit.yaml", "usr/lib/sysusers.d/culprit.conf",
                     "usr/lib/tmpfiles.d/culprit.conf", "usr/share/doc/culprit/LICENSE"):
            self.assertTrue((self.root / name).exists(), name)

    def test_example_configuration_is_valid(self):
        done = subprocess.run([self.root / "usr/sbin/culpritd", "--config", self.root / "etc/culprit/culprit.yaml", "--check"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_unit_is_clean(self):
        text = self.unit.read_text().replace("/usr/sbin/culpritd", str(self.root / "usr/sbin/culpritd"))
        copy = self.root / "culprit.service"
        copy.write_text(text)
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True)
        about_ours = [line for line in done.stderr.splitlines() if "culprit" in line]
        self.assertEqual((done.returncode, about_ours), (0, []), done.stderr)

    def test_unit_is_confined(self):
        done = subprocess.run(["systemd-analyze", "security", "--offline=true", str(self.unit)], capture_output=True, text=True)
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
        self.assertIsNotNone(found, done.stdout + done.stderr)
        self.assertLessEqual(float(found.group(1)), EXPOSURE_MAX)


if __name__ == "__main__":
    unittest.main(verbosity=2)
