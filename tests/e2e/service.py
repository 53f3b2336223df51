"""A small HTTP service with steady load, in a control group of its own: something for a test to watch and to break."""
import http.client
import http.server
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import daemon

CGROUP_ROOTS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")


def cgroup_root():
    for root in CGROUP_ROOTS:
        if (pathlib.Path(root) / "cgroup.procs").exists():
            return pathlib.Path(root)
    raise AssertionError("no cgroup v2 hierarchy is mounted")


class Service:
    """`name` is the service's; its cgroup is /culprit-e2e-<pid>/<name>."""

    def __init__(self, name):
        self.name, self.port = name, daemon.free_port()
        self.parent = cgroup_root() / f"culprit-e2e-{os.getpid()}"
        self.cgroup = self.parent / name
        self.path = f"/{self.parent.name}/{name}"
        self.process, self.loading = None, False

    def __enter__(self):
        self.cgroup.mkdir(parents=True)
        self.start()
        return self

    def start(self):
        self.process = subprocess.Popen([sys.executable, __file__, str(self.port), str(self.cgroup)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        daemon.wait_for("the service answers", self.ask)

    def ask(self, path="/"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def load(self, rate=40):
        self.loading = True

        def run():
            while self.loading:
                self.ask("/items/7")
                time.sleep(1 / rate)
        self.threads = [threading.Thread(target=run, daemon=True) for _ in range(2)]
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.loading = False
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
        for folder in (self.cgroup, self.parent):
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except OSError:
                    time.sleep(0.1)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b"ok\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    (pathlib.Path(sys.argv[2]) / "cgroup.procs").write_text(str(os.getpid()))
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
