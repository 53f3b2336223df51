"""What a lab run takes from the host - cgroups, loop mounts, processes, ports, one temporary folder - and gives back.

Everything is written to a record under /run/culprit-lab before it is made, so that `lab.py --clean` can remove what a
killed run left behind. Processes are found by the run's own cgroups and never by name: whatever lives in there is ours.
"""
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time

RECORDS = pathlib.Path("/run/culprit-lab")
CGROUP_V1 = ("memory", "blkio")  # controllers that the faults need, on hosts where cgroup v1 holds them


def unified_root():
    """The cgroup v2 mount: its own folder on hybrid hosts, the whole tree on pure v2 hosts."""
    hybrid = pathlib.Path("/sys/fs/cgroup/unified")
    return hybrid if hybrid.is_dir() else pathlib.Path("/sys/fs/cgroup")


def start_time(pid):
    """Clock ticks from boot to the start of a process, or None: tells a process from a later one with its number."""
    try:
        stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rsplit(")", 1)[1].split()[19])


def run(*command, **options):
    """Runs a command; a failure raises with its own words."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()}")
    return done.stdout.strip()


class Host:
    """The resources of one run. `close` gives all of them back and may be called twice."""

    def __init__(self):
        RECORDS.mkdir(mode=0o755, exist_ok=True)
        self.id = f"{os.getpid()}-{random.randrange(16**4):04x}"
        self.root = pathlib.Path(tempfile.mkdtemp(prefix=f"culprit-lab-{self.id}-"))
        self.root.chmod(0o755)  # the services run as other users and must pass through
        self.mounts, self.loops, self.cgroups, self.notes = [], [], [], []
        self._ports = set()
        self.record = RECORDS / f"{self.id}.json"
        self._save()
        self.v2 = "memory" in (unified_root() / "cgroup.controllers").read_text().split()
        for name in (f"culprit-lab-{self.id}", f"culprit-lab-{self.id}-tools"):
            self._own_parent(unified_root() / name)

    def _save(self):
        self.record.write_text(json.dumps({
            "owner": os.getpid(), "owner_start": start_time(os.getpid()), "root": str(self.root),
            "mounts": self.mounts, "loops": self.loops, "cgroups": self.cgroups}))

    def _make_cgroup(self, path):
        path.mkdir(exist_ok=True)
        return path

    def _own_parent(self, path):
        if str(path) not in self.cgroups:
            self.cgroups.append(str(path))
            self._save()
        return self._make_cgroup(path)

    # Services live in culprit-lab-<id>/, which culprit watches; load and culprit itself in culprit-lab-<id>-tools/.
    def cgroup(self, service, tools=False):
        """The unified cgroup of a service and its memory and blkio cgroups (the same one on pure v2 hosts)."""
        parent = f"culprit-lab-{self.id}" + ("-tools" if tools else "")
        unified = unified_root() / parent
        groups = {}
        if self.v2 and not tools:
            have = (unified / "cgroup.controllers").read_text().split()
            wanted = [f"+{name}" for name in ("memory", "io") if name in have]
            (unified / "cgroup.subtree_control").write_text(" ".join(wanted))
        groups["unified"] = self._make_cgroup(unified / service)
        for name in CGROUP_V1:
            base = pathlib.Path("/sys/fs/cgroup") / name
            if self.v2 or tools or not base.is_dir():
                groups[name] = groups["unified"]
            else:
                self._own_parent(base / parent)
                groups[name] = self._make_cgroup(base / parent / service)
        return groups

    def cpu_seconds(self, service, tools=False):
        """CPU time of everything that ever ran in the service's cgroup."""
        stat = (self.cgroup(service, tools)["unified"] / "cpu.stat").read_text()
        return int(dict(line.split() for line in stat.splitlines())["usage_usec"]) / 1e6

    def limit_memory(self, service, limit_bytes):
        memory = self.cgroup(service)["memory"]
        for name in ("memory.max", "memory.limit_in_bytes"):
            if (memory / name).exists():
                (memory / name).write_text(str(limit_bytes))
                return
        self.notes.append(f"no memory controller: '{service}' runs without its limit")

    def port(self):
        """A free port below the range that the kernel hands to clients."""
        for _ in range(200):
            port = random.randrange(21000, 30000)
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
            if port not in self._ports:
                self._ports.add(port)
                return port
        raise RuntimeError("no free port between 21000 and 30000")

    def volume(self, name, size_mb, user):
        """A folder on a small ext4 file system of its own, or a plain folder where loop devices are refused."""
        folder = self.root / name
        folder.mkdir(parents=True)
        image = self.root / f"{name.replace('/', '-')}.img"
        with open(image, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, size_mb << 20)
        try:
            run("mkfs.ext4", "-q", "-m", "0", image)
            try:  # past the page cache, so that what slows the disk below also slows this volume
                device = run("losetup", "--find", "--show", "--direct-io=on", image)
            except RuntimeError:
                device = run("losetup", "--find", "--show", image)
            self.loops.append(device)
            self.mounts.append(str(folder))
            self._save()
            run("mount", "-t", "ext4", device, folder)
        except RuntimeError as error:
            self.notes.append(f"'{name}' is a plain folder, its disk faults are not real: {error}")
        shutil.rmtree(folder / "lost+found", ignore_errors=True)
        shutil.chown(folder, user, -1)
        return folder

    def start(self, service, command, user=None, log=None, env=None, files_max=None, tools=False, stdin=None):
        """Starts a process inside the cgroups of its service. A shell joins the cgroups and becomes the program, so
        the pid is the program's own and nothing of it ever runs outside."""
        groups = sorted({str(group) for group in self.cgroup(service, tools).values()})
        script = "".join(f"echo $$ >{group}/cgroup.procs; " for group in groups)
        if files_max:
            script += f"ulimit -n {files_max}; "
        script += "exec " + (f"setpriv --reuid={user} --regid={user_group(user)} --clear-groups -- " if user else "")
        output = open(log, "ab") if log else subprocess.DEVNULL
        try:
            return subprocess.Popen(["/bin/sh", "-c", script + '"$@"', "sh", *map(str, command)], stdout=output,
                                    stderr=output, stdin=stdin or subprocess.DEVNULL, cwd=str(self.root),
                                    env=dict(os.environ, **(env or {})), start_new_session=True)
        finally:
            if log:
                output.close()

    def close(self):
        remove({"root": str(self.root), "mounts": self.mounts, "loops": self.loops, "cgroups": self.cgroups})
        self.record.unlink(missing_ok=True)


