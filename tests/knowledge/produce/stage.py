"""A stage for one middleware: a temporary folder, loopback ports, processes with small limits, all gone at the end.

A producer starts the real program here, brings a failure about, and calls `line(mode, symptom, text)` with what the program printed.
Everything runs in a mount namespace of its own, so that small file systems vanish with it; processes are ended by their ids.
"""
import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

LINE_BYTES_MAX = 480  # of an example; longer lines are cut at a space


def package_version(package):
    """'redis-server 5:7.0.15-1~deb12u1': what the examples of this stage come from."""
    done = subprocess.run(["dpkg-query", "-W", "-f=${Version}", package], capture_output=True, text=True)
    if done.returncode != 0 or not done.stdout:
        raise SystemExit(f"produce: package '{package}' is not installed; run: apt-get install {package}")
    return f"{package} {done.stdout}"


class Stage:
    def __init__(self, middleware, package, user=None):
        if os.environ.get("CULPRIT_STAGE") != "1":  # once more, with a mount namespace
            os.environ["CULPRIT_STAGE"] = "1"
            os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that __exit__ ends what was started
        self.middleware, self.package, self.user = middleware, package_version(package), user
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"stage-{middleware}-"))
        self.processes, self.mounts, self.names, self.failed = [], [], {}, 0
        self.own(self.folder)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        for place in reversed(self.mounts):
            subprocess.run(["umount", "--lazy", place], check=False)
        if self.failed and os.environ.get("KEEP"):
            print(f"produce: kept '{self.folder}'", file=sys.stderr)
        else:
            shutil.rmtree(self.folder, ignore_errors=True)

    # -- places -------------------------------------------------------------------------------------
    def own(self, path):
        if self.user:
            shutil.chown(path, self.user)
        return path

    def make(self, name):
        path = self.folder / name
        path.mkdir(parents=True, exist_ok=True)
        return self.own(path)

    def write(self, name, text, mode=0o644):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return self.own(path)

    def small_disk(self, name, size, options=""):
        """A file system of so many bytes ("4m")."""
        path = self.make(name)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "tmpfs", path], check=True)
        self.mounts.append(path)
        return self.own(path)

    @staticmethod
    def port():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return free.getsockname()[1]

    # -- processes ----------------------------------------------------------------------------------
    def _as_user(self, command):
        command = [str(word) for word in command]
        return ["setpriv", f"--reuid={self.user}", f"--regid={pwd.getpwnam(self.user).pw_gid}", "--clear-groups", *command] if self.user else command

    def start(self, log, *command, limits=(), **popen):
        """In the background, output into the file `log` of the folder. limits: prlimit options ("--nofile=64")."""
        out = open(self.folder / log, "ab")
        command = self._as_user(command)
        if limits:
            command = ["prlimit", *limits, "--", *command]
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=popen.pop("stdin", subprocess.DEVNULL), start_new_session=True,
                                   cwd=popen.pop("cwd", self.folder), **popen)
        out.close()
        self.processes.append(process)
        return process

    def end(self, process, how=signal.SIGTERM, seconds=20):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.processes.remove(process)

    def slow_calls(self, process, call, seconds):
        """From now on each such system call of the process returns so much later: a slow disk, as the program sees it. Needs strace."""
        tracer = subprocess.Popen(["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(process.pid), "-e", f"trace={call}", "-e", f"inject={call}:delay_exit={int(seconds * 1e6)}"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        self.processes.append(tracer)
        status = pathlib.Path(f"/proc/{process.pid}/status")
        self.until(lambda: "TracerPid:\t0" not in status.read_text())
        return tracer

    def run(self, *command, input=None, seconds=30, **popen):
        """To its end; answers what it printed on both channels."""
        done = subprocess.run(self._as_user(command), capture_output=True, text=True, errors="replace", input=input, timeout=seconds, cwd=popen.pop("cwd", self.folder), **popen)
        return done.stdout + done.stderr

    # -- what was printed ---------------------------------------------------------------------------
    def text(self, log):
        path = self.folder / log
        return path.read_text(errors="replace") if path.exists() else ""

    def wait(self, log, pattern, seconds=15):
        """The first line of the log that the pattern occurs in, or None after so many seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = find(self.text(log), pattern)
            if found:
                return found
            time.sleep(0.1)
        return None

    def until(self, what, seconds=15):
        """Until what() is true; answers it."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                answer = what()
                if answer:
                    return answer
            time.sleep(0.1)
        return None

    def listens(self, port, seconds=30):
        def connect():
            with socket.create_connection(("127.0.0.1", port), 1):
                return True
        return self.until(connect, seconds)

    def line(self, mode, symptom, text):
        """What the program printed for this symptom. Nothing printed is a failure of the producer."""
        if not text:
            self.failed += 1
            print(f"produce: nothing printed for {self.middleware}/{mode} {symptom}", file=sys.stderr)
            return
        text = re.sub(r"\x1b\[[0-9;]*m", "", text).strip().replace(str(self.folder), "/srv").replace("\t", " ")
        if len(text) > LINE_BYTES_MAX:
            text = text[:LINE_BYTES_MAX].rsplit(" ", 1)[0]
        print(json.dumps({"mode": f"{self.middleware}/{mode}", "symptom": symptom, "example": text, "produced": self.package}), flush=True)

    def log_line(self, mode, symptom, log, pattern, seconds=15):
        self.line(mode, symptom, self.wait(log, pattern, seconds))


def find(text, pattern):
    return next((line for line in text.splitlines() if re.search(pattern, line)), None)


def without_time(line):
    """A log line without the time at its beginning: it says nothing about the failure."""
    return re.sub(r"^\[?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d[.,]?\d*(Z|[+-]\d\d:?\d\d)?\]?\s*", "", line) if line else line


def knock(port, count):
    """So many connections that are not waited for."""
    held = []
    for _ in range(count):
        peer = socket.socket()
        peer.setblocking(False)
        peer.connect_ex(("127.0.0.1", port))
        held.append(peer)
    return held


def ask(port, data, seconds=3, until=None):
    """Sends bytes to a loopback port and answers what comes back."""
    with socket.create_connection(("127.0.0.1", port), seconds) as peer:
        peer.settimeout(seconds)
        peer.sendall(data if isinstance(data, bytes) else data.encode())
        answer = b""
        with contextlib.suppress(OSError):
            while chunk := peer.recv(65536):
                answer += chunk
                if until and until.encode() in answer:
                    break
        return answer.decode(errors="replace")
