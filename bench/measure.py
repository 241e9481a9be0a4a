"""Measures: rounds in which every column has its turn, so that whatever the machine does meets all of them alike."""
import contextlib
import os
import statistics
from dataclasses import dataclass, field

import peers
from peers import View
from processes import BenchError, run

WALK_DEADLINE = 900


@dataclass
class Series:
    """What one workload gave with one column, a value for each round."""

    values: list = field(default_factory=list)
    extra: dict = field(default_factory=dict)  # name: a value for each round
    done: float = 0  # in all rounds
    cpu_seconds: float = 0  # of the daemon, in all rounds
    daemon: bool = False
    peak_kib: int = None
    first: dict = field(default_factory=dict)  # requests per file by opcode, of a mirror that is new
    again: dict = field(default_factory=dict)  # the same, of a second run that follows at once

    def add(self, sample, cpu_seconds):
        self.values.append(sample.value)
        self.done += sample.done
        self.cpu_seconds += cpu_seconds
        for name, value in sample.extra.items():
            self.extra.setdefault(name, []).append(value)

    @property
    def median(self):
        return statistics.median(self.values)

    @property
    def spread(self):
        """Half of the range, relative to the median."""
        return (max(self.values) - min(self.values)) / 2 / self.median if self.median else 0.0

    def extra_median(self, name):
        return statistics.median(self.extra[name])

    @property
    def cpu_us(self):
        """Of the daemon, for each file (or MiB, or whatever the workload counts)."""
        return self.cpu_seconds * 1e6 / self.done if self.done else 0.0


class Bench:
    """descriptors: that a daemon may have open."""

    def __init__(self, source, place, programs, columns, descriptors, tell):
        self.source, self.place, self.programs, self.columns, self.tell = source, place, programs, columns, tell
        self.results = {}  # workload name: {column: Series}
        self.notes = []  # what could not be measured, and why
        self._descriptors = descriptors

    def columns_of(self, workload):
        return [column for column in self.columns if column in workload.columns and self._can(column, workload)]

    def _can(self, column, workload):
        needed = workload.descriptors(self.source.sizes)
        if column != "hp" or needed <= self._descriptors:
            return True
        note = f"{workload.name}: hp fails; it needs {needed:,} descriptors and may have {self._descriptors:,}"
        if note not in self.notes:
            self.notes.append(note)
        return False

    def measure(self, group):
        workloads = [workload for workload in group.workloads if self.columns_of(workload)]
        for workload in workloads:
            workload.prepare(self.source)
        names = [column for column in self.columns
                 if any(column in self.columns_of(workload) for workload in workloads)]
        if names:
            self._measure_mounted(group, workloads, names)
        for workload in workloads:
            if workload.counted:
                self._count(workload)
        if group.last_use and os.path.lexists(self.source.path(group.last_use)):
            self.source.drop(group.last_use)

    def _view(self, column):
        return View(column, self.source.root, self.place, self.programs)

    def _measure_mounted(self, group, workloads, names):
        with contextlib.ExitStack() as stack:
            views = {column: stack.enter_context(self._view(column)) for column in names}
            if group.walk:
                self._walk(group.walk, views)
            for workload in workloads:
                self._rounds(workload, {column: views[column] for column in self.columns_of(workload)})
        for workload in workloads:
            for column, series in self.results[workload.name].items():
                series.peak_kib = views[column].peak_kib

    def _walk(self, part, views):
        for column, view in views.items():
            self.tell(f"{column} walks over the files of {part}")
            run(["find", os.path.join(view.root, part), "-size", "+1"], WALK_DEADLINE)

    def _rounds(self, workload, views):
        results = {column: Series(daemon=view.has_daemon) for column, view in views.items()}
        count = workload.rounds(self.source.sizes)
        order = list(views)
        for number in range(0 if workload.warm else 1, count + 1):
            self.tell(f"{workload.name}: round {number} of {count}" + ("" if number else " (not measured)"))
            workload.before_round(self.source)
            turn = number % len(order)
            for column in order[turn:] + order[:turn]:
                sample, cpu = self._once(workload, views[column])
                if number:
                    results[column].add(sample, cpu)
        self.results[workload.name] = results

    def _once(self, workload, view):
        number = view.next_run()
        workload.before(self.source, view, number)
        cpu = view.cpu_seconds()
        try:
            sample = workload.run(self.source, view, number)
        except BenchError as error:
            raise BenchError(f"{workload.name} with {view.column}: {error}") from None
        cpu = view.cpu_seconds() - cpu
        return sample, cpu

    def _count(self, workload):
        """Requests per file, of mirrors that are mounted for this: a daemon says its counters when it ends."""
        for column in self.columns_of(workload):
            if column not in peers.MIRRORS:
                continue
            self.tell(f"{workload.name}: counting the requests of {column}")
            series = self.results[workload.name][column]
            once, files = self._requests(workload, column, 1)
            series.first = per_file(once, files)
            if workload.counted_again:
                twice, more_files = self._requests(workload, column, 2)
                more = {name: twice[name] - once.get(name, 0) for name in twice}
                series.again = per_file(more, more_files)

    def _requests(self, workload, column, times):
        """Of a number of runs on one new mirror; with the files of the last of them."""
        view = self._view(column)
        view.counting = True
        with view:
            for _ in range(times):
                sample, _ = self._once(workload, view)
        return view.requests, sample.done


def per_file(requests, files):
    """Without what rounds to nothing: the mount's own requests."""
    counts = {name: round(number / files, 3) for name, number in requests.items()}
    return {name: number for name, number in counts.items() if number >= 0.001}
