#!/usr/bin/env python3
"""kernels.py: the kernel tests on other kernels than this machine's, each in a virtual machine of its own.

  ./dev kernels [VERSION...] [--json] [--list]

Debian's own kernel packages are fetched with apt into build/kernels (nothing of the machine's apt changes), unpacked, and
booted by QEMU (KVM where it works, else its emulator) with an initramfs made of busybox, our programs and the libraries
they need. The guest has cgroup v2 only, as every current distribution. It runs the tests labelled bpf, then starts
culpritd and asks `culprit doctor`. VERSION is the beginning of a kernel's version (6.1) or `newest`; without one: the
oldest that is supported, the one of Debian 13 and the newest that Debian builds.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build/kernels"
META = "linux-image-cloud-amd64"  # the kernel for virtual machines: small, same options for BPF, BTF and tracing
SUITES = ("bookworm", "bookworm-backports", "trixie", "trixie-backports", "sid")
DEFAULT = ("6.1", "6.12", "newest")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
GUEST_MB = 1536
BOOT_S_MAX = 900  # emulated guests on a busy machine are slow; a kernel that hangs must still end

# A root of its own: the first one has no size, so that nothing about its free space can be told.
FIRST_INIT = """#!/bin/busybox sh
/bin/busybox mkdir /root-to-be
/bin/busybox mount -t tmpfs tmpfs /root-to-be
cd /
for entry in *; do [ "$entry" = root-to-be ] || /bin/busybox cp -a "$entry" /root-to-be/; done
exec /bin/busybox switch_root /root-to-be /second-init
"""

INIT = """#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /tmp /run
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpffs /sys/fs/bpf
mount -t tracefs tracefs /sys/kernel/tracing
echo '+memory +cpu +io +pids' >/sys/fs/cgroup/cgroup.subtree_control
ip link set lo up
echo "kernels: release $(uname -r)"
export CULPRIT_REQUIRE_BPF=1
@TESTS@
@CULPRITD@ --state /tmp/state --socket /tmp/culprit.sock --port 0 --user nobody >/tmp/daemon.log 2>&1 &
daemon=$!
for i in $(seq 60); do [ -S /tmp/culprit.sock ] && break; sleep 1; done
sleep 3
@CULPRIT@ --socket /tmp/culprit.sock doctor; echo "kernels: end doctor $?"
kill $daemon; wait $daemon; echo "kernels: end culpritd $?"
cat /tmp/daemon.log
echo "kernels: done"
sync
poweroff -f
"""


def die(message, hint=""):
    print(f"kernels: {message}" + (f"\n         {hint}" if hint else ""), file=sys.stderr)
    sys.exit(1)


def say(message):
    print(message, file=sys.stderr, flush=True)


def run(command, **options):
    done = subprocess.run(command, capture_output=True, text=True, **options)
    if done.returncode != 0:
        die(f"'{' '.join(map(str, command[:3]))} …' failed: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout


# ---- packages ----

def apt_options():
    return ["-o", f"Dir::Etc::sourcelist={WORK}/apt/debian.sources", "-o", "Dir::Etc::sourceparts=-", "-o", f"Dir::State={WORK}/apt/state",
            "-o", f"Dir::Cache={WORK}/apt/cache", "-o", "APT::Sandbox::User=root", "-o", "APT::Architecture=amd64"]


def debian_mirror(given):
    if given:
        return given
    uris = run(["apt-get", "indextargets", "--format", "$(ORIGIN)|$(CODENAME)|$(REPO_URI)"])
    for line in uris.splitlines():
        origin, codename, uri = line.split("|", 2)
        if origin == "Debian" and codename in ("bookworm", "trixie"):
            return uri
    die("no Debian source in /etc/apt to take kernels from", "name one: ./dev kernels --mirror URL")


def update_index(mirror):
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (WORK / "apt" / folder).mkdir(parents=True, exist_ok=True)
    (WORK / "apt/debian.sources").write_text(f"Types: deb\nURIs: {mirror}\nSuites: {' '.join(SUITES)}\nComponents: main\n"
                                             f"Architectures: amd64\nSigned-By: {KEYRING}\n")
    lists = WORK / "apt/state/lists"
    packages = list(lists.glob("*_Packages*"))
    if packages and time.time() - max(path.stat().st_mtime for path in packages) < 86_400:
        return
    say("kernels: reading Debian's package lists")
    run(["apt-get", *apt_options(), "update", "-q"])
    for path in lists.glob("*_Packages*"):
        os.utime(path)


def available():
    """Package versions of the meta-package, newest kernel first."""
    versions = {line.split("|")[1].strip() for line in run(["apt-cache", *apt_options(), "madison", META]).splitlines()}
    return sorted(versions, key=lambda v: [int(n) for n in re.findall(r"\d+", v.split("-")[0])], reverse=True)


def image_packages(version):
    """The packages that this version of the meta-package stands for; since 7.0 vmlinuz is in one that the image depends on."""
    found = []
    waiting = [(META, version)]
    while waiting:
        name, wanted = waiting.pop()
        shown = run(["apt-cache", *apt_options(), "show", f"{name}={wanted}"])
        depends = re.search(r"^Depends: (.*)$", shown, re.M)
        for package in re.findall(r"(linux-(?:image|binary)-\d\S*) \(= (\S+)\)", depends.group(1)) if depends else []:
            waiting.append(package)
            found.append("=".join(package))
    return found


def fetch(version):
    """vmlinuz of one version: /boot of the image package, or since 7.0 beside the modules of another."""
    image = WORK / "images" / version / "vmlinuz"
    if image.exists():
        return image
    unpacked = image.parent / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir(parents=True)
    packages = image_packages(version)
    if not packages:
        die(f"{META} {version} depends on no image")
    say(f"kernels: fetching {packages[-1]}")
    run(["apt-get", *apt_options(), "download", "-q", *packages], cwd=unpacked)
    for package in unpacked.glob("*.deb"):
        run(["dpkg-deb", "-x", package, unpacked])
    found = [path for path in unpacked.rglob("vmlinuz*") if path.is_file() and not path.is_symlink()]
    if len(found) != 1:
        die(f"{' '.join(packages)} hold {len(found)} files vmlinuz*, not one")
    found[0].rename(image)
    shutil.rmtree(unpacked)  # modules and documents: what the tests need is built in
    return image


# ---- initramfs ----

def libraries(program):
    """What the dynamic linker would load, with itself."""
    found = []
    for line in run(["ldd", program]).splitlines():
        if "not found" in line:
            die(f"'{program}' lacks a library: {line.strip()}", "./dev build release")
        match = re.search(r"(/\S+) \(0x", line)
        if match:
            found.append(match.group(1))
    return found


def make_initramfs(programs, tests, test_filter):
    root = WORK / "root"
    shutil.rmtree(root, ignore_errors=True)
    for folder in ("bin", "proc", "sys", "dev", "root", "etc", "sbin", "usr/bin"):
        (root / folder).mkdir(parents=True)
    busybox = next((p for p in ("/bin/busybox", "/usr/bin/busybox") if os.path.exists(p)), None)
    if busybox is None:
        die("busybox is missing", "sudo apt-get install busybox-static")
    shutil.copy(busybox, root / "bin/busybox")
    (root / "bin/sh").symlink_to("busybox")
    wanted = {str(path) for path in [*programs, *tests]}
    for path in list(wanted):
        wanted.update(libraries(path))
    for path in sorted(wanted):
        # At its own path: a test knows where its sensor was built.
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
        subprocess.run(["strip", "--strip-debug", target], capture_output=True, check=False)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n")
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    lines = "\n".join(f"{path} --gtest_color=no --gtest_filter='{test_filter}'; echo 'kernels: end {path.name} '$?" for path in tests)
    by_name = {path.name: path for path in programs}
    second = INIT.replace("@TESTS@", lines).replace("@CULPRITD@", str(by_name["culpritd"])).replace("@CULPRIT@", str(by_name["culprit"]))
    for name, text in (("init", FIRST_INIT), ("second-init", second)):
        (root / name).write_text(text)
        (root / name).chmod(0o755)
    archive = WORK / "initramfs.cpio"
    names = "\0".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with open(archive, "wb") as out:
        subprocess.run(["cpio", "--null", "--create", "--format=newc", "--quiet", "--owner=0:0"], cwd=root, input=names.encode(), stdout=out, check=True)
    shutil.rmtree(root)
    return archive


# ---- one machine ----

def accelerator():
    """KVM needs the processor's own virtualisation: a nested /dev/kvm without it boots no ordinary kernel."""
    flags = re.search(r"^flags\s*:.*\b(vmx|svm)\b", Path("/proc/cpuinfo").read_text(), re.M)
    # One thread: with several, QEMU 7.2 goes on executing code that another processor has patched. A guest that
    # attaches to a tracepoint of all system calls then hangs at the jump in syscall_trace_enter.
    return "kvm" if flags and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg,thread=single"


