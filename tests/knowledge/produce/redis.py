#!/usr/bin/env python3
"""Redis' own words for its failure modes."""
import re
import signal
import subprocess
import time

from stage import Stage, find

PYTHON_CLIENT = """
import redis, sys
try:
    print(redis.Redis(port=int(sys.argv[1]), socket_timeout=0.5, socket_connect_timeout=1).get("key"))
except redis.exceptions.RedisError as error:
    print(f"{type(error).__module__}.{type(error).__name__}: {error}")
"""


class Server:
    def __init__(self, stage, name, *settings, limits=(), wait=True):
        self.stage, self.log, self.port = stage, f"{name}.log", stage.port()
        folder = settings[settings.index("--dir") + 1] if "--dir" in settings else stage.make(name)
        words = ("--dir", folder, *(word for word in settings if word not in ("--dir", folder)))
        self.process = stage.start(self.log, "redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", *words, limits=limits)
        if wait:
            stage.until(lambda: "PONG" in self.ask("PING"))

    def ask(self, *words, seconds=5):
        try:
            return self.stage.run("redis-cli", "-p", self.port, *words, seconds=seconds)
        except subprocess.TimeoutExpired:
            return ""

    def log_line(self, mode, symptom, pattern, seconds=10):
        line = self.stage.wait(self.log, pattern, seconds)
        # "812:M 26 Nov 2026 10:00:00.000 # text": who and when say nothing about the failure.
        self.stage.line(mode, symptom, re.sub(r"^\d+:\S+ \d\d \w+ \d{4} [\d:.]+ . ", "", line) if line else line)


def python_client(stage, server):
    return stage.run("/usr/bin/python3", "-c", PYTHON_CLIENT, server.port)


def memory(stage):
    server = Server(stage, "memory", "--maxmemory", "1mb", "--maxmemory-policy", "noeviction")
    server.ask("EVAL", "redis.call('SET', 'big', string.rep('x', 1000000))", "0")
    stage.line("oom-noeviction", "log-oom", find(server.ask("SET", "key", "x"), "OOM command"))
    stage.line("slow-command", "log-busy", busy(stage, server))


def busy(stage, server):
    server.ask("CONFIG", "SET", "maxmemory", "0", "busy-reply-threshold", "100")
    script = stage.start("script.out", "redis-cli", "-p", server.port, "EVAL", "while true do end", "0")
    answer = stage.until(lambda: find(server.ask("GET", "key", seconds=2), "BUSY"))
    server.ask("SCRIPT", "KILL")
    stage.end(script)
    return answer


def saving(stage):
    disk = stage.small_disk("disk", "64k")
    server = Server(stage, "saving", "--dir", disk, "--rdbcompression", "no")
    server.ask("SET", "big", "x" * 100_000)
    server.ask("CONFIG", "SET", "save", "1 1")
    server.ask("BGSAVE")
    server.log_line("misconf-rdb", "log-write", "Write error saving DB")
    server.log_line("misconf-rdb", "log-failed", "Background saving error")
    stage.line("misconf-rdb", "log-misconf", find(server.ask("SET", "key", "x"), "MISCONF"))


def slow_disk(stage):
    server = Server(stage, "slow", "--appendonly", "yes", "--appendfsync", "everysec")
    stage.slow_calls(server.process, "fdatasync", 4)
    for i in range(20):
        server.ask("SET", "key", str(i))
        time.sleep(0.4)
    server.log_line("aof-fsync-slow", "log-slow", "Asynchronous AOF fsync is taking too long")


def fork(stage):
    server = Server(stage, "fork", "--appendonly", "no")
    tasks = len(stage.run("ps", "-L", "-u", stage.user, "-o", "lwp=").split())
    stage.run("prlimit", f"--pid={server.process.pid}", f"--nproc={max(1, tasks - 2)}")
    server.ask("BGSAVE")
    server.log_line("bgsave-fork", "log-fork", "Can't save in background")
    server.ask("BGREWRITEAOF")
    server.log_line("bgsave-fork", "log-rewrite", "Can't rewrite append only file in background")
    overcommit = stage.wait(server.log, "overcommit_memory is set to 0|Memory overcommit must be enabled", 1)
    if overcommit:
        server.log_line("bgsave-fork", "log-overcommit", "overcommit_memory is set to 0|Memory overcommit must be enabled")


