#!/usr/bin/env python3
"""PostgreSQL's own words for its failure modes."""
import os
import pathlib
import signal
import subprocess
import time

from stage import Stage, find

BIN = pathlib.Path("/usr/lib/postgresql/15/bin")
SETTINGS = {"log_line_prefix": "", "listen_addresses": "127.0.0.1", "max_connections": 6, "superuser_reserved_connections": 3, "shared_buffers": "1MB",
            "max_wal_senders": 2, "max_replication_slots": 2, "deadlock_timeout": "200ms", "log_lock_waits": "on", "log_temp_files": 0, "fsync": "off",
            "autovacuum": "off", "max_wal_size": "2MB", "min_wal_size": "2MB", "max_slot_wal_keep_size": "1MB", "max_standby_streaming_delay": "100ms"}


class Cluster:
    def __init__(self, stage, name, **settings):
        self.stage, self.log, self.port = stage, f"{name}.log", stage.port()
        self.data = stage.folder / name
        stage.run(BIN / "initdb", "-D", self.data, "-A", "trust", "--no-locale", "--wal-segsize=1", "-U", "postgres")
        self.configure(**settings)

    def configure(self, **settings):
        all_settings = SETTINGS | {"port": self.port, "unix_socket_directories": self.stage.folder} | settings
        with open(self.data / "postgresql.auto.conf", "a") as file:
            file.writelines(f"{key} = '{value}'\n" for key, value in all_settings.items())

    def start(self, wait=True):
        self.process = self.stage.start(self.log, BIN / "postgres", "-D", self.data)
        if wait:
            self.stage.until(lambda: "1 row" in self.sql("SELECT 1"), 30)

    def stop(self):
        self.stage.end(self.process, signal.SIGINT)

    def client(self, user="postgres", database="postgres", host=None):
        return [BIN / "psql", "-X", "-h", host or self.stage.folder, "-p", str(self.port), "-U", user, "-d", database]

    def sql(self, *statements, user="postgres", **client):
        words = [word for statement in statements for word in ("-c", statement)]
        return self.stage.run(*self.client(user, **client), *words, env=os.environ | {"PGPASSWORD": "wrong"})

    def session(self, log, *statements, user="postgres"):
        """A session that stays open after its statements."""
        process = self.stage.start(log, *self.client(user), stdin=subprocess.PIPE)
        for statement in statements:
            process.stdin.write(f"{statement}\n".encode())
        process.stdin.flush()
        return process


def full_slots(stage, db):
    db.sql("CREATE ROLE app LOGIN", "CREATE ROLE report LOGIN CONNECTION LIMIT 0")
    stage.line("too-many-clients", "log-role", find(db.sql("SELECT 1", user="report"), "too many connections") and stage.wait(db.log, "too many connections for"))
    held = [db.session("held.out", "SELECT 1;", user="app") for _ in range(3)]
    time.sleep(1)
    db.sql("SELECT 1", user="app")
    stage.log_line("too-many-clients", "log-reserved", db.log, "remaining connection slots")
    held += [db.session("held.out", "SELECT 1;") for _ in range(3)]
    time.sleep(1)
    db.sql("SELECT 1")
    stage.log_line("too-many-clients", "log-53300", db.log, "too many clients already")
    for process in held:
        stage.end(process)
    time.sleep(0.5)


def locks(stage, db):
    db.sql("CREATE TABLE items(id int PRIMARY KEY, n int)", "INSERT INTO items VALUES (1, 0), (2, 0)")
    a = db.session("a.out", "BEGIN;", "UPDATE items SET n = 1 WHERE id = 1;", "SELECT pg_sleep(0.6);", "UPDATE items SET n = 1 WHERE id = 2;")
    b = db.session("b.out", "BEGIN;", "UPDATE items SET n = 1 WHERE id = 2;", "SELECT pg_sleep(0.6);", "UPDATE items SET n = 1 WHERE id = 1;")
    stage.log_line("deadlock", "log-40p01", db.log, "deadlock detected")
    stage.log_line("deadlock", "log-cycle", db.log, "waits for ShareLock.*blocked by")
    stage.end(a)
    stage.end(b)
    holder = db.session("holder.out", "BEGIN;", "LOCK TABLE items IN ACCESS EXCLUSIVE MODE;")
    time.sleep(0.5)
    db.sql("SET lock_timeout = '300ms'", "SELECT * FROM items")
    stage.log_line("lock-wait", "log-lock-timeout", db.log, "due to lock timeout")
    db.sql("SET statement_timeout = '100ms'", "SELECT * FROM items")
    stage.log_line("lock-wait", "log-statement-timeout", db.log, "due to statement timeout")
    waiter = db.session("waiter.out", "SELECT * FROM items;")
    time.sleep(0.5)
    stage.log_line("lock-wait", "log-waiting", db.log, "still waiting for AccessShareLock")
    stage.log_line("lock-wait", "log-queue", db.log, r"Process holding the lock.*Wait queue: \d")
    time.sleep(0.5)
    holder.stdin.write(b"COMMIT;\n")
    holder.stdin.flush()
    stage.log_line("lock-wait", "log-acquired", db.log, "acquired AccessShareLock")
    stage.end(waiter)
    stage.end(holder)


