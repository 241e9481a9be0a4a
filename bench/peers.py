"""The columns of the comparison: ways to reach one source tree, each mounted on a directory of its own."""
import os
import re
import resource
import subprocess

from processes import BenchError, end_group, run, wait_until

NOTHING = "nothing"  # a directory of the source that stays empty: the prefix that locks nothing
MOUNT_DEADLINE = 60
STOP_DEADLINE = 120
TICKS = os.sysconf("SC_CLK_TCK")

# name: (what it is, command's options, what it is)
FLOCKFS = {
    "flockfs": ("flockfs, every file locked", []),
    "nolock": ("flockfs with a prefix that locks nothing", ["prefix=" + NOTHING]),
    "nopass": ("flockfs passthrough=off", ["passthrough=off"]),
    "rw-3600": ("flockfs attr_timeout=entry_timeout=3600", ["attr_timeout=3600", "entry_timeout=3600"]),
    "ro": ("flockfs ro", ["ro"]),
    "ro-3600": ("flockfs ro, attr_timeout=entry_timeout=3600", ["ro", "attr_timeout=3600", "entry_timeout=3600"]),
}
OTHERS = {
    "plain": "the source itself",
    "bind": "a bind mount",
    "bindfs": "bindfs --multithreaded --enable-lock-forwarding, Debian's package",
    "hp": "passthrough_hp of libfuse, from Debian 13's source package (takes no locks)",
    "preload": "the source itself, tar and rsync with the library given by --preload, which locks",
}
EVERYWHERE = ("plain", "bind", "flockfs", "nolock", "nopass", "bindfs", "hp")
MIRRORS = tuple(FLOCKFS)


def title(column):
    return FLOCKFS[column][0] if column in FLOCKFS else OTHERS[column]


def unescaped(text):
    """A path of /proc/self/mountinfo, where blanks are octal."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def most_descriptors():
    """That a daemon may have, after this has raised its hard limit as far as the machine lets it. passthrough_hp keeps
    one for every file that it knows."""
    with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
        wanted = int(file.read())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, wanted))
        except (OSError, ValueError):  # without CAP_SYS_RESOURCE, in a container for example
            return hard
    return wanted


class Programs:
    """Where the peers' programs are. Those of the columns that run have to be there."""

    def __init__(self, build, passthrough_hp, preload, columns):
        self.flockfs = os.path.join(build, "bin/flockfs")
        self.workload = os.path.join(build, "bench/bench-workload")
        self.passthrough_hp = passthrough_hp
        self.preload = preload
        self.bindfs = "/usr/bin/bindfs"
        needed = {self.flockfs, self.workload, "/usr/bin/tar", "/usr/bin/rsync", "/usr/bin/find"}
        needed |= {self.bindfs} if "bindfs" in columns else set()
        needed |= {passthrough_hp} if "hp" in columns else set()
        needed |= {preload} if "preload" in columns else set()
        for program in sorted(needed):
            if not program or not os.access(program, os.R_OK):
                raise BenchError(f"missing: {program}")


class View:
    """One column as it is reached by a workload: below `root`, with `env`. As a context: mounted."""

    def __init__(self, column, source, place, programs):
        self.column = column
        self.source = source
        self.programs = programs
        self.env = {}
        self.counting = False  # requests are counted, not time: whatever there is is done, however long it takes
        self.requests = {}  # by opcode, once it is unmounted: what the daemon counted
        self.peak_kib = None  # of memory, of the daemon, once it is unmounted
        self.root = source if column in ("plain", "preload") else os.path.join(place, column)
        self._log = os.path.join(place, column + ".log")
        self._daemon = None
        self._mounted = False
        self._runs = 0
        if column == "preload":
            self.env["LD_PRELOAD"] = programs.preload

    @property
    def has_daemon(self):
        return self._daemon is not None

    @property
    def pid(self):
        return self._daemon.pid if self._daemon else 0

    def next_run(self):
        """A number for a run of a workload with this view."""
        self._runs += 1
        return self._runs

    def cpu_seconds(self):
        """That the daemon has used so far, all its threads."""
        if not self._daemon:
            return 0.0
        with open(f"/proc/{self.pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def __enter__(self):
        if self.root == self.source:
            return self
        os.makedirs(self.root, exist_ok=True)
        try:
            self._mount()
        except BaseException:
            self._abandon()
            raise
        return self

    def __exit__(self, kind, error, trace):
        if not self._mounted:
            return
        if kind is not None:
            self._abandon()
            return
        self.peak_kib = self._peak()
        self._unmount()
        if self.column in FLOCKFS:
            self.requests = self._counted()

    def _command(self):
        paths = [self.source, self.root]
        if self.column == "bindfs":
            return [self.programs.bindfs, "-f", "--multithreaded", "--enable-lock-forwarding", *paths]
        if self.column == "hp":
            return [self.programs.passthrough_hp, "--foreground", *paths]
        if os.path.exists(self._log):
            os.unlink(self._log)
        options = ["log_file=" + self._log.replace(",", "\\,"), *FLOCKFS[self.column][1]]
        return [self.programs.flockfs, "-f", "-o", ",".join(options), *paths]

    def _mount(self):
        if self.column == "bind":
            run(["mount", "--bind", self.source, self.root], MOUNT_DEADLINE)
            self._mounted = True
            return
        with open(self._log + ".stderr", "wb") as errors:
            self._daemon = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True)
        wait_until(f"{self.column} does not mount", MOUNT_DEADLINE, self._is_mounted)
        self._mounted = True
        run(["stat", "-f", self.root], MOUNT_DEADLINE)

    def _is_mounted(self):
        if self._daemon.poll() is not None:
            with open(self._log + ".stderr", encoding="utf-8", errors="replace") as errors:
                raise BenchError(f"{self.column} does not start: {errors.read().strip()[-2000:]}")
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            return any(unescaped(line.split()[4]) == self.root for line in mounts)

    def _unmount(self):
        def detached():
            try:
                run(["umount", self.root], MOUNT_DEADLINE)
            except BenchError as error:
                if "busy" in str(error):  # a RELEASE is still on its way
                    return False
                raise
            return True

        wait_until(f"{self.column} cannot be unmounted", STOP_DEADLINE, detached)
        self._mounted = False
        if self._daemon:
            try:
                self._daemon.wait(STOP_DEADLINE)
            except subprocess.TimeoutExpired:
                raise BenchError(f"{self.column} does not end after its unmount") from None
            finally:
                self._abandon()

    def _abandon(self):
        if self._daemon:
            end_group(self._daemon)
            self._daemon = None
        if self._mounted:
            subprocess.run(["umount", "-f", "-l", self.root], timeout=MOUNT_DEADLINE, check=False)
            self._mounted = False

    def _peak(self):
        if not self._daemon:
            return None
        with open(f"/proc/{self.pid}/status", encoding="utf-8", errors="replace") as status:
            found = re.search(r"^VmHWM:\s+(\d+) kB", status.read(), re.M)
        return int(found.group(1)) if found else None

    def _counted(self):
        with open(self._log, encoding="utf-8", errors="replace") as log:
            lines = [line for line in log if "event=requests" in line]
        if len(lines) != 1:
            raise BenchError(f"{self.column} has not logged its requests once: {self._log}")
        return {name: int(number) for name, number in re.findall(r" ([a-z_0-9]+)=(\d+)\b", lines[0])}
