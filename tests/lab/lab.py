#!/usr/bin/python3
"""The lab: a real system, steady load, one fault at a time, and the question whether culprit names it.

  lab.py [FAULT...]              inject each fault (default: all), ask culprit, score (needs root and a built culprit)
  lab.py --no-culprit [FAULT...] only the load generator's numbers before, during and after each fault
  lab.py --system-only           the system under load until Ctrl-C, with its addresses printed
  lab.py --clean                 remove what crashed runs left behind
"""
import argparse
import json
import os
import shlex
import signal
import sys
import time

import faults
import host
import load
import system


def say(text):
    print(f"lab: {text}", file=sys.stderr, flush=True)


class Loaded:
    """The system with its load; a context manager that gives everything back on every way out."""

    def __init__(self, options):
        self.options, self.system = options, system.System(say if options.verbose else lambda text: None)

    def __enter__(self):
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda *_: sys.exit(143))
        try:
            self.system.start()
            self.load_file = self.system.logs / "load.jsonl"
            self.system.start_tool("load", [system.PYTHON, system.HERE / "load.py", "--port", self.system.ports["nginx"],
                                            "--rate", self.options.rate, "--out", self.load_file],
                                   self.system.logs / "load.log")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # nothing interrupts the clean-up
        if self.options.keep:
            say(f"logs kept in {keep_logs(self.system)}")
        self.system.stop()
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def numbers(self, begin, end):
        return load.summary(self.load_file, begin, end)


def keep_logs(running):
    import shutil
    target = f"/tmp/culprit-lab-logs-{running.host.id}"
    shutil.copytree(running.logs, target, dirs_exist_ok=True)
    if (running.shop_logs / "shop.log").exists():
        shutil.copy(running.shop_logs / "shop.log", target)
    return target


def hurt_only(options, chosen):
    """--no-culprit: how much each fault hurts, by the load generator's own numbers."""
    results = []
    with Loaded(options) as lab:
        for fault in chosen * options.repeat:
            time.sleep(options.settle)
            begin = time.time()
            fault.inject(lab.system.env)
            time.sleep(options.during)
            end = time.time()
            fault.heal(lab.system.env)
            healed = time.time()
            time.sleep(options.settle)
            result = {"fault": fault.name, "before": lab.numbers(begin - options.settle + 2, begin),
                      "during": lab.numbers(begin + 3, end), "after": lab.numbers(healed + options.settle / 2, time.time())}
            result["hurts"] = hurts(result["before"], result["during"])
            result["healed"] = not hurts(result["before"], result["after"])
            results.append(result)
            if options.json:
                print(json.dumps(result), flush=True)
            else:
                show = lambda n: f"errors {n['errors'] * 100:5.1f} %  p50 {n['p50_ms']:7.1f} ms  p99 {n['p99_ms']:7.1f} ms"
                print(f"{fault.name:20} {'hurts' if result['hurts'] else 'NO HARM'}, {'healed' if result['healed'] else 'NOT HEALED'}")
                for phase in ("before", "during", "after"):
                    print(f"    {phase:7} {show(result[phase])}", flush=True)
    return 0 if all(result["hurts"] and result["healed"] for result in results) else 1


def hurts(normal, now):
    """What a user would notice: errors, or a latency several times the normal one."""
    return now["errors"] > normal["errors"] + 0.03 or now["p99_ms"] > max(100, 4 * normal["p99_ms"])


def system_only(options):
    with Loaded(options) as lab:
        for name, value in sorted(lab.system.env.items()):
            if name != "PATH":
                print(f"{name}={shlex.quote(value)}")
        print(f"LAB_LOAD={lab.load_file}", flush=True)
        say(f"the system runs; watch it with `--watch 'cgroup:/culprit-lab-{lab.system.host.id}/*'`; Ctrl-C ends it")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            return 0


def parse(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fault", nargs="*")
    parser.add_argument("--faults", metavar="DIR", help="also take faults from this folder")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="one JSON object a line on stdout")
    parser.add_argument("--rate", type=float, default=60, help="requests per second (default 60)")
    parser.add_argument("--keep", action="store_true", help="keep the logs of the run")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("--no-culprit", action="store_true")
    parser.add_argument("--settle", type=float, default=15, help="--no-culprit: seconds before and after (default 15)")
    parser.add_argument("--during", type=float, default=15, help="--no-culprit: seconds of fault (default 15)")
    parser.add_argument("--system-only", action="store_true")
    parser.add_argument("--clean", action="store_true")
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    if os.geteuid():
        say("needs root: cgroups, loop devices and other users are part of the lab; run it with sudo")
        return 2
    if options.clean:
        runs, problems = host.clean()
        say(f"cleaned {runs} crashed run(s)" if runs else "nothing to clean")
        for problem in problems:
            say(problem)
        return 1 if problems else 0
    if host.RECORDS.is_dir() and host.leftovers():
        say("crashed runs left things behind; `lab.py --clean` removes them")
    if options.system_only:
        options.verbose = True
        return system_only(options)
    chosen = faults.find(options.fault, options.faults)
    return hurt_only(options, chosen)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as failure:
        say(str(failure))
        sys.exit(1)