def boot(image, initramfs, log):
    command = ["qemu-system-x86_64", "-accel", accelerator(), "-cpu", "max", "-smp", "2", "-m", str(GUEST_MB),
               "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", f"file:{log}", "-kernel", str(image), "-initrd", str(initramfs),
               "-append", "console=ttyS0 quiet loglevel=3 panic=-1 rdinit=/init"]
    started = time.monotonic()
    machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, trouble = machine.communicate(timeout=BOOT_S_MAX)
    except subprocess.TimeoutExpired:
        machine.kill()
        machine.communicate()
        return time.monotonic() - started, f"not done after {BOOT_S_MAX} s"
    if machine.returncode != 0:
        return time.monotonic() - started, f"qemu ended with {machine.returncode}: {trouble.strip()[-300:]}"
    return time.monotonic() - started, None


PROGRAM = re.compile(r"^(\w+) +(on_\w+) +(\d+) instructions ?(.*)$")


def read_log(text):
    """What the guest said on its console."""
    result = {"release": None, "programs": [], "passed": 0, "failed": [], "skipped": [], "ends": {}}
    for line in text.replace("\r", "").splitlines():
        if line.startswith("kernels: release "):
            result["release"] = line.split()[-1]
        elif match := re.match(r"kernels: end (\S+) (\d+)", line):
            result["ends"][match.group(1)] = int(match.group(2))
        elif match := PROGRAM.match(line):
            family, name, instructions, reason = match.groups()
            result["programs"].append({"family": family, "program": name, "instructions": int(instructions), "skipped": reason})
        elif re.match(r"\[ +OK \]", line):
            result["passed"] += 1
        elif match := re.match(r"\[ +(FAILED|SKIPPED) +\] (\S+?),? .*\(\d+ ms\)$", line):
            result["failed" if match.group(1) == "FAILED" else "skipped"].append(match.group(2))
    result["complete"] = "kernels: done" in text
    return result


