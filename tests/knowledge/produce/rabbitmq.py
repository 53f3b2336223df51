#!/usr/bin/env python3
"""RabbitMQ's own words for its failure modes."""
import os
import signal
import socket
import time

from stage import Stage, find, without_time

CLIENT = """
import sys, time, pika
what, port, password = sys.argv[1:4]
try:
    connection = pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", int(port), "/", pika.PlainCredentials("guest", password), connection_attempts=1))
    channel = connection.channel()
    if what == "unacked":
        channel.queue_declare("work")
        channel.basic_publish("", "work", b"x")
        channel.basic_consume("work", lambda *_: None)
        for _ in range(80):  # looked at once a minute
            connection.process_data_events(time_limit=1)
except Exception as error:
    print(error)
"""


TICK_S = 4  # a node that says nothing for so long is taken for dead


with Stage("rabbitmq", "rabbitmq-server", user="rabbitmq") as stage:
    epmd = stage.port()
    stage.write("client.py", CLIENT)
    stage.write("plugins", "[].\n")
    stage.start("epmd.log", "epmd", "-port", epmd, "-address", "127.0.0.1")

    class Node:
        def __init__(self, name, descriptors=1024):
            self.port, dist = stage.port(), stage.port()
            self.log, data = f"{name}.log", stage.make(name)
            conf = stage.write(f"{name}.conf", f"listeners.tcp.1 = 127.0.0.1:{self.port}\nlog.console = true\nlog.console.level = info\nlog.file = false\nconsumer_timeout = 2000\ndisk_free_limit.absolute = 1MB\n")
            self.name = f"{name}{dist}@localhost"
            self.environment = {"PATH": os.environ["PATH"], "HOME": str(stage.folder), "RABBITMQ_NODENAME": self.name, "RABBITMQ_MNESIA_BASE": str(data), "RABBITMQ_LOG_BASE": str(data),
                                "RABBITMQ_CONFIG_FILE": str(conf), "RABBITMQ_DIST_PORT": str(dist), "ERL_EPMD_PORT": str(epmd), "ERL_EPMD_ADDRESS": "127.0.0.1",
                                "RABBITMQ_ENABLED_PLUGINS_FILE": f"{stage.folder}/plugins", "RABBITMQ_PLUGINS_EXPAND_DIR": f"{data}/expand", "RABBITMQ_PID_FILE": f"{data}/pid", "LANG": "C.UTF-8",
                                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"+S 1:1 +sbwt none -kernel net_ticktime {TICK_S}"}
            self.process = stage.start(self.log, "/usr/lib/rabbitmq/bin/rabbitmq-server", env=self.environment, limits=(f"--nofile={descriptors}:{descriptors}",))
            stage.listens(self.port, 90)

        def ctl(self, *words):
            return stage.run("/usr/lib/rabbitmq/bin/rabbitmqctl", "-n", self.name, *words, env=self.environment, seconds=60)

    node = Node("culprit")

    def client(what, password="guest"):
        return stage.run("/usr/bin/python3", stage.folder / "client.py", what, node.port, password, seconds=100)

    def log_line(mode, symptom, pattern, seconds=30, of=(node,)):
        line = stage.until(lambda: next((found for each in of if (found := find(stage.text(each.log), pattern))), None), seconds)
        # "2026-11-26 10:00:00.000000+00:00 [error] <0.7.0> text": when and which Erlang process say nothing about the failure.
        stage.line(mode, symptom, without_time(line).split("> ", 1)[-1] if line else line)

    said = client("login", "wrong")
    log_line("auth-refused", "log-creds", "invalid credentials")
    stage.line("auth-refused", "log-refused", find(said, "ACCESS_REFUSED"))
    client("unacked")
    log_line("unacked", "log-server", "(?i)timed out waiting for .*acknowledgement", 5)
    node.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    log_line("memory-alarm", "log-alarm", "memory resource limit alarm set")
    node.ctl("set_vm_memory_high_watermark", "0.4")
    node.ctl("set_disk_free_limit", "10000GB")
    log_line("disk-alarm", "log-free", "disk space is insufficient")
    log_line("disk-alarm", "log-alarm", "disk resource limit alarm set")
    node.ctl("set_disk_free_limit", "1MB")

    # Each of two nodes takes the other for dead, and then they meet again.
    other = Node("second")
    other.ctl("stop_app")
    other.ctl("join_cluster", node.name)
    other.ctl("start_app")
    os.killpg(other.process.pid, signal.SIGSTOP)
    time.sleep(3 * TICK_S)
    os.killpg(other.process.pid, signal.SIGCONT)
    log_line("partition", "log-mnesia", "running_partitioned_network", 60, of=(node, other))
    stage.end(other.process)

    small = Node("small", descriptors=256)  # of which it keeps a hundred for itself
    held = [socket.create_connection(("127.0.0.1", small.port), 3) for _ in range(150)]
    log_line("fd-exhausted", "log-alarm", "file descriptor limit alarm set", of=(small,))
    raise SystemExit(1 if stage.failed else 0)
