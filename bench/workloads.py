"""What is measured: each workload is one thing done once, below the root of whichever view it is given."""
import json
import os
from dataclasses import dataclass, field

import peers
from processes import run, timed
from source import FEW_FILES, MANY_IN_DIRECTORY, MANY_SLICES, SMALL_IN_DIRECTORY

DEADLINE = 600
NO_LIMIT_MS = 600_000
OWN_DESCRIPTORS = 200
NAMES_AND_INODES, EVERYTHING = "2", "3"  # for /proc/sys/vm/drop_caches


@dataclass
class Sample:
    value: float
    done: float = 0  # files, or MiB, or operations: what the daemon's cost is divided by
    extra: dict = field(default_factory=dict)


class Workload:
    """unit: of the value; higher is better of rates, lower of times. per: what `done` counts."""

    columns = peers.EVERYWHERE
    unit, per = "s", "file"
    counted = False  # whether requests per file are a figure of it
    counted_again = True  # and of a second run
    few_rounds = True
    warm = True  # one unmeasured run of each column first

    def __init__(self, name, title):
        self.name = name
        self.title = title

    @property
    def higher_is_better(self):
        return "/s" in self.unit

    def descriptors(self, sizes):
        """That passthrough_hp needs at most: one for each file and directory that it comes to know."""
        return sizes.small_files + sizes.small_files // SMALL_IN_DIRECTORY + OWN_DESCRIPTORS

    def rounds(self, sizes):
        return sizes.rounds if self.few_rounds else sizes.io_rounds

    def prepare(self, source):
        """Once, before anything is mounted."""

    def before_round(self, source):
        """Outside the time, before each round; the first time before the unmeasured one."""

    def before(self, source, view, number):
        """Outside the time. number: of the run of this view."""

    def run(self, source, view, number):
        raise NotImplementedError


def drop_caches(what):
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write(what)


def ask(view, *words):
    """Runs one of bench-workload's loops and returns its figures."""
    return json.loads(run([view.programs.workload, *words], DEADLINE))


class OpenReadClose(Workload):
    columns = (*peers.EVERYWHERE, "rw-3600", "ro-3600")
    unit, counted = "files/s", True

    def __init__(self, name, title, part, processes, per_directory):
        super().__init__(name, title)
        self.part, self.processes, self.per_directory = part, processes, per_directory

    def prepare(self, source):
        source.need(self.part)

    def slice(self, source, number):
        return 0, source.sizes.small_files

    def run(self, source, view, number):
        first, files = self.slice(source, number)
        limit = NO_LIMIT_MS if view.counting and self.counted_again else source.sizes.limit_ms
        got = ask(view, "open-read-close", os.path.join(view.root, self.part), first, files, self.per_directory,
                  self.processes, limit)
        return Sample(got["files"] / got["seconds"], got["files"])


class OpenMany(OpenReadClose):
    """Every round another fifth of the tree, so that no file is opened that was open a moment ago."""

    columns = peers.EVERYWHERE
    warm = False  # the walk over the whole tree has been that
    counted_again = False

    def descriptors(self, sizes):
        return sizes.many_files + sizes.many_files // MANY_IN_DIRECTORY + OWN_DESCRIPTORS

    def slice(self, source, number):
        files = source.sizes.many_files // MANY_SLICES
        return number % MANY_SLICES * files, files


class OpenFew(OpenReadClose):
    """The same as the large tree, with 1,000 files: after the kernel has forgotten the names, as there."""

    columns = ("plain", "flockfs", "hp")
    few_rounds = False
    counted = False

    def slice(self, source, number):
        return 0, FEW_FILES

    def before_round(self, source):
        run(["sleep", "1.2"], DEADLINE)


