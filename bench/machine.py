"""What the figures were measured on."""
import os
import re
import time

from processes import BenchError, run

MEMORY_FULL_MIB = 12_000


def first_match(path, pattern):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            found = re.search(pattern, file.read(), re.M)
    except OSError:
        return "unknown"
    return found.group(1).strip() if found else "unknown"


def said_by(*command):
    try:
        return run(command, 20).strip()
    except (BenchError, OSError):
        return "unknown"


def memory_mib():
    return int(first_match("/proc/meminfo", r"^MemAvailable:\s+(\d+)")) // 1024


def describe(root, work, programs, columns):
    facts = {
        "commit": said_by("git", "-c", "safe.directory=*", "-C", root, "describe", "--always", "--dirty"),
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "cpu": first_match("/proc/cpuinfo", r"^model name\s*:\s*(.*)$"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_available_mib": memory_mib(),
        "kernel": os.uname().release,
        "system": first_match("/etc/os-release", r'^PRETTY_NAME="?([^"\n]*)'),
        "file_system": said_by("stat", "-f", "-c", "%T", work),
        "flockfs": said_by(programs.flockfs, "--version").partition("\n")[0],
        "load_at_start": os.getloadavg()[0],
    }
    if "bindfs" in columns:
        facts["bindfs"] = said_by(programs.bindfs, "--version").partition("\n")[0]
    return facts
