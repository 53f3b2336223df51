#!/usr/bin/env python3
"""What Node.js prints for its failure modes."""
import socket
import struct
import threading

from stage import Stage

PROGRAMS = {
    "heap": "const kept = []; for (;;) kept.push(new Array(1000).fill({x: 1}));",
    "rejection": "async function pay() { throw 'no such card'; }\npay();",
    "hangup": "const http = require('http'); http.get({port: process.argv[2]}, () => {});",
    "reset": "const net = require('net'); net.connect(process.argv[2], '127.0.0.1').write('x');",
    "inuse": "require('http').createServer().listen(process.argv[2]);",
}


def closing(reset):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        peer, _ = listener.accept()
        peer.recv(1000)
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1]


with Stage("nodejs", "nodejs") as stage:
    for name, text in PROGRAMS.items():
        stage.write(f"{name}.js", text)

    def run(name, *words):
        stage.start(f"{name}.log", "/usr/bin/node", *words)

    run("heap", "--max-old-space-size=16", "heap.js")
    run("rejection", "rejection.js")
    run("hangup", "hangup.js", closing(False))
    run("reset", "reset.js", closing(True))
    taken = socket.create_server(("127.0.0.1", 0))
    run("inuse", "inuse.js", taken.getsockname()[1])
    stage.log_line("heap-oom", "log-heap", "heap.log", "JavaScript heap out of memory", 60)
    stage.log_line("unhandled-rejection", "log-rejection", "rejection.log", "^UnhandledPromiseRejection")
    stage.log_line("unhandled-rejection", "log-code", "rejection.log", "ERR_UNHANDLED_REJECTION")
    stage.log_line("econnreset", "log-hangup", "hangup.log", "socket hang up")
    stage.log_line("econnreset", "log-reset", "reset.log", "ECONNRESET")
    stage.log_line("eaddrinuse", "log-inuse", "inuse.log", "EADDRINUSE")
    raise SystemExit(1 if stage.failed else 0)