def judge(result, tests, trouble):
    """Why this kernel does not pass, or nothing."""
    if trouble:
        return trouble
    if not result["complete"]:
        return "the guest did not come to its end"
    bad = [f"{path.name} ended with {result['ends'].get(path.name)}" for path in tests if result["ends"].get(path.name) != 0]
    if result["passed"] == 0:
        bad.append("no test ran")
    if result["ends"].get("culpritd") != 0:
        bad.append(f"culpritd ended with {result['ends'].get('culpritd')}")
    return "; ".join(bad) or None


def refused(program):
    """Programs that are only attached while somebody asks for them are verified, but idle."""
    return bool(program["skipped"]) and not program["skipped"].startswith("only while wanted")


def print_table(results):
    names = [f"{p['family']} {p['program']}" for r in results for p in r["programs"]]
    names = list(dict.fromkeys(names))
    width = max([len(n) for n in names] + [20])
    column = max(len(r["release"] or r["kernel"]) for r in results) + 2
    print(f"{'verified instructions':<{width}}" + "".join(f"{r['release'] or r['kernel']:>{column}}" for r in results))
    for name in names:
        cells = []
        for r in results:
            found = [p for p in r["programs"] if f"{p['family']} {p['program']}" == name]
            cells.append("-" if not found else "refused" if refused(found[0]) else str(found[0]["instructions"]))
        print(f"{name:<{width}}" + "".join(f"{cell:>{column}}" for cell in cells))
    for r in results:
        for p in r["programs"]:
            if refused(p):
                print(f"{r['release']}: {p['program']} refused: {p['skipped']}")
    for r in results:
        verdict = "passed" if r["trouble"] is None else f"FAILED: {r['trouble']}"
        print(f"{r['release'] or r['kernel']}: {r['passed']} tests passed, {len(r['failed'])} failed, {len(r['skipped'])} skipped, {r['seconds']} s: {verdict}")
        for name in r["failed"]:
            print(f"    {name}")
        print(f"    console: {r['log']}")