def spills_and_wal(stage, db):
    db.sql("SET work_mem = '64kB'", "SELECT * FROM generate_series(1, 30000) i ORDER BY -i OFFSET 29999")
    stage.log_line("temp-file-spill", "log-temp", db.log, "temporary file: path")
    db.sql("SET work_mem = '64kB'", "SET temp_file_limit = '100kB'", "SELECT * FROM generate_series(1, 30000) i ORDER BY -i OFFSET 29999")
    stage.log_line("temp-file-spill", "log-limit", db.log, "exceeds temp_file_limit")
    db.sql("SELECT pg_create_physical_replication_slot('debezium', true)")
    for _ in range(8):
        db.sql("CREATE TABLE t AS SELECT repeat('x', 500) FROM generate_series(1, 4000)", "DROP TABLE t", "SELECT pg_switch_wal()")
    db.sql("CHECKPOINT")
    stage.log_line("checkpoint-storm", "log-frequent", db.log, "checkpoints are occurring too frequently")
    stage.log_line("replication-slot-bloat", "log-invalidated", db.log, "invalidating")
    stage.run(BIN / "psql", "-X", f"host={stage.folder} port={db.port} user=postgres replication=true", "-c", "START_REPLICATION 0/1000000")
    stage.log_line("replication-lag", "log-removed", db.log, "has already been removed")


def standby(stage, db):
    data = stage.folder / "standby"
    db.sql("SELECT pg_drop_replication_slot('debezium')", "ALTER SYSTEM SET wal_keep_size = '64MB'", "SELECT pg_reload_conf()")
    stage.run(BIN / "pg_basebackup", "-h", stage.folder, "-p", str(db.port), "-U", "postgres", "-D", data, "-R", "-c", "fast")
    port = stage.port()
    with open(data / "postgresql.auto.conf", "a") as file:
        file.write(f"port = {port}\n")
    replica = stage.start("standby.log", BIN / "postgres", "-D", data)
    stage.wait("standby.log", "ready to accept read-only")
    reader = stage.start("reader.out", BIN / "psql", "-X", "-h", stage.folder, "-p", str(port), "-U", "postgres", stdin=subprocess.PIPE)
    reader.stdin.write(b"BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT * FROM items; SELECT pg_sleep(10);\n")
    reader.stdin.flush()
    time.sleep(1)
    db.sql("DELETE FROM items", "VACUUM items", "CHECKPOINT")
    stage.log_line("replication-lag", "log-conflict", "standby.log", "conflict with recovery")
    stage.end(reader)
    stage.end(replica, signal.SIGINT)


def crash(stage, db):
    db.sql("ALTER SYSTEM SET log_min_messages = warning", "SELECT pg_reload_conf()")
    victim = db.session("victim.out", "SELECT pg_backend_pid() AS pid, 'victim';")
    witness = db.session("witness.out", "SELECT 1;")
    pid = int(stage.wait("victim.out", r"^\s*\d+ \| victim").split("|")[0])
    stage.run("prlimit", f"--pid={pid}", "--as=268435456")
    victim.stdin.write(b"SELECT length(repeat('x', 800000000));\n")
    victim.stdin.flush()
    stage.log_line("oom-backend", "log-oom", db.log, "out of memory")
    victim.stdin.write(b"SELECT pg_sleep(20);\n")
    victim.stdin.flush()
    time.sleep(0.5)
    knocking = stage.start("knocking.out", "sh", "-c", f"for i in $(seq 100); do {BIN}/psql -X -h {stage.folder} -p {db.port} -U postgres -c 'SELECT 1'; done")
    time.sleep(0.2)
    os.kill(pid, signal.SIGKILL)
    stage.log_line("oom-backend", "log-killed", db.log, "was terminated by signal")
    witness.stdin.write(b"SELECT 1;\n")
    witness.stdin.flush()
    stage.log_line("oom-backend", "log-crash", "witness.out", "crash of another server process")
    stage.log_line("oom-backend", "log-recovery", db.log, "in recovery mode")
    stage.end(knocking)
    stage.end(victim)
    stage.end(witness)


