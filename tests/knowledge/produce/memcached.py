#!/usr/bin/env python3
"""memcached's own words for its failure modes."""
from stage import Stage, ask, find, knock

with Stage("memcached", "memcached", user="nobody") as stage:
    port = stage.port()
    stage.start("small.log", "memcached", "-p", port, "-l", "127.0.0.1", "-m", "1", "-M", "-I", "512k", "-U", "0")
    stage.listens(port)
    answers = ""
    for i in range(200):
        answers = ask(port, f"set key{i} 0 0 100000\r\n{'x' * 100000}\r\n", until="\r\n")
        if "STORED" not in answers:
            break
    stage.line("oom-items", "log-oom", find(answers, "out of memory"))
    stage.line("large-item", "log-large", find(ask(port, f"set big 0 0 600000\r\n{'x' * 600000}\r\n", until="\r\n"), "too large"))
    port = stage.port()
    stage.start("full.log", "memcached", "-p", port, "-l", "127.0.0.1", "-c", "20", "-U", "0", "-v", "-t", "1", "-o", "no_maxconns_fast")
    stage.listens(port)
    held = knock(port, 40)
    stage.log_line("conn-limit", "log-open", "full.log", "Too many open connections")
    for peer in held:
        peer.close()
    raise SystemExit(1 if stage.failed else 0)
