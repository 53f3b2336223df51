#!/usr/bin/env python3
"""Prometheus' own words for its failure modes."""
import http.server
import re
import threading
import time

from stage import Stage


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write("".join(f'shop_requests{{user="{i}"}} 1\n' for i in range(100)).encode())

    def log_message(self, *_):
        pass


with Stage("prometheus", "prometheus") as stage:
    target = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metrics)
    threading.Thread(target=target.serve_forever, daemon=True).start()

    def job(name, port, more=""):
        return f"  - job_name: {name}\n    scrape_interval: 1s\n    scrape_timeout: 1s\n    {more}\n    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"

    stage.write("prometheus.yml", "scrape_configs:\n" + job("many", target.server_port, "sample_limit: 10") + job("labels", target.server_port, "label_limit: 1") + job("gone", stage.port()))

    def start():
        port = stage.port()
        process = stage.start("prometheus.log", "prometheus", f"--config.file={stage.folder}/prometheus.yml", f"--storage.tsdb.path={stage.folder}/data", f"--web.listen-address=127.0.0.1:{port}",
                              "--log.level=debug")
        stage.listens(port)
        return process

    def log_line(mode, symptom, pattern):
        line = stage.wait("prometheus.log", pattern)
        stage.line(mode, symptom, re.sub(r"^ts=\S+ ", "", line) if line else line)

    process = start()
    log_line("oom-cardinality", "log-sample", "sample limit exceeded|sample_limit")
    log_line("oom-cardinality", "log-label", "label_limit")
    log_line("target-down", "log-scrape", "Scrape failed.*refused")
    time.sleep(3)
    stage.end(process)
    for segment in (stage.folder / "data" / "wal").glob("0*"):
        raw = bytearray(segment.read_bytes())
        if len(raw) > 200:
            raw[60:160] = b"\xff" * 100
            segment.write_bytes(raw)
    process = start()
    log_line("wal-corruption", "log-wal", "WAL read error")
    target.shutdown()
    raise SystemExit(1 if stage.failed else 0)
