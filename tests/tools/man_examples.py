#!/usr/bin/python3
"""Runs the EXAMPLES of the man pages as they stand: man_examples.py BIN_DIR SBIN_DIR

Each block runs in a mount namespace of its own, where the places that the pages name are new and empty but for the
sample files made here. Lines of fstab are checked by findmnt(8), mounted by mount(8) and unmounted again. Exit status 1
if one fails, or if a page has none.
"""
import pathlib
import re
import sys

from example_ground import NOTHING_LEFT, ROOT, run, script_of_fstab

PAGES = ["flockfs.8", "mount.flockfs.8", "flockfs-run.1", "flockfs-status.1"]


def plain(line):
    return line.replace(r"\-", "-").replace(r"\e", "\\").replace(r"\&", "")


def examples_of(page):
    """The blocks of the section, each as a reader sees it."""
    text = (ROOT / "packaging" / "man" / page).read_text()
    section = re.search(r"^\.S[Hh] EXAMPLES\n(.*?)(?=^\.S[Hh] )", text, re.MULTILINE | re.DOTALL).group(1)
    shown = re.findall(r"^\.nf\n(.*?)^\.fi$|^\.Dl ([^\n]*)$", section, re.MULTILINE | re.DOTALL)
    return [plain(block or line + "\n") for block, line in shown]


def script_of(page, block):
    if re.match(r"/\S+\s+/\S+\s+(fuse\.)?flockfs\s", block):
        return script_of_fstab(block)
    before, after = "", ""
    if "restic" in block:
        before += "restic init\n"
    if page == "flockfs-status.1":
        before += "flockfs /var/lib/graphite/whisper /mnt/graphite\n"
        after += "umount /mnt/graphite\n"
    return before + block + after + NOTHING_LEFT


def main():
    bin_dir, sbin_dir = (pathlib.Path(word).resolve() for word in sys.argv[1:])
    failed = 0
    for page in PAGES:
        blocks = examples_of(page)
        if not blocks:
            print(f"{page}: no examples")
            failed += 1
        for block in blocks:
            output, problem = run(script_of(page, block), bin_dir, sbin_dir)
            print(f"{page}: {problem or 'ok'}: {block}", end="", flush=True)
            if problem:
                failed += 1
                print(output)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
