#!/usr/bin/python3
"""Runs README.md's recipes as they stand: readme_recipes.py BIN_DIR SBIN_DIR

Each block of the section runs beside a writer that rewrites one file under flock(2), and what it has made is looked at.
Exit status 1 if one fails, or if there is a block that nothing here looks at.
"""
import pathlib
import re
import sys

from example_ground import NOTHING_LEFT, ROOT, run, script_of_fstab

# Rewrites a file whole, at first half of it: without the lock a copy would mostly be torn.
WRITER = r"""
cat >$W/writer.py <<'PROGRAM'
import fcntl, itertools, os, sys, time
path = sys.argv[1]
for turn in itertools.count():
    with open(path, "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        letter = b"ab"[turn % 2:turn % 2 + 1]
        os.pwrite(file.fileno(), letter * 4096, 0)
        time.sleep(0.005)
        os.pwrite(file.fileno(), letter * 4096, 4096)
    time.sleep(0.001)
PROGRAM
one_letter() { test "$(fold -w1 "$1" | sort -u | wc -l)" = 1; }
begin() {
  head -c 8192 /dev/zero | tr '\0' a >"$1"
  python3 $W/writer.py "$1" &
}
"""
DATA = WRITER + "begin /srv/data/rewritten\n"
SAME = "diff -r --exclude=rewritten /srv/data {0}\none_letter {0}/rewritten\n"

# What is in a block: (what comes before it, what looks at the result)
RECIPES = {
    "whisper.tar.gz": (WRITER + "begin /var/lib/graphite/whisper/rewritten\n",
                       "mkdir $W/out\ntar -C $W/out -xzf /srv/backup/whisper.tar.gz\n"
                       "diff -r --exclude=rewritten /var/lib/graphite/whisper $W/out/whisper\n"
                       "one_letter $W/out/whisper/rewritten\n"),
    "rsync": (DATA + "printf '#!/bin/sh\\nshift\\ncd /srv/backup && exec \"$@\"\\n' >$W/rsh\nchmod 755 $W/rsh\n"
              "export RSYNC_RSH=$W/rsh\n", SAME.format("/srv/backup/data")),
    "restic": (DATA + "restic init\n",
               "restic restore latest --target $W/out\n" + SAME.format("$W/out/srv/data")),
    "borg": (DATA + "export BORG_BASE_DIR=$W/borg\nborg init -e none /srv/backup/borg\n",
             "mkdir $W/out\ncd $W/out\nborg extract \"$(borg list --format '/srv/backup/borg::{archive}' /srv/backup/borg)\"\n" +
             SAME.format("$W/out/srv/data")),
    "sqlite3": (DATA + "sqlite3 app.db 'PRAGMA journal_mode=wal; CREATE TABLE t(a); INSERT INTO t VALUES(1);'\n",
                "mkdir $W/out\ntar -C $W/out -xf /srv/backup/data.tar\none_letter $W/out/rewritten\n"
                "test ! -e $W/out/app.db\ntest \"$(sqlite3 $W/out/app.db.copy 'PRAGMA integrity_check; SELECT a FROM t')\" = 'ok\n1'\n"),
    "bundle": ("git -c init.defaultBranch=main init -q repository\ngit -C repository -c user.name=a -c user.email=a@b commit "
               "-q --allow-empty -m first\n",
               "git clone -q /srv/backup/repository.bundle $W/clone\ntest \"$(git -C $W/clone log --format=%s)\" = first\n"),
    "--prefix mail": ("", "test $(grep -c event=lock /var/log/mail.log) = $(find /srv/data/mail -type f | wc -l)\n"
                      "grep -q 'event=pass path=\"/srv/data/file\".*reason=prefix' /var/log/mail.log\n"
                      "test $(tar -tf /srv/backup/all.tar | grep -c -v '/$') = $(find /srv/data -type f | wc -l)\n"),
    "event=wait": (DATA, "test $(grep -c event=lock /var/log/backup.log) = $(find /srv/data -type f | wc -l)\n"),
}


def recipes():
    text = (ROOT / "README.md").read_text()
    sections = re.findall(r"^## (?:Recipes|Coming from flockwrap)\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    blocks = [block for section in sections for block in re.findall(r"(?:^    .*\n)+", section, re.MULTILINE)]
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def fstab_line():
    text = (ROOT / "README.md").read_text()
    return re.search(r"^    (/\S+ +/\S+ +flockfs .*\n)", text[text.index("## fstab and systemd"):], re.MULTILINE).group(1)


def script_of(block):
    known = [word for word in RECIPES if word in block]
    if len(known) != 1:
        return None
    before, after = RECIPES[known[0]]
    return before + block + after + NOTHING_LEFT


def main():
    bin_dir, sbin_dir = (pathlib.Path(word).resolve() for word in sys.argv[1:])
    scripts = [(block, script_of(block)) for block in recipes()]
    scripts.append((fstab_line(), "mkdir -p /srv/mirror\n" + script_of_fstab(fstab_line())))
    failed = len(scripts) != len(RECIPES) + 1
    for block, script in scripts:
        output, problem = run(script, bin_dir, sbin_dir) if script else ("", "nothing here looks at it")
        print(f"{problem or 'ok'}: {block}", end="", flush=True)
        if problem:
            failed = True
            print(output)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
