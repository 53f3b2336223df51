#!/usr/bin/python3
"""What culprit costs: nginx with and without it, paired and interleaved in one run, so that a noisy machine hits both.

Each pair of rounds runs the same load with culpritd off and on, the order turned around every time. Twice: with nothing
watched (host-wide counting only), and with nginx's and the shop's payload and logs read. Load is a closed loop (wrk) that
takes what it can get: daemon, nginx and wrk share the CPUs, which is the worst case. `cpu` is nginx's own CPU time for a
request: what the kernel probes cost it, also where other work on the machine disturbs throughput.
"""
import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time

import culprit
import system
from session import say

LOSS_MAX, QUIET_CORES_MAX, RSS_MB_MAX = 0.03, 0.01, 150  # docs/architecture.md, budgets
UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3}


def wrk(url, connections, seconds):
    """Requests per second and p99 in ms. A failed request fails the round: it would be a fast wrong answer."""
    out = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise RuntimeError(f"wrk {url}: {out}")
    p99, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", out).groups()
    return {"throughput": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]), "p99": float(p99) * UNITS[unit],
            "requests": int(re.search(r"(\d+) requests in", out)[1])}


class Bench:
    def __init__(self, options, running):
        self.options, self.running = options, running
        nginx = f"http://127.0.0.1:{running.ports['nginx']}"
        self.loads = {"static": (f"{nginx}/static/small.txt", 16, "1 KiB file, 16 connections"),
                      "proxy": (f"{nginx}/healthz", 8, "proxied to the shop, 8 connections")}
        self.costs = []

    def load(self, load):
        url, connections, _ = self.loads[load]
        used = self.running.host.cpu_seconds("nginx")
        result = wrk(url, connections, self.options.seconds)
        return result | {"cpu": (self.running.host.cpu_seconds("nginx") - used) * 1e6 / result["requests"]}

    def round(self, load, daemon):
        if not daemon:
            return self.load(load)
        daemon.start()
        try:
            time.sleep(2)  # its start is not its steady cost
            cpu, begin = daemon.usage()[0], time.monotonic()
            result = self.load(load)
            cpu_end, rss = daemon.usage()
            self.costs.append(((cpu_end - cpu) / (time.monotonic() - begin), rss / 2**20))
            return result
        finally:
            daemon.stop()

    def pairs(self, load, daemon):
        with_, without = [], []
        for number in range(self.options.rounds):
            for on in ((False, True) if number % 2 == 0 else (True, False)):
                (with_ if on else without).append(self.round(load, daemon if on else None))
        return with_, without

    def report(self, load, watched, with_, without):
        what = f"nginx, 1 worker, {self.loads[load][2]}, {'payload and logs read' if watched else 'nothing watched'}, {self.options.rounds} pairs"
        for measure, unit in (("throughput", "req/s"), ("cpu", "us/request"), ("p99", "ms")):
            ours, other = ([result[measure] for result in results] for results in (with_, without))
            ratio = statistics.median(a / b for a, b in zip(ours, other))
            line = {"id": f"overhead.{load}.{'watched' if watched else 'unwatched'}.{measure}", "workload": what,
                    "ours": round(statistics.median(ours), 3), "opponent": round(statistics.median(other), 3), "ratio": round(ratio, 4), "unit": unit}
            line["noise"] = round((max(other) - min(other)) / statistics.median(other), 3)  # spread of the rounds without
            if measure == "throughput":
                line |= {"asked": f"ratio >= {1 - LOSS_MAX}", "ok": ratio >= 1 - LOSS_MAX}
            elif measure == "cpu":
                line |= {"asked": f"ratio <= {1 + LOSS_MAX}", "ok": ratio <= 1 + LOSS_MAX}
            else:  # inside the noise: not above the worst round without culprit
                line |= {"asked": f"median <= {max(other):.3f} ms, the slowest round without", "ok": statistics.median(ours) <= max(other)}
            self.print(line)

    def cost(self, name, workload, cores, rss, asked=None):
        self.print({"id": f"overhead.{name}.cpu", "workload": workload, "ours": round(cores, 4), "opponent": None, "ratio": None, "unit": "cores",
                    "asked": f"< {asked} cores" if asked else None, "ok": cores < asked if asked else None})
        self.print({"id": f"overhead.{name}.memory", "workload": workload, "ours": round(rss, 1), "opponent": None, "ratio": None, "unit": "MB",
                    "asked": f"< {RSS_MB_MAX} MB", "ok": rss < RSS_MB_MAX})

    def print(self, line):
        if self.options.json:
            print(json.dumps(line), flush=True)
        else:
            against = f"{line['ours']} against {line['opponent']} {line['unit']} (ratio {line['ratio']})" if line["opponent"] else f"{line['ours']} {line['unit']}"
            verdict = {True: "ok", False: "MISSED", None: "-"}[line["ok"]]
            print(f"{line['id']:40} {verdict:6} {against}{' noise ' + str(line['noise']) if 'noise' in line else ''}; asked: {line['asked'] or 'nothing'}", flush=True)

    def quiet(self, daemon, seconds):
        daemon.start()
        try:
            time.sleep(5)
            cpu, begin = daemon.usage()[0], time.monotonic()
            time.sleep(seconds)
            cpu_end, rss = daemon.usage()
            self.cost("quiet", "no requests; services idle", (cpu_end - cpu) / (time.monotonic() - begin), rss / 2**20, QUIET_CORES_MAX)
        finally:
            daemon.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", metavar="DIR", help="where culpritd and culprit are (default build/release/bin)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--rounds", type=int, default=8, help="pairs of rounds for each load (default 8)")
    parser.add_argument("--seconds", type=int, default=4, help="length of a round (default 4)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of culpritd, to see what it costs (repeatable)")
    parser.add_argument("--only", choices=("watched", "unwatched"), help="one of the two halves")
    options = parser.parse_args()
    if os.geteuid():
        say("needs root")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    running = system.System()
    try:
        daemons = {watched: culprit.Culprit(running, options.bin, watch=watched, settings=options.set) for watched in (False, True)}
        running.start()
        bench = Bench(options, running)
        bench.quiet(daemons[False], 5 * options.seconds)
        for watched in [half for half in (False, True) if options.only != ("unwatched", "watched")[not half]]:
            bench.costs = []
            for load in bench.loads:
                bench.report(load, watched, *bench.pairs(load, daemons[watched]))
            name = "watched" if watched else "unwatched"
            bench.cost(name, f"under these loads, {name}", max(cores for cores, _ in bench.costs), max(rss for _, rss in bench.costs))
    finally:
        running.stop()
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as failure:
        say(str(failure))
        sys.exit(1)
