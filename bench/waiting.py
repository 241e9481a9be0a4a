"""Workloads in which somebody waits for a lock. On the source itself the programs ask for it with flock(2)."""
import os

from workloads import Sample, Workload, ask


def how_it_locks(view):
    return "flock" if view.column == "plain" else "open"


class Waiting(Workload):
    """Many opens of one file that is locked in the source. The value: from the unlock until the last has its lock."""

    columns = ("plain", "flockfs", "nopass")
    unit, per = "ms", "waiter"

    def __init__(self, name, title, mode):
        super().__init__(name, title)
        self.mode = mode

    def prepare(self, source):
        source.need("lock")

    def run(self, source, view, number):
        sizes = source.sizes
        got = ask(view, "wait", source.path("lock", "waited-for"), os.path.join(view.root, "lock", "waited-for"),
                  os.path.join(view.root, "lock", "unrelated"), self.mode, sizes.waiters, sizes.stats, view.pid,
                  how_it_locks(view))
        got["stat_ratio"] = got["stat_us"] / got["idle_stat_us"]
        return Sample(got.pop("last_grant_ms"), got.pop("waiters"), got)


class Stall(Workload):
    """How long flock(LOCK_EX) in the source takes while one client reads a file of 1 MiB over and over."""

    unit, per = "ms", "pass"

    def prepare(self, source):
        source.need("lock")

    def run(self, source, view, number):
        got = ask(view, "stall", source.path("lock", "megabyte"), os.path.join(view.root, "lock", "megabyte"), 1,
                  source.sizes.stalls, how_it_locks(view))
        return Sample(got["median_ms"], got["passes"], {
            "p99_ms": got["p99_ms"], "most_ms": got["most_ms"], "passes_per_s": got["passes"] / got["seconds"]})
