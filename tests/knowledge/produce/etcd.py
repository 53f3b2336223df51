#!/usr/bin/env python3
"""etcd's own words for its failure modes."""
import os
import signal
import time

from stage import Stage, find

ENVIRONMENT = os.environ | {"ETCDCTL_API": "3"}


class Members:
    def __init__(self, stage, *names, running=None, logger="zap", **settings):
        self.stage, self.ports = stage, {name: (stage.port(), stage.port()) for name in names}
        cluster = ",".join(f"{name}=http://127.0.0.1:{peer}" for name, (_, peer) in self.ports.items())
        self.processes = {}
        for name in running or names:
            client, peer = self.ports[name]
            words = [word for key, value in settings.items() for word in (f"--{key.replace('_', '-')}", str(value))]
            self.processes[name] = stage.start(f"{name}.log", "etcd", "--name", name, "--data-dir", stage.folder / f"{name}.etcd", "--listen-client-urls", f"http://127.0.0.1:{client}",
                                               "--advertise-client-urls", f"http://127.0.0.1:{client}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                                               "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}", "--initial-cluster", cluster, "--logger", logger, "--log-outputs", "stderr",
                                               *words, env=ENVIRONMENT)
        for name in self.processes:
            stage.listens(self.ports[name][0])

    def ask(self, name, *words, input=None):
        return self.stage.run("etcdctl", f"--endpoints=127.0.0.1:{self.ports[name][0]}", "--dial-timeout=2s", "--command-timeout=8s", *words, input=input, env=ENVIRONMENT)


def alone(stage):
    one = Members(stage, "one", quota_backend_bytes=4_000_000)
    stage.until(lambda: "OK" in one.ask("one", "put", "key", "x"))
    stage.line("request-too-large", "log-large", find(one.ask("one", "put", "big", input="x" * 1_700_000), "^Error: .*too large"))
    stage.line("request-too-large", "grpc-code", find(one.ask("one", "put", "big", input="x" * 3_000_000), "larger than max"))
    answer = ""
    for i in range(30):
        answer = one.ask("one", "put", f"key{i}", input="x" * 400_000)
        if "exceeded" in answer:
            break
    stage.line("quota-nospace", "log-space", find(answer, "space exceeded"))
    stage.line("quota-nospace", "log-alarm", find(one.ask("one", "alarm", "list"), "NOSPACE"))


def with_stop(stage, process, what, seconds=2):
    process.send_signal(signal.SIGSTOP)
    what()
    time.sleep(seconds)
    process.send_signal(signal.SIGCONT)


def majority_gone(stage):
    three = Members(stage, "a", "b", "c", heartbeat_interval=100, election_timeout=1000)
    stage.until(lambda: "OK" in three.ask("a", "put", "key", "x"))
    leader = next(name for name in three.processes if find(stage.text(f"{name}.log"), "became leader"))
    with_stop(stage, three.processes[leader], lambda: None, 4)
    others = [name for name in three.processes if name != leader]
    lost = next((line for name in others if (line := stage.wait(f"{name}.log", "lost leader", 5))), None)
    stage.line("leader-flap", "log-lost", lost)
    for name in others:
        stage.end(three.processes[name], signal.SIGKILL)
    time.sleep(3)
    # A watch says so; a put would only time out.
    stage.start("watch.log", "etcdctl", f"--endpoints=127.0.0.1:{three.ports[leader][0]}", "watch", "key", env=ENVIRONMENT)
    stage.log_line("no-leader", "log-noleader", "watch.log", "etcdserver: no leader")


def slow_disk(stage):
    three = Members(stage, "x", "y", "z", heartbeat_interval=100, election_timeout=5000)
    stage.until(lambda: "OK" in three.ask("x", "put", "key", "x"))
    leader = next(name for name in three.processes if find(stage.text(f"{name}.log"), "became leader"))
    stage.slow_calls(three.processes[leader], "fdatasync", 1.5)
    for i in range(4):
        three.ask(leader, "put", f"key{i}", "x")
    stage.log_line("slow-fsync", "log-fdatasync", f"{leader}.log", "slow fdatasync")
    stage.log_line("slow-fsync", "log-apply", f"{leader}.log", "apply request took too long")
    stage.log_line("leader-flap", "log-heartbeat", f"{leader}.log", "failed to send out heartbeat on time")


with Stage("etcd", "etcd-server") as stage:
    alone(stage)
    slow_disk(stage)
    majority_gone(stage)
    raise SystemExit(1 if stage.failed else 0)
