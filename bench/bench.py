#!/usr/bin/python3
"""Compares flockfs with what else mirrors a tree. Started by run.sh, in mount and pid namespaces that end with it."""
import argparse
import dataclasses
import json
import os
import shutil
import sys
import time

import machine
import peers
import plan
import report
from measure import Bench
from processes import BenchError
from source import FULL, QUICK, Source
from targets import verdicts


WORKLOADS = {workload.name: workload for group in plan.GROUPS for workload in group.workloads}


def arguments():
    parser = argparse.ArgumentParser(
        prog="run.sh", description="Compares flockfs with the source itself, a bind mount, bindfs and passthrough_hp, "
        "in one run, in turns; prints tables. docs/PERFORMANCE.md says what is measured.",
        epilog="Workloads: " + " ".join(plan.names()) + ". Columns: " + " ".join((*peers.FLOCKFS, *peers.OTHERS)) + ".")
    parser.add_argument("--check", action="store_true",
                        help="print each target with its ratio; exit status 1 if one is missed")
    parser.add_argument("--quick", action="store_true", help="small sizes, few rounds: to try something out")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--only", metavar="WORKLOAD,...", help="only these workloads")
    parser.add_argument("--columns", metavar="COLUMN,...", help="only these columns")
    parser.add_argument("--preload", metavar="LIB", help="a library that locks, for LD_PRELOAD: the column preload. "
                        "Its own environment variables are passed on")
    parser.add_argument("--work", metavar="DIR", help="make the files below DIR, on a real file system [/var/tmp]")
    parser.add_argument("--build", metavar="DIR", help="use what is built there; install and build nothing")
    parser.add_argument("--passthrough-hp", help=argparse.SUPPRESS)
    parser.add_argument("--arguments-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.only = chosen(given.only, plan.names(), parser)
    given.columns = chosen(given.columns, (*peers.FLOCKFS, *peers.OTHERS), parser) or [
        *peers.EVERYWHERE, "rw-3600", "ro", "ro-3600", *(["preload"] if given.preload else [])]
    if "preload" in given.columns and not given.preload:
        parser.error("the column preload needs --preload LIB")
    if given.preload:
        given.preload = os.path.abspath(given.preload)
        if not os.access(given.preload, os.R_OK):
            parser.error(f"cannot read {given.preload}")
    return given


def chosen(text, known, parser):
    names = text.split(",") if text else []
    for name in names:
        if name not in known:
            parser.error(f"there is no {name}; there are: {' '.join(known)}")
    return names


def check_room(work, sizes):
    """A run that ends for want of room would have been for nothing."""
    disk = shutil.disk_usage(work).free >> 20
    inodes = os.statvfs(work).f_favail
    made = 12 * (sizes.rounds + 2) * sizes.small_files  # by untar and rsync, for every column and round
    needed = 2048 + 2 * (sizes.big_bytes >> 20) + (made * sizes.small_bytes >> 20)
    if disk < needed:
        raise BenchError(f"{work} has {disk} MiB free; {needed} are needed")
    if inodes and inodes < sizes.many_files + made:
        raise BenchError(f"{work} has {inodes} inodes free: too few for {sizes.many_files} files")


def fitted(sizes, columns, descriptors):
    """With no more files than passthrough_hp can bear here: all columns work on the same tree."""
    most = (descriptors - 1_000) // 1_000 * 1_000
    if "hp" not in columns or sizes.small_files <= most:
        return sizes, ""
    if most < 1_000:
        raise BenchError(f"passthrough_hp needs a descriptor for each file, and may have {descriptors}")
    note = (f"{most:,} small files instead of {sizes.small_files:,}: passthrough_hp keeps one open for each, and the "
            f"hard limit of this machine, {descriptors:,}, cannot be raised")
    return dataclasses.replace(sizes, small_files=most), note


def tell(text):
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def measured(given):
    columns = given.columns
    descriptors = peers.most_descriptors()
    check_room(given.work, QUICK if given.quick else FULL)
    sizes, note = fitted(QUICK if given.quick else FULL, columns, descriptors)
    programs = peers.Programs(given.build, given.passthrough_hp, given.preload, columns)
    source = Source(os.path.join(given.work, "source"), sizes, programs.workload)
    place = os.path.join(given.work, "mounts")
    os.mkdir(place)
    facts = machine.describe(given.root, given.work, programs, columns)
    facts["sizes"] = ("QUICK, no figures to rely on: " if given.quick else "full: ") + ", ".join(
        f"{name} {value:,}" for name, value in vars(sizes).items())
    bench = Bench(source, place, programs, columns, descriptors, tell)
    bench.notes += [note] if note else []
    if not given.quick and machine.memory_mib() < machine.MEMORY_FULL_MIB:
        bench.notes.append(f"too little memory to keep warm what should be ({machine.MEMORY_FULL_MIB} MiB)")
    began = time.monotonic()
    try:
        for group in plan.chosen(given.only):
            bench.measure(group)
            keep(given, {**facts, "unfinished": True}, bench.results)
    except BenchError as error:  # what there is by now is worth seeing
        facts["failed"] = str(error)
    facts["took_s"] = round(time.monotonic() - began)
    if bench.notes:
        facts["notes"] = "; ".join(bench.notes)
    facts["load_at_end"] = os.getloadavg()[0]
    return facts, bench.results


def write_json(path, content):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def keep(given, facts, results):
    """In the file, if one is wanted; after each group of workloads, so that little is lost if the run is cut short."""
    decided = list(verdicts(results, WORKLOADS))
    if given.json:
        write_json(given.json, {"quick": given.quick, **report.as_json(facts, results, WORKLOADS, decided)})
    return decided


def main():
    given = arguments()
    if given.json:
        write_json(given.json, {})  # said now rather than after half an hour if it cannot be written
    if given.arguments_only:
        return 0
    facts, results = measured(given)
    decided = keep(given, facts, results)
    print(report.text(facts, results, WORKLOADS, given.columns))
    if given.check:
        print("\n" + report.targets(decided))
        if given.quick:
            print("From a --quick run: no claim.")
    if "failed" in facts:
        raise BenchError(facts["failed"])
    if not given.check:
        return 0
    return 1 if any(verdict.passed is False for verdict in decided) else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BenchError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(3)
