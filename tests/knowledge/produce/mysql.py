#!/usr/bin/env python3
"""MariaDB's own words for the failure modes of the mysql pack."""
import contextlib
import os
import signal
import socket
import subprocess
import time

from stage import Stage, find, without_time


class Server:
    def __init__(self, stage, name, *settings, data=None, wait=True):
        self.stage, self.log, self.port, self.socket = stage, f"{name}.log", stage.port(), stage.folder / f"{name}.sock"
        self.data = data or stage.folder / name
        if not (self.data / "mysql").exists():
            stage.run("mariadb-install-db", "--no-defaults", f"--datadir={self.data}", "--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=4M",
                      "--innodb-buffer-pool-size=8M", seconds=120)
        self.process = stage.start(self.log, "mariadbd", "--no-defaults", f"--datadir={self.data}", f"--socket={self.socket}", f"--port={self.port}", "--bind-address=127.0.0.1",
                                   f"--pid-file={stage.folder}/{name}.pid", "--innodb-buffer-pool-size=8M", "--innodb-log-file-size=4M", "--innodb-flush-log-at-trx-commit=0", *settings)
        if wait:
            stage.until(lambda: "ready" in self.sql("SELECT 'ready'"), 60)

    def client(self, *words, user="root"):
        return ["mariadb", "--no-defaults", f"--socket={self.socket}", f"--user={user}", *words]

    def sql(self, *statements, user="root", seconds=60):
        return self.stage.run(*self.client("--force", "-e", "; ".join(statements), user=user), seconds=seconds)

    def session(self, *statements, user="root"):
        process = self.stage.start("session.out", *self.client("--unbuffered", "--force", user=user), stdin=subprocess.PIPE)
        process.stdin.write("".join(f"{statement};\n" for statement in statements).encode())
        process.stdin.flush()
        return process

    def log_line(self, mode, symptom, pattern, seconds=15):
        self.stage.line(mode, symptom, without_time(self.stage.wait(self.log, pattern, seconds)))


def locks(stage, server):
    server.sql("CREATE DATABASE shop", "CREATE TABLE shop.items(id INT PRIMARY KEY, n INT) ENGINE=InnoDB", "INSERT INTO shop.items VALUES (1, 0), (2, 0)",
               "CREATE USER app@localhost IDENTIFIED BY ''", "GRANT ALL ON shop.* TO app@localhost")
    holder = server.session("BEGIN", "UPDATE shop.items SET n = 1 WHERE id = 1", "SELECT SLEEP(1)", "UPDATE shop.items SET n = 1 WHERE id = 2")
    time.sleep(0.5)
    other = server.sql("BEGIN", "UPDATE shop.items SET n = 1 WHERE id = 2", "UPDATE shop.items SET n = 1 WHERE id = 1")
    stage.line("deadlock", "log-1213", find(other + stage.text("session.out"), "Deadlock found"))
    stage.end(holder)
    holder = server.session("BEGIN", "UPDATE shop.items SET n = 1 WHERE id = 1")
    time.sleep(0.5)
    stage.line("lock-wait-timeout", "log-1205", find(server.sql("SET innodb_lock_wait_timeout = 1", "UPDATE shop.items SET n = 2 WHERE id = 1"), "Lock wait timeout"))
    ddl = server.session("ALTER TABLE shop.items ADD COLUMN m INT")
    stage.line("metadata-lock", "log-state", stage.until(lambda: find(server.sql("SHOW PROCESSLIST"), "Waiting for table metadata lock")))
    stage.end(ddl)
    stage.end(holder)


def limits(stage, server):
    server.sql("SET GLOBAL max_connections = 10")
    held = [server.session("SELECT 1", user="app") for _ in range(12)]
    stage.line("too-many-connections", "log-1040", stage.until(lambda: find(server.sql("SELECT 1", user="app"), "Too many connections")))
    for process in held:
        stage.end(process)
    stage.write("big.sql", f"SELECT LENGTH('{'x' * 300000}');")
    server.sql("SET GLOBAL max_allowed_packet = 65536", "SET GLOBAL log_warnings = 4")
    stage.run(*server.client("--max-allowed-packet=16M"), input=(stage.folder / "big.sql").read_text())
    server.log_line("packet-too-large", "log-1153", "Got a? ?packet bigger than")
    said = stage.run(*server.client("--unbuffered", "--skip-reconnect", "--force"), input="SET wait_timeout = 1;\nSELECT SLEEP(0);\n\\! sleep 3\nSELECT 1;\n")
    stage.line("gone-away", "log-2006", find(said, "gone away"))
    server.log_line("gone-away", "log-aborted", "Aborted connection")
    server.sql("SET GLOBAL max_connect_errors = 1", "CREATE USER probe@'127.0.0.2'")
    greeting = b""
    for _ in range(6):  # 127.0.0.1 itself is never blocked; errors in the handshake of another address count
        with socket.create_connection(("127.0.0.1", server.port), 2, source_address=("127.0.0.2", 0)) as peer:
            greeting = peer.recv(1000)
            if b"blocked" in greeting:
                break
            peer.sendall(b"\x03\x00\x00\x01\xff\xff\xff")
            peer.settimeout(1)
            with contextlib.suppress(OSError):
                peer.recv(1000)
    text = greeting.decode(errors="replace")
    stage.line("host-blocked", "log-1129", text[text.index("Host"):] if "blocked because of" in text else None)
    sleeper = stage.start("lost.out", *server.client("-e", "SELECT SLEEP(20)"))
    time.sleep(0.5)
    os.kill(server.process.pid, signal.SIGKILL)
    stage.line("gone-away", "log-2013", stage.wait("lost.out", "Lost connection"))
    stage.end(sleeper)
    stage.end(server.process)


