#!/usr/bin/python3
"""Steady open-loop load on the shop, and the ground truth of the symptom: one JSON line a second with what users got.

Open loop: requests are due at fixed times whatever the answers do, and latency counts from the due time, so a stall is
seen as it is. In flight are at most LIMIT requests; those due beyond it are counted as errors and not sent.
"""
import argparse
import asyncio
import json
import random
import time

LIMIT, TIMEOUT_S, NOTE = 64, 8.0, "n" * 1200


def pick(chance):
    """The mix of requests: half items, 30 % carts, 20 % orders."""
    kind, customer = chance.random(), f"u{chance.randrange(200)}"
    if kind < 0.5:
        return "GET", f"/items/{chance.randrange(1, 1001)}", b""
    if kind < 0.8:
        return "GET", f"/cart/{customer}", b""
    order = {"item": chance.randrange(1, 1001), "customer": customer, "note": NOTE}
    return "POST", "/orders", json.dumps(order).encode()


class Load:
    def __init__(self, port, rate, out):
        self.port, self.rate, self.out = port, rate, out
        self.idle, self.flying = [], 0
        self.second = {"sent": 0, "errors": 0, "unsent": 0, "status": {}}
        self.took = []

    async def exchange(self, method, path, body):
        """One request on a kept connection; returns the status."""
        connection = self.idle.pop() if self.idle else await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = connection
        kept = False
        try:
            writer.write(f"{method} {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head.split("\r\n")[1:])}
            await reader.readexactly(int(fields.get("content-length", 0)))
            kept = fields.get("connection", "keep-alive").lower() != "close"
            return int(head.split()[1])
        finally:
            if kept:
                self.idle.append(connection)
            else:
                writer.close()

    async def request(self, due, chance):
        self.flying += 1
        try:
            status = await asyncio.wait_for(self.exchange(*pick(chance)), TIMEOUT_S)
        except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
            status = type(error).__name__
        finally:
            self.flying -= 1
        self.took.append(time.monotonic() - due)
        self.second["errors"] += not (isinstance(status, int) and status < 500)
        self.second["status"][str(status)] = self.second["status"].get(str(status), 0) + 1

    def report(self):
        took, second = sorted(self.took), self.second
        self.took, self.second = [], {"sent": 0, "errors": 0, "unsent": 0, "status": {}}
        at = lambda share: round(took[min(len(took) - 1, int(len(took) * share))], 4) if took else None
        second |= {"time": round(time.time(), 3), "answered": len(took), "p50": at(0.5), "p99": at(0.99),
                   "max": at(1.0), "inflight": self.flying}
        self.out.write(json.dumps(second) + "\n")
        self.out.flush()

    async def run(self):
        chance, tasks = random.Random(7), set()
        due = time.monotonic()
        next_report = due + 1
        while True:
            due += 1 / self.rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            while time.monotonic() >= next_report:
                self.report()
                next_report += 1
            if self.flying >= LIMIT:
                self.second["unsent"] += 1
                self.second["errors"] += 1
                continue
            self.second["sent"] += 1
            task = asyncio.create_task(self.request(due, chance))
            tasks.add(task)
            task.add_done_callback(tasks.discard)


def summary(file, begin, end):
    """What users got between two wall-clock times: rate, share of errors, and latency over the seconds."""
    seconds = []
    for line in open(file, encoding="ascii"):
        if line.endswith("\n"):
            second = json.loads(line)
            if begin < second["time"] <= end:
                seconds.append(second)
    if not seconds:
        return {"seconds": 0}
    asked = sum(s["answered"] + s["unsent"] for s in seconds)
    median = lambda key: sorted(s[key] if s[key] is not None else 99 for s in seconds)[len(seconds) // 2]
    return {"seconds": len(seconds), "rate": round(sum(s["answered"] for s in seconds) / len(seconds), 1),
            "errors": round(sum(s["errors"] for s in seconds) / max(asked, 1), 4),
            "p50_ms": round(median("p50") * 1000, 1), "p99_ms": round(median("p99") * 1000, 1),
            "max_ms": round(max(s["max"] or 0 for s in seconds) * 1000, 1),
            # Seconds in which users really waited: tells a false incident from a machine that others disturb.
            "slow_seconds": sum((s["p99"] or 99) > 0.1 for s in seconds)}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--rate", type=float, default=60, help="requests per second (default 60)")
    options.add_argument("--out", required=True, help="file for one JSON line a second")
    chosen = options.parse_args()
    with open(chosen.out, "a", encoding="ascii") as file:
        try:
            asyncio.run(Load(chosen.port, chosen.rate, file).run())
        except KeyboardInterrupt:
            pass
