"""Faults: folders with `inject`, `heal` and `truth.json`, in this tree or given with --faults (see README.md)."""
import json
import os
import pathlib
import subprocess

HERE = pathlib.Path(__file__).resolve().parent / "faults"
KEYS = {"service", "process", "failure_mode", "accept", "trigger", "symptom_service", "description"}
ACCEPT_KEYS = {"services", "processes", "failure_modes"}


class Fault:
    def __init__(self, folder):
        self.folder, self.name = folder, folder.name
        try:
            self.truth = json.loads((folder / "truth.json").read_text())
        except (OSError, ValueError) as error:
            raise SystemExit(f"lab: fault '{self.name}': {folder / 'truth.json'}: {error}") from None
        accept = self.truth.get("accept", [])
        self.truth["accept"] = accept if isinstance(accept, list) else [accept]
        missing = sorted(KEYS - set(self.truth)) + [key for one in self.truth["accept"] for key in sorted(ACCEPT_KEYS - set(one))]
        if missing:
            raise SystemExit(f"lab: fault '{self.name}': truth.json lacks {', '.join(missing)}")
        for step in ("inject", "heal"):
            if not os.access(folder / step, os.X_OK):
                raise SystemExit(f"lab: fault '{self.name}': '{step}' is missing or not executable")

    def _run(self, step, env):
        done = subprocess.run([str(self.folder / step)], env=dict(os.environ, **env), cwd=env["LAB_ROOT"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"fault '{self.name}': {step} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")

    def inject(self, env):
        self._run("inject", env)

    def heal(self, env):
        self._run("heal", env)


def find(names, extra=None):
    """The named faults, or all, in the order of their names; a folder given with --faults wins over ours."""
    folders = {}
    for base in [HERE] + ([pathlib.Path(extra)] if extra else []):
        if not base.is_dir():
            raise SystemExit(f"lab: '{base}' is no folder")
        folders |= {folder.name: folder for folder in sorted(base.iterdir()) if (folder / "truth.json").exists()}
    for name in names:
        if name not in folders:
            raise SystemExit(f"lab: unknown fault '{name}'; known: {', '.join(folders)}")
    return [Fault(folders[name]) for name in (names or folders)]