def crash(stage, server):
    server = Server(stage, "main", data=server.data)
    server.log_line("innodb-crash-recovery", "log-recovery", "InnoDB: Starting crash recovery")
    server.sql("CREATE TABLE shop.broken(id INT PRIMARY KEY, t TEXT) ENGINE=InnoDB", "USE shop", "INSERT INTO shop.broken SELECT seq, REPEAT('x', 200) FROM seq_1_to_2000", "FLUSH TABLES")
    stage.end(server.process)
    file = server.data / "shop" / "broken.ibd"
    raw = bytearray(file.read_bytes())
    for page in range(3, len(raw) // 16384):
        raw[page * 16384 + 200:page * 16384 + 400] = b"\xff" * 200
    file.write_bytes(raw)
    server = Server(stage, "main", data=server.data)
    server.sql("SELECT COUNT(*), MAX(t) FROM shop.broken")
    server.log_line("innodb-crash-recovery", "log-page", "Failed to read page")
    stage.end(server.process)


def full(stage):
    server = Server(stage, "full", "--innodb-temp-data-file-path=ibtmp1:12M:autoextend:max:12M", "--max-heap-table-size=16384", "--tmp-memory-table-size=16384")
    server.sql("CREATE DATABASE shop", "CREATE TABLE shop.items(t VARCHAR(200)) ENGINE=MEMORY")
    stage.line("disk-full", "log-1114", find(server.sql("USE shop", "INSERT INTO shop.items SELECT REPEAT('x', 200) FROM seq_1_to_20000"), "is full"))
    disk = stage.small_disk("disk", "2m")
    server.sql(f"CREATE TABLE shop.far(t TEXT) ENGINE=Aria DATA DIRECTORY='{disk}'")
    writer = server.session("USE shop", "INSERT INTO shop.far SELECT REPEAT(MD5(seq), 50) FROM seq_1_to_5000")
    server.log_line("disk-full", "log-writing", "Disk is full writing", 30)
    stage.run("sh", "-c", f"mount -o remount,size=64m {disk} 2>/dev/null || true")
    stage.end(writer, signal.SIGKILL)
    stage.end(server.process, signal.SIGKILL)
    stage.run("sh", "-c", f"rm -rf {disk}/*")


def replication(stage):
    primary = Server(stage, "primary", "--server-id=1", "--log-bin=log", "--binlog-format=row")
    replica = Server(stage, "replica", "--server-id=2", "--skip-slave-start")
    primary.sql("CREATE USER repl@'127.0.0.1' IDENTIFIED BY 'x'", "GRANT REPLICATION SLAVE ON *.* TO repl@'127.0.0.1'", "CREATE DATABASE shop", "CREATE TABLE shop.items(id INT PRIMARY KEY)")
    replica.sql(f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={primary.port}, MASTER_USER='repl', MASTER_PASSWORD='x', MASTER_LOG_FILE='log.000001', MASTER_LOG_POS=4", "START SLAVE")
    stage.until(lambda: "items" in replica.sql("SHOW TABLES FROM shop"))
    replica.sql("INSERT INTO shop.items VALUES (7)")
    primary.sql("INSERT INTO shop.items VALUES (7)")
    replica.log_line("repl-lag", "log-applier", "Could not execute")
    replica.log_line("repl-lag", "log-stopped", "SQL thread aborted")


with Stage("mysql", "mariadb-server", user="mysql") as stage:
    server = Server(stage, "main")
    locks(stage, server)
    limits(stage, server)
    crash(stage, server)
    replication(stage)
    full(stage)
    raise SystemExit(1 if stage.failed else 0)