def user_group(user):
    import grp
    import pwd
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def processes_in(cgroup):
    try:
        return [int(pid) for pid in (pathlib.Path(cgroup) / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def remove(record):
    """Kills what lives in the recorded cgroups, then removes mounts, loop devices, cgroups and the folder."""
    # Faults make cgroups of their own below ours, so the tree is walked, deepest first.
    groups = [folder for parent in record["cgroups"] for folder, _, _ in os.walk(parent, topdown=False)]
    for step in range(100):
        alive = {pid for group in groups for pid in processes_in(group)}
        if not alive:
            break
        for pid in alive:
            try:
                # First a chance to end tidily; a stopped process has to be continued to see it.
                os.kill(pid, signal.SIGTERM if step == 0 else signal.SIGCONT if step < 20 else signal.SIGKILL)
            except ProcessLookupError:
                pass
        reap()
        time.sleep(0.1)
    problems = []
    for mount in reversed(record["mounts"]):
        if os.path.ismount(mount) and subprocess.run(["umount", mount], capture_output=True).returncode:
            subprocess.run(["umount", "--lazy", mount], capture_output=True)
    for device in record["loops"]:
        backing = pathlib.Path("/sys/block") / os.path.basename(device) / "loop/backing_file"
        if backing.exists() and backing.read_text().startswith(record["root"]):
            subprocess.run(["losetup", "--detach", device], capture_output=True)
    for group in groups:
        for _ in range(20):  # the kernel lets go of an empty cgroup a moment after its last process
            try:
                os.rmdir(group)
                break
            except FileNotFoundError:
                break
            except OSError as error:
                last = error
                time.sleep(0.1)
        else:
            problems.append(f"{group}: {last.strerror}")
    if any(os.path.ismount(mount) for mount in record["mounts"]):
        problems.append(f"{record['root']}: still mounted below, left in place")
    else:
        shutil.rmtree(record["root"], ignore_errors=True)
    return problems


def reap():
    """Collects children that have ended and that nobody waits for, so that their cgroups become empty."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def leftovers():
    """Records of runs whose owner is gone."""
    found = []
    for file in sorted(RECORDS.glob("*.json")):
        try:
            record = json.loads(file.read_text())
        except (OSError, ValueError):
            continue
        if start_time(record["owner"]) != record["owner_start"]:
            found.append((file, record))
    return found


def clean():
    """Removes what crashed runs left. Returns how many runs were cleaned and what could not be removed."""
    problems = []
    crashed = leftovers()
    for file, record in crashed:
        trouble = remove(record)
        problems += trouble
        if not trouble:
            file.unlink(missing_ok=True)
    return len(crashed), problems
