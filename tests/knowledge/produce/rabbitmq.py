#!/usr/bin/env python3
"""RabbitMQ's own words for its failure modes."""
import os

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


with Stage("rabbitmq", "rabbitmq-server", user="rabbitmq") as stage:
    port, dist, epmd = stage.port(), stage.port(), stage.port()
    node = f"culprit{dist}@localhost"
    stage.make("data")
    stage.write("rabbitmq.conf", f"listeners.tcp.1 = 127.0.0.1:{port}\nlog.console = true\nlog.console.level = info\nlog.file = false\nconsumer_timeout = 2000\ndisk_free_limit.absolute = 1MB\n")
    stage.write("client.py", CLIENT)
    environment = {"PATH": os.environ["PATH"], "HOME": str(stage.folder), "RABBITMQ_NODENAME": node, "RABBITMQ_MNESIA_BASE": f"{stage.folder}/data", "RABBITMQ_LOG_BASE": f"{stage.folder}/data",
                   "RABBITMQ_CONFIG_FILE": f"{stage.folder}/rabbitmq.conf", "RABBITMQ_DIST_PORT": str(dist), "ERL_EPMD_PORT": str(epmd),
                   "ERL_EPMD_ADDRESS": "127.0.0.1", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{stage.folder}/plugins", "RABBITMQ_PLUGINS_EXPAND_DIR": f"{stage.folder}/expand",
                   "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none", "RABBITMQ_PID_FILE": f"{stage.folder}/pid", "LANG": "C.UTF-8"}
    stage.write("plugins", "[].\n")
    stage.start("epmd.log", "epmd", "-port", epmd, "-address", "127.0.0.1")
    server = stage.start("rabbit.log", "/usr/lib/rabbitmq/bin/rabbitmq-server", env=environment, limits=("--nofile=1024:1024",))

    def ctl(*words):
        return stage.run("/usr/lib/rabbitmq/bin/rabbitmqctl", "-n", node, *words, env=environment, seconds=60)

    def client(what, password="guest"):
        return stage.run("/usr/bin/python3", stage.folder / "client.py", what, port, password, seconds=100)

    def log_line(mode, symptom, pattern, seconds=30):
        line = stage.wait("rabbit.log", pattern, seconds)
        # "2026-11-26 10:00:00.000000+00:00 [error] <0.7.0> text": when and which Erlang process say nothing about the failure.
        stage.line(mode, symptom, without_time(line).split("> ", 1)[-1] if line else line)

    stage.listens(port, 90)
    said = client("login", "wrong")
    log_line("auth-refused", "log-creds", "invalid credentials")
    stage.line("auth-refused", "log-refused", find(said, "ACCESS_REFUSED"))
    client("unacked")
    log_line("unacked", "log-server", "(?i)timed out waiting for .*acknowledgement", 5)
    ctl("set_vm_memory_high_watermark", "absolute", "1MB")
    log_line("memory-alarm", "log-alarm", "memory resource limit alarm set")
    ctl("set_vm_memory_high_watermark", "0.4")
    ctl("set_disk_free_limit", "10000GB")
    log_line("disk-alarm", "log-free", "disk space is insufficient")
    log_line("disk-alarm", "log-alarm", "disk resource limit alarm set")
    raise SystemExit(1 if stage.failed else 0)
