#!/usr/bin/env python3
"""nginx's own words for its failure modes."""
import re
import socket
import struct
import threading
import time

from stage import Stage, ask, knock

stop = threading.Event()


def backend(stage, answer):
    """A backend that reads a request and then does as `answer(peer)` says."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.2)

    def serve():
        while not stop.is_set():
            try:
                peer, _ = listener.accept()
            except TimeoutError:
                continue
            peer.settimeout(5)
            peer.recv(65536)
            answer(peer)
            peer.close()
        listener.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


def reset(peer):
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def certificates(stage):
    for name in ("untrusted", "trusted"):
        stage.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.crt", "-subj", f"/CN={name}", seconds=60)


with Stage("nginx", "nginx") as stage:
    def error(mode, symptom, pattern, log="error.log"):
        line = stage.wait(log, pattern)
        # "2026/11/26 10:00:00 [error] 812#812: *7 text, client: …": when and for whom say nothing about the failure.
        stage.line(mode, symptom, re.sub(r"^[\d/]+ [\d:]+ (\[\w+\]) \d+#\d+: (\*\d+ )?", "", line).split(", client: ")[0] if line else line)

    certificates(stage)
    port, tls, closed = stage.port(), stage.port(), stage.port()
    slow = backend(stage, lambda peer: time.sleep(2))
    early = backend(stage, lambda peer: None)
    resets = backend(stage, reset)
    nonsense = backend(stage, lambda peer: peer.sendall(b"HTTP/1.1 200 OK\r\nno header at all\r\n\r\n"))
    routes = {"refused": f"http://127.0.0.1:{closed}", "slow": f"http://127.0.0.1:{slow}", "early": f"http://127.0.0.1:{early}", "resets": f"http://127.0.0.1:{resets}",
              "nonsense": f"http://127.0.0.1:{nonsense}", "socket": "http://unix:/srv/none.sock", "dead": "http://dead", "plain": f"https://127.0.0.1:{nonsense}",
              "untrusted": f"https://127.0.0.1:{tls}", "closes": f"https://127.0.0.1:{early}"}
    locations = "".join(f"location /{name} {{ proxy_pass {url}; }}\n" for name, url in routes.items())
    stage.make("temp")
    common = f"daemon off; master_process on; worker_processes 1; pid {stage.folder}/%s.pid; error_log {stage.folder}/%s.log warn;"
    paths = "".join(f"{kind}_temp_path {stage.folder}/temp;" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    stage.write("nginx.conf", f"""{common % ("main", "error")}
events {{ worker_connections 64; }}
http {{ access_log off; {paths} proxy_read_timeout 500ms; proxy_next_upstream off; proxy_ssl_verify on; proxy_ssl_trusted_certificate {stage.folder}/trusted.crt;
  upstream dead {{ server 127.0.0.1:{closed} fail_timeout=60s; server 127.0.0.2:{closed} fail_timeout=60s; }}
  server {{ listen 127.0.0.1:{port}; server_name shop; client_max_body_size 1k; {locations} }}
  server {{ listen 127.0.0.1:{tls} ssl; ssl_certificate {stage.folder}/untrusted.crt; ssl_certificate_key {stage.folder}/untrusted.key; }} }}
""")
    stage.folder.chmod(0o755)
    stage.start("nginx.out", "nginx", "-c", stage.folder / "nginx.conf", "-e", stage.folder / "early.log")
    stage.listens(port)
    for name in [*routes, "dead", "dead"]:
        ask(port, f"GET /{name} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n", seconds=4)
    ask(port, "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 10485761\r\n\r\n", seconds=1)
    error("upstream-timeout", "log-110", "upstream timed out")
    error("upstream-refused", "log-111", r"connect\(\) failed \(111")
    error("upstream-refused", "log-socket", r"connect\(\) to unix:")
    error("no-live-upstreams", "log-none", "no live upstreams")
    error("body-too-large", "log-body", "too large body")
    error("upstream-reset", "log-early", "upstream prematurely closed")
    error("upstream-reset", "log-104", r"failed \(104")
    error("upstream-reset", "log-sent", "upstream sent invalid header")
    error("ssl-handshake", "log-handshake", r"SSL_do_handshake\(\) failed")
    error("ssl-handshake", "log-peer", "peer closed connection in SSL handshake")
    error("ssl-handshake", "log-verify", "upstream SSL certificate")

    for name, limits in (("few", ()), ("files", ("--nofile=24:24",))):
        settings = f"events {{ worker_connections {64 if limits else 6}; }}"
        port = stage.port()
        stage.write(f"{name}.conf", f"{common % (name, name)} {settings} http {{ access_log off; {paths} server {{ listen 127.0.0.1:{port}; }} }}")
        stage.start(f"{name}.out", "nginx", "-c", stage.folder / f"{name}.conf", "-e", stage.folder / f"{name}.log", limits=limits)
        stage.listens(port)
        held = knock(port, 30)
        time.sleep(0.5)
        for peer in held:
            peer.close()
    error("worker-connections", "log-enough", "worker_connections are not enough", "few.log")
    error("too-many-files", "log-accept", "failed .24", "files.log")
    error("too-many-files", "log-rlimit", "exceed open file resource limit", "files.log")
    stop.set()
    raise SystemExit(1 if stage.failed else 0)
