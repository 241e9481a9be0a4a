"""All workloads, in the order in which they run. Those of one group share their mounts."""
from dataclasses import dataclass

from source import MANY_IN_DIRECTORY, SMALL_IN_DIRECTORY
from waiting import Stall, Waiting
from workloads import (BigFile, Find, FindCold, OpenFew, OpenMany, OpenReadClose, RoundTrip, RsyncFirst, RsyncSecond,
                       Tar, Untar)


@dataclass
class Group:
    workloads: list
    walk: str = ""  # a part of the source that every view is made to know before anything is measured
    last_use: str = ""  # a part of the source that nothing after this needs


def small(name, title, processes):
    return OpenReadClose(name, title, "small", processes, SMALL_IN_DIRECTORY)


def many(name, title, processes):
    return OpenMany(name, title, "many", processes, MANY_IN_DIRECTORY)


GROUPS = [
    Group([RoundTrip("round-trip", "statx(2) that no cache answers")]),
    Group([small("open-1", "open-read-close of files of 16 KiB, 1 process", 1),
           small("open-4", "open-read-close of files of 16 KiB, 4 processes", 4)]),
    Group([BigFile("read-1m", "sequential read in 1 MiB steps", "read", 1 << 20),
           BigFile("read-4k", "sequential read in 4 KiB steps", "read", 4096),
           BigFile("random-read", "random reads of 4 KiB", "random-read", 4096),
           BigFile("mmap-read", "read through mmap(2)", "mmap-read", 0)]),
    Group([BigFile("write-1m", "sequential write in 1 MiB steps", "write", 1 << 20),
           BigFile("write-4k", "sequential write in 4 KiB steps", "write", 4096),
           BigFile("random-write", "random writes of 4 KiB", "random-write", 4096)], last_use="big"),
    Group([Tar("tar", "tar to a pipe")]),
    Group([RsyncFirst("rsync-first", "rsync -a to an empty directory")]),
    Group([RsyncSecond("rsync-second", "rsync -a with nothing left to do")]),
    Group([Find("find-warm", "find -ls, warm")]),
    Group([FindCold("find-cold", "find -ls, kernel's caches dropped")]),
    Group([Untar("untar", "tar -xf of files of 16 KiB")]),
    Group([Waiting("wait-shared", "waiting opens for reading", "shared"),
           Waiting("wait-exclusive", "waiting opens for writing", "exclusive")]),
    Group([Stall("stall", "a writer's wait while one client reads")]),
    Group([OpenFew("few", "open-read-close of 1,000 empty files", "few", 1, MANY_IN_DIRECTORY)]),
    Group([many("many-1", "open-read-close of many empty files, 1 process", 1),
           many("many-4", "open-read-close of many empty files, 4 processes", 4)], walk="many", last_use="many"),
]


def names():
    return [workload.name for group in GROUPS for workload in group.workloads]


def chosen(only):
    """The groups with what `only` names; all of it if that is empty."""
    for group in GROUPS:
        workloads = [workload for workload in group.workloads if not only or workload.name in only]
        if workloads:
            yield Group(workloads, group.walk, group.last_use)
