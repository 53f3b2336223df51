#!/usr/bin/env python3
"""HAProxy's own words for its failure modes."""
import contextlib
import http.server
import re
import threading
import time

from stage import Stage, ask


class Sick(http.server.BaseHTTPRequestHandler):
    """Its health check says 503; what else it is asked takes two seconds."""
    protocol_version = "HTTP/1.0"

    def do_GET(self):
        if self.path != "/health":
            time.sleep(2)
        with contextlib.suppress(OSError):  # the balancer may have hung up
            self.send_error(503)

    do_OPTIONS = do_GET

    def log_message(self, *_):
        pass


with Stage("haproxy", "haproxy") as stage:
    def log_line(mode, symptom, pattern):
        line = stage.wait("haproxy.log", pattern)
        # "127.0.0.1:41234 [26/Nov/2026:10:00:00.000] fe app/web1 …": who asked and when say nothing about the failure.
        stage.line(mode, symptom, re.sub(r"^(<\d+>)?(\S+ \[[^\]]+\] |\[\w+\] +\([\d]+\) : )?", "", line) if line else line)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sick)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sick, closed = server.server_port, stage.port()
    ports = {name: stage.port() for name in ("down", "check", "slow", "queue")}
    fronts = "".join(f"frontend {name}\n  bind 127.0.0.1:{port}\n  default_backend {name}\n" for name, port in ports.items())
    stage.write("haproxy.cfg", f"""global
  log stdout format raw local0
  maxconn 100
defaults
  mode http
  log global
  option httplog
  timeout connect 500ms
  timeout client 5s
  timeout server 1s
  timeout queue 300ms
{fronts}
backend down
  server web1 127.0.0.1:{closed} check inter 200ms fall 1
backend check
  option httpchk GET /health
  server web1 127.0.0.1:{sick} check inter 200ms fall 1
backend slow
  server web1 127.0.0.1:{sick}
backend queue
  server web1 127.0.0.1:{sick} maxconn 1
""")
    stage.start("haproxy.log", "haproxy", "-db", "-f", stage.folder / "haproxy.cfg")
    stage.listens(ports["slow"])
    time.sleep(1)

    def get(port):
        return ask(port, "GET /cart HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n", seconds=4)

    get(ports["down"])
    log_line("backend-down", "log-none", "has no server available")
    log_line("backend-down", "log-down", "down/web1 is DOWN")
    log_line("backend-down", "log-nosrv", "down/<NOSRV>")
    log_line("layer7-check", "log-l7", "Layer7")
    log_line("layer7-check", "health-down", "check/web1 is DOWN.*Layer7")
    get(ports["slow"])
    log_line("server-timeout", "log-sh", "sH--")
    first = threading.Thread(target=get, args=(ports["queue"],))
    first.start()
    time.sleep(0.2)
    get(ports["queue"])
    first.join()
    log_line("queue-timeout", "log-queue", "sQ--")
    server.shutdown()
    raise SystemExit(1 if stage.failed else 0)