def logins(stage, db):
    (db.data / "pg_hba.conf").write_text("local all all trust\nhost shop shop 127.0.0.1/32 scram-sha-256\n")
    db.sql("CREATE ROLE shop LOGIN PASSWORD 'right'", "CREATE DATABASE shop OWNER shop", "SELECT pg_reload_conf()")
    db.sql("SELECT 1", user="shop", database="shop", host="127.0.0.1")
    stage.log_line("auth-failed", "log-password", db.log, "password authentication failed")
    db.sql("SELECT 1", user="shop", host="127.0.0.1")
    stage.log_line("auth-failed", "log-hba", db.log, "no pg_hba.conf entry")
    db.sql("SELECT 1", user="shop2")
    stage.log_line("auth-failed", "log-role", db.log, 'role "shop2" does not exist')


def full_disks(stage, db):
    stage.small_disk("small", "3m")
    db.sql(f"CREATE TABLESPACE small LOCATION '{stage.folder}/small'")
    db.sql("CREATE TABLE big TABLESPACE small AS SELECT repeat(md5(i::text), 50) FROM generate_series(1, 20000) i")
    stage.log_line("disk-full", "log-extend", db.log, "could not extend file")
    db.sql("SET temp_tablespaces = small", "SET work_mem = '64kB'", "SELECT * FROM generate_series(1, 500000) i ORDER BY -i OFFSET 499999")
    stage.log_line("disk-full", "log-temp", db.log, "could not write to file .*pgsql_tmp.*No space left")


def wal_full(stage):
    db = Cluster(stage, "walfull", max_wal_size="64MB")
    stage.small_disk("wal", "6m")
    stage.run("sh", "-c", f"mv {db.data}/pg_wal/* {stage.folder}/wal/ && rmdir {db.data}/pg_wal && ln -s {stage.folder}/wal {db.data}/pg_wal")
    db.start()
    db.sql("CREATE TABLE t AS SELECT repeat(md5(i::text), 20) FROM generate_series(1, 20000) i")
    stage.log_line("disk-full", "log-write", db.log, "could not write to file .*No space left")


def wraparound(stage):
    db = Cluster(stage, "wrap")
    segment = b"\0" * 262144
    for left, symptom, pattern in ((20_000_000, "log-must-vacuum", "must be vacuumed within"), (2_000_000, "log-refused", "not accepting commands")):
        xid = 2**31 - left
        stage.run(BIN / "pg_resetwal", "-f", "-x", str(xid), "-D", db.data)
        stage.own(stage.folder / db.data / "pg_xact").joinpath(f"{xid // 1048576:04X}").write_bytes(segment)
        stage.own(db.data / "pg_xact" / f"{xid // 1048576:04X}")
        db.start(wait=False)
        stage.until(lambda: "accept" in db.sql("SELECT 1") or "1 row" in db.sql("SELECT 1"))
        db.sql("CREATE TABLE IF NOT EXISTS t(i int)", "INSERT INTO t VALUES (1)")
        stage.log_line("xid-wraparound", symptom, db.log, pattern)
        db.stop()


def down(stage, db):
    holder = db.session("last.out", "SELECT 1;")
    time.sleep(0.5)
    db.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()")
    stage.log_line("down", "log-admin", db.log, "due to administrator command")
    stage.end(holder)
    holder = db.session("last.out", "SELECT 1;")
    time.sleep(0.5)
    os.kill(db.process.pid, signal.SIGTERM)  # "smart": it waits for the session
    time.sleep(0.3)
    db.sql("SELECT 1")
    stage.log_line("down", "log-shutdown", db.log, "is shutting down")
    stage.end(holder)
    db.stop()
    refused = db.sql("SELECT 1", host="127.0.0.1")
    stage.line("down", "log-refused", " ".join(refused.split()))


with Stage("postgresql", "postgresql-15", user="postgres") as stage:
    db = Cluster(stage, "main")
    db.start()
    full_slots(stage, db)
    locks(stage, db)
    spills_and_wal(stage, db)
    standby(stage, db)
    full_disks(stage, db)
    logins(stage, db)
    crash(stage, db)
    down(stage, db)
    wal_full(stage)
    wraparound(stage)
    raise SystemExit(1 if stage.failed else 0)
