"""The source tree that everything is measured on, and how large it is."""
import os
import shutil
from dataclasses import dataclass

from peers import NOTHING
from processes import run

DEADLINE = 300
MANY_SLICES = 5  # rounds of the large tree: each opens another part of it


@dataclass(frozen=True)
class Sizes:
    rounds: int
    io_rounds: int  # of what takes less than a second
    small_files: int
    small_bytes: int
    many_files: int
    big_bytes: int
    waiters: int
    stats: int  # for a latency
    stalls: int
    limit_ms: int  # a loop over files or steps ends here, and its rate is that of what it did


FULL = Sizes(rounds=5, io_rounds=7, small_files=20_000, small_bytes=16_384, many_files=1_000_000, big_bytes=1 << 30,
             waiters=1_000, stats=2_000, stalls=300, limit_ms=3_000)
QUICK = Sizes(rounds=3, io_rounds=3, small_files=2_000, small_bytes=16_384, many_files=20_000, big_bytes=1 << 26,
              waiters=200, stats=200, stalls=50, limit_ms=500)

SMALL_IN_DIRECTORY = 100
MANY_IN_DIRECTORY = 1_000
FEW_FILES = 1_000


class Source:
    """Makes each part when it is first asked for. All paths are relative to the root, so that every view has them."""

    def __init__(self, root, sizes, workload):
        self.root = root
        self.sizes = sizes
        self.workload = workload
        self._made = set()
        self._fresh = 0
        os.makedirs(os.path.join(root, NOTHING))

    def path(self, *parts):
        return os.path.join(self.root, *parts)

    def need(self, part):
        """small, many, few: trees. big: one file. lock: files to lock. archive: a tar file, beside the source."""
        if part not in self._made:
            getattr(self, "_make_" + part)()
            self._made.add(part)
        return part

    @property
    def archive(self):
        return self.root + ".tar"

    @property
    def copy(self):
        """Beside the source: where copies of it are made."""
        return self.root + ".copy"

    def fresh(self, *parent):
        """A new empty directory below parent, relative to the root, kept to the end of the run: ext4 is slow to make
        files for minutes after many have been removed."""
        self._fresh += 1
        path = os.path.join(*parent, f"new-{self._fresh}")
        os.makedirs(self.path(path))
        return path

    def drop(self, part):
        if os.path.isdir(self.path(part)):
            shutil.rmtree(self.path(part))
        else:
            os.unlink(self.path(part))
        self._made.discard(part)

    def _make_tree(self, name, files, per_directory, size):
        os.mkdir(self.path(name))
        run([self.workload, "tree", self.path(name), files, per_directory, size], DEADLINE)

    def _make_small(self):
        self._make_tree("small", self.sizes.small_files, SMALL_IN_DIRECTORY, self.sizes.small_bytes)

    def _make_many(self):
        self._make_tree("many", self.sizes.many_files, MANY_IN_DIRECTORY, 0)

    def _make_few(self):
        self._make_tree("few", FEW_FILES, MANY_IN_DIRECTORY, 0)

    def _make_big(self):
        with open(self.path("big"), "wb") as file:
            for _ in range(self.sizes.big_bytes >> 20):
                file.write(os.urandom(1 << 20))

    def _make_lock(self):
        os.mkdir(self.path("lock"))
        for name, size in (("waited-for", 4096), ("unrelated", 4096), ("megabyte", 1 << 20)):
            with open(self.path("lock", name), "wb") as file:
                file.write(b"x" * size)

    def _make_archive(self):
        self.need("small")
        run(["tar", "-C", self.path("small"), "-cf", self.archive, "."], DEADLINE)
