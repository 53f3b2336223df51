#!/usr/bin/env python3
"""ZooKeeper's own words for its failure modes."""
import socket
import struct


from stage import Stage, ask, find


def connect_request(timeout_ms):
    body = struct.pack(">iqiqi16s?", 0, 0, timeout_ms, 0, 16, b"", False)
    return struct.pack(">i", len(body)) + body


def create_request(path):
    body = struct.pack(">iii", 1, 1, len(path)) + path + struct.pack(">i", 2) + b"{}"
    acl = struct.pack(">ii", 1, 31) + struct.pack(">i", 5) + b"world" + struct.pack(">i", 6) + b"anyone"
    body += acl + struct.pack(">i", 0)
    return struct.pack(">i", len(body)) + body


def start(stage, name, settings, *flags):
    config = stage.write(f"{name}.cfg", settings)
    return stage.start(f"{name}.log", "java", "-Xmx64m", *flags, "-Dorg.slf4j.simpleLogger.showThreadName=false", "-Dorg.slf4j.simpleLogger.showLogName=false", "-Dzookeeper.admin.enableServer=false",
                       "-Dzookeeper.4lw.commands.whitelist=*", "-cp", "/usr/share/java/zookeeper.jar:/usr/share/java/slf4j-simple.jar", "org.apache.zookeeper.server.quorum.QuorumPeerMain", config)


with Stage("zookeeper", "zookeeper") as stage:
    port = stage.port()
    stage.make("alone")
    start(stage, "alone", f"tickTime=500\ndataDir={stage.folder}/alone\nclientPort={port}\nclientPortAddress=127.0.0.1\nmaxClientCnxns=2\n", "-Dzookeeper.fsync.warningthresholdms=-1",
          "-Dfsync.warningthresholdms=-1")
    stage.wait("alone.log", "audit is disabled")  # its last word before it serves
    stage.listens(port)
    peer = socket.create_connection(("127.0.0.1", port), 3)
    peer.sendall(connect_request(1000))
    peer.recv(100)
    peer.sendall(create_request(b"/culprit"))
    stage.log_line("fsync-slow", "log-fsync", "alone.log", "fsync-ing the write ahead log")
    stage.log_line("session-expired", "log-expiring", "alone.log", "Expiring session")
    held = [socket.create_connection(("127.0.0.1", port), 3) for _ in range(4)]
    stage.log_line("too-many-conn", "log-many", "alone.log", "Too many connections")
    port = stage.port()
    stage.write("three/myid", "1\n")
    servers = "".join(f"server.{i}=127.0.0.1:{stage.port()}:{stage.port()}\n" for i in (1, 2, 3))
    start(stage, "three", f"tickTime=500\ninitLimit=5\nsyncLimit=2\ndataDir={stage.folder}/three\nclientPort={port}\nclientPortAddress=127.0.0.1\n{servers}")
    stage.listens(port)
    stage.line("no-quorum", "log-serving", find(ask(port, "stat"), "not currently serving"))
    stage.log_line("no-quorum", "log-election", "three.log", "at election address")
    raise SystemExit(1 if stage.failed else 0)
