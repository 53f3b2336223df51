"""Two faults of the lab, from injection to the named cause. `./dev lab` runs all of them."""
import json
import pathlib
import subprocess
import sys
import unittest

import daemon

LAB = pathlib.Path(__file__).resolve().parents[1] / "lab/lab.py"


class Lab(unittest.TestCase):
    # A held lock is told by the database's log and the waiting requests, a killed cache by the kernel alone.
    def test_truth_is_first(self):
        done = subprocess.run([sys.executable, str(LAB), "pg-lock", "redis-killed", "--json", "--bin", str(daemon.BIN)], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=600)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        faults = {row["fault"]: row for row in rows if "fault" in row}
        self.assertEqual(set(faults), {"pg-lock", "redis-killed"}, done.stdout + done.stderr)
        for name, row in faults.items():
            self.assertEqual(row["rank"], 1, row)
            self.assertEqual(row["false_incidents"], 0, row)
            self.assertTrue(row["rules"], row)  # the catalogue knows both,
            self.assertTrue(row["rules_fired"], row)  # and the answer names the rule that fired
            print(f"{name}: first after {row['seconds_to_first']} s: {row['answer']}", file=sys.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
