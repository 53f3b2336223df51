#!/usr/bin/python3
"""The demo: a small real system breaks, and culprit says why. About a minute; needs root and a built culprit."""
import argparse
import json
import os
import pathlib
import shlex
import sys
import time

import faults
import score
import session

LEARN_S, ANSWER_S = 40, 20


class Story:
    """Short narrated lines, and a log file for each step."""

    def __init__(self, folder):
        self.folder, self.number, self.started = folder, 0, time.monotonic()
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("*.log"):
            old.unlink()

    def step(self, name, text):
        self.number += 1
        self.file = self.folder / f"{self.number}-{name}.log"
        print(f"\n[{time.monotonic() - self.started:4.0f} s] {text}", flush=True)
        self.note(text)

    def note(self, text):
        with open(self.file, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%H:%M:%S')} {text}\n")

    def show(self, text):
        for line in text.rstrip().splitlines():
            print(f"         {line}", flush=True)
        self.note(text.rstrip())


def numbers(lab, seconds):
    now = lab.numbers(time.time() - seconds, time.time())
    return f"users get p50 {now['p50_ms']:.0f} ms, p99 {now['p99_ms']:.0f} ms, {now['errors'] * 100:.0f} % errors" if now["seconds"] else "no requests yet"


def wait_for_answer(lab, story, fault):
    """Asks each second until the answer names a cause twice in a row, as a person would who reads it again."""
    begin, before = time.time(), None
    while time.time() - begin < ANSWER_S:
        time.sleep(1)
        try:
            answer = lab.culprit.why("shop", "1m")
        except RuntimeError as error:
            story.note(str(error))
            continue
        story.note(json.dumps(answer))
        first = (answer.get("candidates") or [{}])[0].get("failure_mode")
        if first and first == before:
            return score.rank_of(answer, fault.truth), time.time() - begin
        before = first
    return None, time.time() - begin


def tell(story, options):
    fault = faults.find([options.fault], None)[0]
    story.step("system", "Starting a small shop: nginx -> shop (Python) -> PostgreSQL and Redis, 60 requests a second, and culpritd.")
    with session.Loaded(options, with_culprit=True) as lab:
        story.show(f"everything lives in {lab.system.root}; culpritd watches cgroup /culprit-lab-{lab.system.host.id}/*")
        story.show("$ " + shlex.join(lab.culprit.client_command("status"))[:150])
        story.note(lab.culprit.text("status"))
        story.step("learn", f"culprit learns what is normal for {LEARN_S} seconds.")
        time.sleep(LEARN_S)
        story.show(numbers(lab, 10))
        story.note(lab.culprit.text())
        story.step("break", f"Breaking it ({fault.name}): {fault.truth['description']}")
        injected = time.time()
        fault.inject(lab.system.env)
        try:
            rank, seconds = wait_for_answer(lab, story, fault)
            story.show(numbers(lab, max(2, time.time() - injected - 2)))
            story.step("answer", f"Asking culprit, {seconds:.0f} s after the fault:")
            story.show("$ culprit why shop\n" + lab.culprit.text("why", "shop", "--since", "1m"))
            story.show("culprit is right." if rank == 1 else f"culprit is not right: the truth is {fault.truth['failure_mode']} of {fault.truth['service']}, at rank {rank or 'none'}.")
        finally:
            story.step("heal", "Healing it.")
            fault.heal(lab.system.env)
        time.sleep(6)
        story.show(numbers(lab, 4))
        for name in ("load.jsonl", "culpritd.log", "postgres.log", "nginx.log"):
            (story.folder / name).write_bytes((lab.system.logs / name).read_bytes())
        story.step("clean", "Stopping everything and cleaning up.")
    story.show(f"done; each step's log is in {story.folder}")
    return 0 if rank == 1 else 1


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", metavar="DIR", help="where culpritd and culprit are (default build/release/bin)")
    parser.add_argument("--fault", default="pg-lock", help="another fault of the lab (default pg-lock)")
    parser.add_argument("--logs", metavar="DIR", default=pathlib.Path(__file__).resolve().parents[2] / "build/logs/demo", type=pathlib.Path)
    options = parser.parse_args()
    options.rate, options.keep, options.verbose, options.culpritd, options.culprit = 60, False, False, None, None
    if os.geteuid():
        print("demo: needs root (cgroups, loop devices, kernel programs): sudo ./dev demo", file=sys.stderr)
        return 2
    return tell(Story(options.logs), options)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as failure:
        print(f"demo: {failure}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
