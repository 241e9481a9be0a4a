"""The ratios that flockfs is held to, all of one run."""
from dataclasses import dataclass
from typing import Callable, Optional

from source import SMALL_IN_DIRECTORY

FASTER, SLOWER = "at least", "at most"


@dataclass
class Target:
    text: str
    bound: float
    kind: str  # FASTER: the ratio is at least the bound; SLOWER: at most
    ratio: Callable  # of all results; KeyError: something of it was not measured


@dataclass
class Verdict:
    text: str
    bound: float
    kind: str
    ratio: Optional[float]  # None: not measured

    @property
    def passed(self):
        if self.ratio is None:
            return None
        return self.ratio >= self.bound if self.kind == FASTER else self.ratio <= self.bound


def speed(results, workloads, name, column):
    value = results[name][column].median
    return value if workloads[name].higher_is_better else 1 / value


def compared(workloads, text, name, columns, bound, kind):
    """How fast the first column is to the second (FASTER), or how long it takes to it (SLOWER)."""
    one, other = columns

    def ratio(results):
        faster = speed(results, workloads, name, one) / speed(results, workloads, name, other)
        return faster if kind == FASTER else 1 / faster

    return Target(f"{text} ({one} to {other})", bound, kind, ratio)


def requests(series, *opcodes):
    if not series.first:
        raise KeyError("not counted")
    return sum(series.first.get(opcode, 0) for opcode in opcodes)


def transfers(workloads):
    for name in ("read-1m", "read-4k", "random-read", "write-1m", "write-4k", "random-write"):
        yield compared(workloads, workloads[name].title, name, ("flockfs", "bind"), 0.95, FASTER)


# passthrough_hp has the kernel keep names and attributes for a day, flockfs for a second unless told otherwise: what
# depends on that is compared both ways.
KEEPING = ("rw-3600", "flockfs")


def small_files(workloads):
    for name in ("open-1", "open-4"):
        for column in KEEPING:
            yield compared(workloads, workloads[name].title, name, (column, "hp"), 1.5, FASTER)
        yield compared(workloads, workloads[name].title, name, ("flockfs", "bindfs"), 5, FASTER)
    yield compared(workloads, "tar to a pipe", "tar", ("ro", "hp"), 2.5, FASTER)
    yield compared(workloads, "tar to a pipe, time", "tar", ("ro", "preload"), 3.5, SLOWER)
    yield compared(workloads, "tar to a pipe", "tar", ("flockfs", "hp"), 1.6, FASTER)
    for name in ("find-warm", "find-cold", "rsync-second"):
        for column in KEEPING:
            yield compared(workloads, workloads[name].title + ", time", name, (column, "hp"), 1.1, SLOWER)
    yield compared(workloads, "untar", "untar", ("flockfs", "hp"), 1.2, FASTER)


def round_trips():
    # What a directory costs is no cost of a file: a lookup and a few more for each.
    directories = 3 / SMALL_IN_DIRECTORY
    rest = ("lookup", "getattr", "statx", "flush", "read", "getxattr", "listxattr")
    yield Target("tar, ro-3600: LOOKUP, GETATTR, FLUSH, READ, xattr requests a file", directories, SLOWER,
                 lambda results: requests(results["tar"]["ro-3600"], *rest))
    yield Target("tar, ro-3600: OPEN and RELEASE requests a file", 2.001, SLOWER,
                 lambda results: requests(results["tar"]["ro-3600"], "open", "release"))
    yield Target("tar, ro: LOOKUP requests a file", 1 + directories, SLOWER,
                 lambda results: requests(results["tar"]["ro"], "lookup"))


def locks_on_and_off(workloads):
    for name in ("open-1", "open-4", "tar"):
        yield compared(workloads, "locks on against off: " + name, name, ("flockfs", "nolock"), 0.95, FASTER)


def waits():
    for name in ("wait-shared", "wait-exclusive"):
        yield Target(f"an unrelated stat during {name}, to the idle one", 2, SLOWER,
                     lambda results, name=name: results[name]["flockfs"].extra_median("stat_ratio"))
    for name, bound in (("wait-shared", 100), ("wait-exclusive", 1000)):
        yield Target(f"{name}: ms from the release to the last grant", bound, SLOWER,
                     lambda results, name=name: results[name]["flockfs"].median)
        yield Target(f"{name}: the daemon's wake-ups a waiter, without those to read requests", 1, SLOWER,
                     lambda results, name=name: results[name]["flockfs"].extra_median("other_wakeups_per_waiter"))


def sizes():
    yield Target("time per empty file of a large tree, to that of 1,000 files", 1.1, SLOWER,
                 lambda results: results["few"]["flockfs"].median / results["many-1"]["flockfs"].median)


def verdicts(results, workloads):
    for target in (*transfers(workloads), *small_files(workloads), *round_trips(), *locks_on_and_off(workloads),
                   *waits(), *sizes()):
        try:
            ratio = target.ratio(results)
        except KeyError:
            ratio = None
        yield Verdict(target.text, target.bound, target.kind, ratio)
