#!/usr/bin/python3
"""Checks copies of whisper files: whisper_check.py DIR SECONDS

Each must open with whisper, be as long as its header says, and agree with itself: where the points of the finest archive
of the last SECONDS seconds are all there, each point of a coarser archive is what whisper computes from them. (A whisper
update writes the fine points first and then all that follows from them, under one lock: a copy made in between does not
agree.) Prints a summary; exit status 1 if a file fails.
"""
import pathlib
import struct
import sys

import whisper


def points_of(data, archive):
    """{time: value} as they are stored."""
    series = struct.iter_unpack("!Ld", data[archive["offset"] : archive["offset"] + archive["size"]])
    return {time: value for time, value in series if time}


def disagreements(data, info, seconds):
    """(number of coarse points compared, those that are wrong)"""
    compared, wrong = 0, []
    finer, *coarser = info["archives"]
    fine = points_of(data, finer)
    newest = max(fine, default=0)
    for archive in coarser:
        coarse, step = points_of(data, archive), archive["secondsPerPoint"]
        for start in coarse:
            sources = [fine.get(time) for time in range(start, start + step, finer["secondsPerPoint"])]
            if start <= newest - seconds or None in sources:
                continue
            compared += 1
            expected = whisper.aggregate(info["aggregationMethod"], sources, sources)
            if abs(coarse[start] - expected) > 1e-6:
                wrong.append(f"{start} of the {step} s archive is {coarse[start]}, computed {expected}")
    return compared, wrong


def check(path, seconds):
    """(number of points compared, what is wrong)"""
    info = whisper.info(str(path))
    if not info:
        return 0, ["whisper cannot read its header"]
    last = info["archives"][-1]
    size, wanted = path.stat().st_size, last["offset"] + last["size"]
    if size != wanted:
        return 0, [f"{size} bytes instead of {wanted}"]
    whisper.fetch(str(path), 0)
    return disagreements(path.read_bytes(), info, seconds)


def main():
    folder, seconds = pathlib.Path(sys.argv[1]), int(sys.argv[2])
    files, total, bad = 0, 0, 0
    for path in sorted(folder.glob("**/*.wsp")):
        compared, wrong = check(path, seconds)
        files, total, bad = files + 1, total + compared, bad + bool(wrong)
        for message in wrong[:3]:
            print(f"{path.name}: {message}")
    print(f"{files} files, {total} points compared, {bad} files wrong")
    return 0 if files and total and not bad else 1


sys.exit(main())
