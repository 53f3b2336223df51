#!/usr/bin/env python3
"""What the kernel and the C library say for failure modes that a small cgroup, a small file system or a namespace can bring about."""
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

from stage import Stage, find

SNIPPETS = {
    "files": "held = []\nwhile True: held.append(open('/dev/null'))",
    "space": "open(sys.argv[1] + '/x', 'w').write('x' * 10_000_000)",
    "ports": "import socket\npeer = socket.create_server(('127.0.0.1', 0), backlog=200)\nheld = [socket.create_connection(peer.getsockname()) for _ in range(200)]",
    "segfault": "import ctypes\nctypes.string_at(0)",
    "protection": "import ctypes\nctypes.string_at(0x8000000000000000)",
    "memory": "import time\nheld = []\nwhile True: held.append(bytearray(1 << 20)); time.sleep(0.001)",
    "tasks": "import threading, time\nfor _ in range(100): threading.Thread(target=time.sleep, args=(5,), daemon=True).start()",
}


class KernelLog:
    """What the kernel says from now on."""

    def __init__(self):
        self.file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.file, 0, os.SEEK_END)
        self.lines = []

    def find(self, pattern, seconds=5):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                while True:
                    self.lines.append(os.read(self.file, 8192).decode(errors="replace").split(";", 1)[-1].split("\n")[0])
            except BlockingIOError:
                pass
            except BrokenPipeError:
                continue
            found = next((line for line in self.lines if re.search(pattern, line)), None)
            if found:
                return found
            time.sleep(0.1)
        return None


class Cgroup:
    """One cgroup of the controller, in the old or the new hierarchy."""

    def __init__(self, controller, name):
        base = pathlib.Path("/sys/fs/cgroup")
        self.old = (base / controller).is_dir()
        self.path = (base / controller if self.old else base) / name
        self.path.mkdir(exist_ok=True)

    def set(self, old, new, value):
        (self.path / (old if self.old else new)).write_text(str(value))

    def end(self):
        for _ in range(50):
            try:
                self.path.rmdir()
                return
            except OSError:
                time.sleep(0.1)


with Stage("linux-kernel", "libc6") as stage:
    stage.package = f"Linux {'.'.join(platform.release().split('.')[:2])}, {stage.package}"
    kernel = KernelLog()

    def snippet(name, *words, before=(), after_fork=None):
        return subprocess.run([*before, sys.executable, "-c", f"import sys\n{SNIPPETS[name]}", *map(str, words)], capture_output=True, text=True, timeout=60, preexec_fn=after_fork).stderr

    stage.line("fd-limit", "log-emfile", find(snippet("files", before=["prlimit", "--nofile=64:64"]), "Too many open files"))
    disk = stage.small_disk("disk", "64k")
    stage.line("disk-full", "log-enospc", find(snippet("space", disk), "No space left"))
    read_only = stage.small_disk("readonly", "64k", ",ro")
    stage.line("fs-readonly", "log-rofs", find(snippet("space", read_only), "Read-only"))
    own_net = ["unshare", "--net", "sh", "-c", "ip link set lo up; sysctl -qw net.ipv4.ip_local_port_range='40000 40063'; exec \"$@\"", "sh"]
    stage.line("port-exhaustion", "log-addr", find(snippet("ports", before=own_net), "(?i)cannot assign"))
    snippet("segfault")
    stage.line("segfault", "kern-segfault", kernel.find("segfault at"))
    snippet("protection")
    stage.line("segfault", "kern-gpf", kernel.find("general protection"))
    for controller, mode in (("memory", "memory"), ("pids", "tasks")):
        group = Cgroup(controller, "stage")
        if controller == "memory":
            group.set("memory.limit_in_bytes", "memory.max", 30 << 20)
        else:
            group.set("pids.max", "pids.max", 5)
        snippet(mode, after_fork=lambda g=group: (g.path / "cgroup.procs").write_text(str(os.getpid())))
        group.end()
    stage.line("cgroup-oom", "kern-memcg", kernel.find("Memory cgroup out of memory"))
    stage.line("cgroup-oom", "kern-constraint", kernel.find("CONSTRAINT_MEMCG"))
    stage.line("oom-kill", "kern-invoked", kernel.find("invoked oom-killer"))
    stage.line("zombies", "pids", kernel.find("fork rejected by pids controller"))
    os.close(kernel.file)
    raise SystemExit(1 if stage.failed else 0)
