#!/usr/bin/python3
"""The sample tree of packaging/try.sh: files that tell whether they are whole, and writers that keep rewriting them.

    try-sample.py make DIR            makes the files
    try-sample.py write DIR SEED      rewrites and resizes them, each under flock(LOCK_EX), until SIGTERM
    try-sample.py check ARCHIVE...    says how many files of the tar archives are torn; exit status 1 if any is

A file is a number of blocks; each block says of which file, which version and which block of how many it is. A copy is
whole if all of its blocks are there and of one version.
"""
import fcntl
import itertools
import os
import random
import signal
import sys
import tarfile
import time

FILES = 24
BLOCK = 16 * 1024
BLOCKS = range(16, 48)
PAUSE = 0.0002  # seconds between two blocks: nobody's data comes all at once


def block(name, version, number, count):
    head = f"{name} version {version:09} block {number:03} of {count:03}\n".encode()
    return (head * (BLOCK // len(head) + 1))[:BLOCK]


def content(name, version, count):
    return [block(name, version, number, count) for number in range(count)]


def names():
    return [f"file-{number:02}" for number in range(FILES)]


def make(folder):
    for name in names():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(b"".join(content(name, 0, random.choice(BLOCKS))))


def rewrite(folder, name, count):
    """What a well-behaved application does: lock, write (in many write(2)s), cut to size, unlock by closing."""
    fd = os.open(os.path.join(folder, name), os.O_RDWR)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        version = int(os.pread(fd, 100, 0).split()[2]) + 1
        for piece in content(name, version, count):
            os.write(fd, piece)
            time.sleep(PAUSE)
        os.ftruncate(fd, count * BLOCK)
    finally:
        os.close(fd)


def write(folder, seed):
    stopping = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    chance = random.Random(seed)
    parent = os.getppid()
    while not stopping and os.getppid() == parent:
        rewrite(folder, chance.choice(names()), chance.choice(BLOCKS))
        time.sleep(0.001)


def flaw(name, data):
    """Why the copy is not whole, or None."""
    blocks = [data[start : start + BLOCK] for start in range(0, len(data), BLOCK)]
    if not blocks:
        return "empty"
    try:
        stamps = [(int(head[2]), int(head[6])) for head in (piece[:100].split() for piece in blocks)]
    except (IndexError, ValueError):
        return f"{len(blocks)} blocks, some of them nothing that was ever written"
    runs = [(stamp, len(list(group))) for stamp, group in itertools.groupby(stamps)]
    if len(runs) > 1:
        return ", then ".join(f"{length} block{'s' * (length > 1)} of version {version}" for (version, _), length in runs)
    version, count = stamps[0]
    if blocks != content(name, version, count):
        return f"{len(blocks)} blocks of version {version}, which has {count}"
    return None


def check(archives):
    files, flaws = 0, []
    for archive in archives:
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile():
                    files += 1
                    name = os.path.basename(member.name)
                    if reason := flaw(name, tar.extractfile(member).read()):
                        flaws.append(f"{name}: {reason}")
    print(f"{files} files, {len(flaws)} torn" + (f"; for example {min(flaws, key=len)}" if flaws else ""))
    return 1 if flaws else 0


def main():
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    action, *arguments = sys.argv[1:]
    if action == "make":
        make(*arguments)
    elif action == "write":
        write(*arguments)
    elif action == "check":
        return check(arguments)
    return 0


sys.exit(main())
