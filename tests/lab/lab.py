#!/usr/bin/python3
"""The lab: a real system, steady load, one fault at a time, and the question whether culprit names it.

  lab.py [FAULT...]              inject each fault (default: all), ask culprit, score (needs root and a built culprit)
  lab.py --no-culprit [FAULT...] only the load generator's numbers before, during and after each fault
  lab.py --healthy SECONDS       no fault: which incidents does culprit open?
  lab.py --system-only           the system under load until Ctrl-C, with its addresses printed
  lab.py --clean                 remove what crashed runs left behind
"""
import argparse
import json
import os
import shlex
import sys
import time

import faults
import host
import scored
from session import Loaded, say


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
    """What a user would notice: errors, or a latency several times the normal one and above a tenth of a second."""
    return now["errors"] > normal["errors"] + 0.03 or now["p99_ms"] > max(100, 3 * normal["p99_ms"])


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
    parser.add_argument("--bin", metavar="DIR", help="where culpritd and culprit are (default build/release/bin)")
    parser.add_argument("--culpritd", metavar="PATH", help="this daemon instead of the one in --bin")
    parser.add_argument("--culprit", metavar="PATH", help="this client instead of the one in --bin")
    parser.add_argument("--learn", type=float, default=45, help="seconds of healthy load before the first fault (default 45)")
    parser.add_argument("--within", type=float, default=15, help="the rank that counts is the one so many seconds after injection (default 15)")
    parser.add_argument("--since", default="1m", help="window of `culprit why` (default 1m)")
    parser.add_argument("--gap", type=float, default=60, help="seconds between a heal and the next fault, at least (default 60)")
    parser.add_argument("--healthy", type=float, metavar="SECONDS", help="no fault: report the incidents opened in this time")
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
    if options.healthy:
        return scored.healthy(options)
    chosen = faults.find(options.fault, options.faults)
    return hurt_only(options, chosen) if options.no_culprit else scored.run(options, chosen)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as failure:
        say(str(failure))
        sys.exit(1)