def main():
    parser = argparse.ArgumentParser(prog="./dev kernels", description="Run the kernel tests on Debian's kernels, in QEMU.")
    parser.add_argument("versions", nargs="*", metavar="VERSION", help="beginning of a kernel's version (6.1), or newest; default: " + " ".join(DEFAULT))
    parser.add_argument("--mirror", help="Debian mirror to take kernels from (default: the one of /etc/apt)")
    parser.add_argument("--list", action="store_true", help="list the kernels that can be had")
    parser.add_argument("--json", action="store_true", help="print one JSON object a kernel")
    parser.add_argument("--filter", default="*", metavar="PATTERN", help="only these tests, as GoogleTest's filter takes them")
    parser.add_argument("--fetch", action="store_true", help="only fetch the kernels")
    parser.add_argument("--bin", type=Path, default=ROOT / "build/release", help="build folder to take programs and tests from")
    given = parser.parse_args()
    if os.uname().machine != "x86_64":
        die("the matrix is made for x86-64 guests and hosts")
    for tool, package in (("qemu-system-x86_64", "qemu-system-x86"), ("cpio", "cpio"), ("dpkg-deb", "dpkg")):
        if shutil.which(tool) is None:
            die(f"'{tool}' is missing", f"sudo apt-get install --no-install-recommends {package}")
    update_index(debian_mirror(given.mirror))
    versions = available()
    if given.list:
        print("\n".join(versions))
        return 0
    chosen = []
    for wanted in given.versions or DEFAULT:
        fits = [v for v in versions if wanted == "newest" or v == wanted or v.startswith(wanted + ".")]
        if not fits:
            die(f"no kernel '{wanted}'", "there are: " + " ".join(versions))
        if fits[0] not in chosen:
            chosen.append(fits[0])
    images = [fetch(version) for version in chosen]
    if given.fetch:
        return 0
    programs = [given.bin / "bin" / name for name in ("culpritd", "culprit-sensor", "culprit")]
    tests = sorted(path for path in (given.bin / "tests").glob("*bpf*") if path.is_file() and os.access(path, os.X_OK))
    missing = [str(path) for path in programs if not path.exists()]
    if missing or not tests:
        die(f"not built: {' '.join(missing) or 'the bpf tests'}", "./dev build release")
    initramfs = make_initramfs([path.resolve() for path in programs], [path.resolve() for path in tests], given.filter)
    results = []
    for version, image in zip(chosen, images):
        log = WORK / f"{version}.log"
        log.unlink(missing_ok=True)
        say(f"kernels: {version} …")
        seconds, trouble = boot(image, initramfs, log)
        text = log.read_text(errors="replace") if log.exists() else ""
        result = {"kernel": version, **read_log(text), "seconds": round(seconds), "log": str(log.relative_to(ROOT))}
        result["trouble"] = judge(result, tests, trouble)
        results.append(result)
        if given.json:
            print(json.dumps(result), flush=True)
    if not given.json:
        print_table(results)
    return 0 if all(r["trouble"] is None for r in results) else 1


if __name__ == "__main__":
    sys.exit(main())
