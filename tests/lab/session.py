"""One run of the lab: the system, its load, and culprit watching it."""
import shutil
import signal
import sys

import culprit
import load
import system


def say(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)


class Loaded:
    """The system with its load, and with culprit when asked; gives everything back on every way out."""

    def __init__(self, options, with_culprit=False):
        self.options, self.system, self.culprit = options, system.System(say if options.verbose else lambda text: None), None
        try:
            if with_culprit:
                self.culprit = culprit.Culprit(self.system, options.bin, options.culpritd, options.culprit)
        except RuntimeError:
            self.system.stop()
            raise

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))
        try:
            self.system.start()
            self.load_file = self.system.logs / "load.jsonl"
            self.system.start_tool("load", [system.PYTHON, system.HERE / "load.py", "--port", self.system.ports["nginx"],
                                            "--rate", self.options.rate, "--out", self.load_file],
                                   self.system.logs / "load.log")
            if self.culprit:
                self.culprit.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # nothing interrupts the clean-up
        if self.culprit:
            self.culprit.stop()
        if self.options.keep:
            say(f"logs kept in {keep_logs(self.system)}")
        self.system.stop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def numbers(self, begin, end):
        return load.summary(self.load_file, begin, end)


def keep_logs(running):
    target = f"/tmp/culprit-lab-logs-{running.host.id}"
    shutil.copytree(running.logs, target, dirs_exist_ok=True)
    if (running.shop_logs / "shop.log").exists():
        shutil.copy(running.shop_logs / "shop.log", target)
    return target
