"""Which folder may include which: the arrows of docs/architecture.md, section 3."""
import pathlib
import re
import sys

# Folder -> what it may include beside itself.
ALLOWED = {
    "daemon/base": set(),
    "daemon/concurrent": {"daemon/base"},
    "daemon/stream": {"daemon/base", "daemon/concurrent"},
    "daemon/logs": {"daemon/base", "daemon/stream"},
    "daemon/sensor": {"daemon/base", "bpf"},
    "daemon/collect": {"daemon/base", "daemon/concurrent", "daemon/stream", "daemon/sensor", "bpf"},
    "daemon/track": {"daemon/base", "daemon/concurrent", "daemon/stream", "bpf"},
    "daemon/ingest": {"daemon/base", "daemon/concurrent", "daemon/stream", "daemon/logs"},
    "daemon/detect": {"daemon/base", "daemon/stream"},
    "daemon/explain": {"daemon/base", "daemon/stream", "daemon/logs", "daemon/detect"},
    "daemon/api": {"daemon/base", "daemon/stream"},
    "graph": {"daemon/base"},
    "embed": {"daemon/base"},
    "rules": {"daemon/base", "daemon/stream", "graph"},
    "daemon/recall": {"daemon/base", "graph", "embed"},
    "ui/cli": {"daemon/base", "daemon/stream", "daemon/logs", "daemon/detect", "daemon/explain", "daemon/recall", "graph", "embed", "rules"},
}
# Where everything may be included: the wiring.
WIRING = ("daemon/app", "daemon/main.cpp")
# The one thing that the sensor's side shares with collect: plain facts and the wire format.
ONLY_HEADERS = {("daemon/collect", "daemon/sensor"): {"facts.h", "protocol.h"}}
INCLUDE = re.compile(r'^\s*#\s*include\s+"((?:daemon|bpf|graph|embed|rules|ui)/[^"]+)"', re.M)


def folder_of(path):
    for folder in (*ALLOWED, "daemon/app", "bpf"):
        if path.startswith(folder + "/"):
            return folder
    return None


def main(root):
    checked, wrong = 0, []
    for file in sorted(p for top in ("daemon", "graph", "embed", "rules", "ui/cli") for p in (root / top).rglob("*") if p.suffix in (".h", ".cpp")):
        name = str(file.relative_to(root))
        if name.startswith(WIRING):
            continue
        folder = folder_of(name)
        if folder is None:
            wrong.append(f"{name}: in a folder that no arrow names")
            continue
        for included in INCLUDE.findall(file.read_text()):
            checked += 1
            target = folder_of(included)
            if target == folder:
                continue
            if target not in ALLOWED[folder]:
                wrong.append(f"{name}: must not include {included}")
            headers = ONLY_HEADERS.get((folder, target))
            if headers and pathlib.Path(included).name not in headers:
                wrong.append(f"{name}: may include only {', '.join(sorted(headers))} of {target}, not {included}")
    print("\n".join(wrong) if wrong else f"{checked} includes follow the arrows")
    return 1 if wrong or checked == 0 else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