class BigFile(Workload):
    unit, per = "MiB/s", "MiB"

    def __init__(self, name, title, loop, step):
        super().__init__(name, title)
        self.loop, self.step = loop, step
        self.few_rounds = "write" in loop  # each takes a sync of all of the file

    def prepare(self, source):
        source.need("big")

    def before_round(self, source):
        """Reads find every page in memory; writes find every page dirty already, so that nobody pays for the first."""
        path, size = source.path("big"), source.sizes.big_bytes
        workload = "write" if self.few_rounds else "read"
        if workload == "write":
            run(["sync", path], DEADLINE)
        run([source.workload, workload, path, size, 1 << 20, 60_000], DEADLINE)

    def run(self, source, view, number):
        words = [self.loop, os.path.join(view.root, "big"), source.sizes.big_bytes]
        got = ask(view, *words, *([] if self.loop == "mmap-read" else [self.step, source.sizes.limit_ms]))
        mib = got["bytes"] / (1 << 20)
        return Sample(mib / got["seconds"], mib)


class Tar(Workload):
    columns = (*peers.EVERYWHERE, "rw-3600", "ro", "ro-3600", "preload")
    counted = True

    def prepare(self, source):
        source.need("small")

    def run(self, source, view, number):
        command = ["tar", "-C", os.path.join(view.root, "small"), "-cf", "-", "."]
        return Sample(timed(command, DEADLINE, env=view.env, drain=True), source.sizes.small_files)


class Rsync(Workload):
    columns = (*peers.EVERYWHERE, "rw-3600", "ro", "ro-3600", "preload")
    counted = True

    def prepare(self, source):
        source.need("small")

    def run(self, source, view, number):
        command = ["rsync", "-a", os.path.join(view.root, "small") + "/", source.copy + "/"]
        return Sample(timed(command, DEADLINE, env=view.env), source.sizes.small_files)


class RsyncFirst(Rsync):
    """Of a quarter of the directories: writing the copies takes most of the time, and that is the same for all."""

    columns = (*peers.EVERYWHERE, "ro", "preload")
    counted_again = False

    def before_round(self, source):
        run(["sync"], DEADLINE)

    def before(self, source, view, number):
        self.target = source.path(source.fresh("copies"))

    def run(self, source, view, number):
        quarter = source.sizes.small_files // SMALL_IN_DIRECTORY // 4
        directories = [os.path.join(view.root, "small", f"d{index:04}") for index in range(quarter)]
        command = ["rsync", "-a", *directories, self.target + "/"]
        return Sample(timed(command, DEADLINE, env=view.env), quarter * SMALL_IN_DIRECTORY)


class RsyncSecond(Rsync):
    """What it finds to be done already was copied from the source itself."""

    def prepare(self, source):
        super().prepare(source)
        run(["rsync", "-a", source.path("small") + "/", source.copy + "/"], DEADLINE)


class Find(Workload):
    columns = (*peers.EVERYWHERE, "rw-3600", "ro", "ro-3600")
    counted = True

    def prepare(self, source):
        source.need("small")

    def run(self, source, view, number):
        return Sample(timed(["find", os.path.join(view.root, "small"), "-ls"], DEADLINE), source.sizes.small_files)


class FindCold(Find):
    counted, warm = False, False

    def before(self, source, view, number):
        run(["sync"], DEADLINE)
        drop_caches(EVERYTHING)


class Untar(Workload):
    counted, counted_again = True, False

    def prepare(self, source):
        source.need("archive")

    def before_round(self, source):
        """What passthrough_hp has made in one round it must forget before the next, or it has too many open."""
        run(["sync"], DEADLINE)
        drop_caches(NAMES_AND_INODES)

    def before(self, source, view, number):
        self.target = source.fresh("untar")

    def run(self, source, view, number):
        command = ["tar", "-C", os.path.join(view.root, self.target), "-xf", source.archive]
        return Sample(timed(command, DEADLINE), source.sizes.small_files)


class RoundTrip(Workload):
    """A statx(2) that no cache answers: what any request costs at least. Of the first two columns, a system call."""

    unit, per, few_rounds = "us", "request", False

    def prepare(self, source):
        source.need("lock")

    def run(self, source, view, number):
        times = source.sizes.stats * 10
        got = ask(view, "stat", os.path.join(view.root, "lock", "unrelated"), times)
        return Sample(got["median_us"], times, {"p99_us": got["p99_us"]})