def loading(stage):
    server = Server(stage, "loading")
    server.ask("EVAL", "for i = 1, 200000 do redis.call('SET', i, i) end", "0")
    server.ask("SAVE", seconds=20)
    stage.end(server.process)
    server = Server(stage, "loading", "--key-load-delay", "10", "--loading-process-events-interval-bytes", "1024", wait=False)
    stage.line("loading", "log-loading", stage.until(lambda: find(server.ask("GET", "1"), "LOADING")))
    server.log_line("loading", "log-db", "DB loaded from disk", 30)


def clients(stage):
    server = Server(stage, "clients", "--maxclients", "1000", limits=("--nofile=64:64",))
    server.log_line("maxclients", "log-fd", "maxclients has been reduced|Unable to set the max number of files|You requested maxclients")
    server.ask("CONFIG", "SET", "maxclients", "1")
    held = stage.start("held.out", "redis-cli", "-p", server.port, "SUBSCRIBE", "news")
    time.sleep(0.5)
    stage.line("maxclients", "log-max", find(server.ask("PING"), "max number of clients"))
    stage.end(held)


def replicas(stage):
    primary = Server(stage, "primary")
    replica = Server(stage, "replica", "--replicaof", f"127.0.0.1 {primary.port}", "--replica-serve-stale-data", "no", "--repl-timeout", "2")
    stage.wait(replica.log, "sync: Finished with success")
    replica.log_line("repl-broken", "log-sync", "REPLICA sync")
    stage.line("readonly-replica", "log-readonly", find(replica.ask("SET", "key", "x"), "READONLY"))
    subscriber = stage.start("subscriber.out", "redis-cli", "-p", primary.port, "SUBSCRIBE", "news")
    primary.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 1")
    time.sleep(0.5)
    subscriber.send_signal(signal.SIGSTOP)
    primary.ask("EVAL", "for i = 1, 200 do redis.call('PUBLISH', 'news', string.rep('x', 100000)) end", "0")
    primary.log_line("repl-broken", "log-buffer", "overcoming of output buffer limits")
    stage.end(primary.process, signal.SIGKILL)
    replica.log_line("repl-broken", "log-socket", "Error condition on socket for SYNC")
    replica.log_line("repl-broken", "log-lost", "Connection with master lost")
    stage.line("repl-broken", "log-masterdown", stage.until(lambda: find(replica.ask("GET", "key"), "MASTERDOWN")))


def cluster(stage):
    server = Server(stage, "cluster", "--cluster-enabled", "yes")
    stage.line("cluster-down", "log-down", find(server.ask("SET", "key", "x"), "CLUSTERDOWN"))
    server.ask("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
    stage.wait(server.log, "Cluster state changed: ok")
    server.ask("CLUSTER", "DELSLOTS", "0")
    server.log_line("cluster-down", "log-state", "Cluster state changed: fail")


def gone(stage):
    server = Server(stage, "gone")
    server.process.send_signal(signal.SIGSTOP)
    said = python_client(stage, server)
    stage.line("stopped", "log-timeout", find(said, "TimeoutError"))
    stage.line("stopped", "log-reading", find(said, "Timeout reading"))
    server.process.send_signal(signal.SIGCONT)
    stage.end(server.process)
    server.log_line("down", "log-shutdown", "scheduling shutdown")
    said = python_client(stage, server)
    stage.line("down", "log-refused", find(said, "Error 111"))
    stage.line("down", "log-python", find(said, "ConnectionError"))
    stage.line("down", "log-cli", find(server.ask("PING"), "Could not connect"))


with Stage("redis", "redis-server", user="redis") as stage:
    for part in (memory, saving, slow_disk, fork, loading, clients, replicas, cluster, gone):
        part(stage)
    raise SystemExit(1 if stage.failed else 0)
