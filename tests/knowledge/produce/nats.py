#!/usr/bin/env python3
"""NATS' own words for its failure modes, over its text protocol."""
import contextlib
import json
import re
import socket

from stage import Stage, ask, find

HELLO = 'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'


def request(port, subject, payload="", seconds=2):
    return ask(port, f"{HELLO}SUB inbox 1\r\nPUB {subject} inbox {len(payload)}\r\n{payload}\r\n", seconds=seconds, until="MSG inbox")


with Stage("nats", "nats-server", user="nobody") as stage:
    port = stage.port()
    stage.make("js")
    stage.write("nats.conf", f"""listen: "127.0.0.1:{port}"
logtime: false
max_pending: 4000000
write_deadline: "1s"
jetstream {{ store_dir: "{stage.folder}/js", max_file_store: 100000, max_memory_store: 100000 }}
""")
    stage.start("nats.log", "nats-server", "-c", stage.folder / "nats.conf")
    stage.listens(port)

    def log_line(mode, symptom, pattern):
        line = stage.wait("nats.log", pattern)
        stage.line(mode, symptom, re.sub(r"^\[\d+\] \[\w+\] ", "", line) if line else line)

    # A subscriber that does not read while more is published for it than the server keeps.
    idle = socket.create_connection(("127.0.0.1", port), 5)
    idle.sendall((HELLO + "SUB flood 1\r\n").encode())
    with contextlib.suppress(OSError):
        ask(port, HELLO + "".join(f"PUB flood {1 << 18}\r\n{'x' * (1 << 18)}\r\n" for _ in range(64)), seconds=5)
    log_line("slow-consumer", "log-slow", "Slow Consumer Detected")
    idle.close()
    answer = request(port, "nobody.there")
    stage.line("no-responders", "log-status", find(answer, "NATS/1.0 503"))
    stream = json.dumps({"name": "ORDERS", "subjects": ["orders"], "storage": "file", "retention": "limits"})
    request(port, "$JS.API.STREAM.CREATE.ORDERS", stream)
    answer = ""
    for _ in range(40):
        answer = request(port, "orders", "x" * 10000)
        if "error" in answer:
            break
    stage.line("js-storage", "log-publish", find(answer, "error"))
    log_line("js-storage", "log-resource", "resource limits exceeded")
    stream = json.dumps({"name": "MORE", "subjects": ["more"], "storage": "file", "retention": "limits", "max_bytes": 10_000_000})
    stage.line("js-storage", "log-storage", find(request(port, "$JS.API.STREAM.CREATE.MORE", stream), "error"))
    raise SystemExit(1 if stage.failed else 0)
