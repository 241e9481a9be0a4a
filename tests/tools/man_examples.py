#!/usr/bin/python3
"""Runs the EXAMPLES of the man pages as they stand: man_examples.py BIN_DIR SBIN_DIR

Each block runs in a mount namespace of its own, where the places that the pages name are new and empty but for the
sample files made here. Lines of fstab are checked by findmnt(8), mounted by mount(8) and unmounted again. Exit status 1
if one fails, or if a page has none.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGES = ["flockfs.8", "mount.flockfs.8", "flockfs-run.1", "flockfs-status.1"]
PATIENCE = 60  # seconds for each command

# $W: a directory for this run. The namespace, and all that is mounted and started in it, ends with this shell.
GROUND = r"""
set -e
for place in /srv /mnt /home /run /var/log /var/lib; do
  mount -t tmpfs -o mode=755 none "$place"
done
mkdir -p /srv/backup /srv/data/mail/tmp /srv/data/old,unused /mnt/data /mnt/graphite /mnt/usb /home/user
mkdir -p /var/lib/graphite/whisper/servers
for file in /srv/data/file /srv/data/mail/one /home/user/file /var/lib/graphite/whisper/servers/load.wsp; do
  echo sample >"$file"
done
sbin=$(readlink -f /sbin)
mkdir "$W/upper" "$W/work"
ln -s "$SBIN/mount.flockfs" "$W/upper/mount.flockfs"
ln -s "$SBIN/mount.flockfs" "$W/upper/mount.fuse.flockfs"
mount -t overlay -o "lowerdir=$sbin,upperdir=$W/upper,workdir=$W/work" none "$sbin"
export RESTIC_REPOSITORY=/srv/backup/restic RESTIC_PASSWORD=sample RESTIC_CACHE_DIR=/srv/backup/cache
cd /srv/data
"""


def plain(line):
    return line.replace(r"\-", "-").replace(r"\e", "\\").replace(r"\&", "")


def examples_of(page):
    """The blocks of the section, each as a reader sees it."""
    text = (ROOT / "packaging" / "man" / page).read_text()
    section = re.search(r"^\.S[Hh] EXAMPLES\n(.*?)(?=^\.S[Hh] )", text, re.MULTILINE | re.DOTALL).group(1)
    shown = re.findall(r"^\.nf\n(.*?)^\.fi$|^\.Dl ([^\n]*)$", section, re.MULTILINE | re.DOTALL)
    return [plain(block or line + "\n") for block, line in shown]


def script_of_fstab(block):
    """Checks the lines, mounts them all as at the start of the machine, and those with noauto by name."""
    commands = [f"cat >$W/fstab <<'LINES'\n{block}LINES", "findmnt --verify --tab-file $W/fstab",
                "mount --all --fstab $W/fstab"]
    for line in block.splitlines():
        mountpoint, options = line.split()[1], line.split()[3].split(",")
        if "noauto" in options:
            commands += [f"! mountpoint -q {mountpoint}", f"mount --fstab $W/fstab {mountpoint}"]
        commands += [f"findmnt -t fuse.flockfs {mountpoint}", f"find {mountpoint} -type f -exec cat {{}} +",
                     f"umount {mountpoint}"]
    return "\n".join(commands) + "\n"


def script_of(page, block):
    if re.match(r"/\S+\s+/\S+\s+(fuse\.)?flockfs\s", block):
        return script_of_fstab(block)
    before, after = "", ""
    if "restic" in block:
        before += "restic init\n"
    if page == "flockfs-status.1":
        before += "flockfs /var/lib/graphite/whisper /mnt/graphite\n"
        after += "umount /mnt/graphite\n"
    # Whatever was mounted is unmounted again by the example.
    return f"{before}{block}{after}" + '[ -z "$(findmnt --noheadings -t fuse.flockfs)" ]\n'


def run(script, environment):
    """Its output, and None or what went wrong."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
               f"{GROUND}set -x\n{script}"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=PATIENCE, env=environment, check=False)
    except subprocess.TimeoutExpired as late:
        return late.output, f"is not done after {PATIENCE} s"
    return done.stdout, None if done.returncode == 0 else f"exit status {done.returncode}"


def main():
    bin_dir, sbin_dir = (pathlib.Path(word).resolve() for word in sys.argv[1:])
    failed = 0
    for page in PAGES:
        blocks = examples_of(page)
        if not blocks:
            print(f"{page}: no examples")
            failed += 1
        for block in blocks:
            with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
                environment = {**os.environ, "W": work, "SBIN": str(sbin_dir),
                               "PATH": f"{bin_dir}:{sbin_dir}:/usr/sbin:/usr/bin:/sbin:/bin"}
                output, problem = run(script_of(page, block), environment)
            print(f"{page}: {problem or 'ok'}: {block}", end="", flush=True)
            if problem:
                failed += 1
                print((output or b"").decode(errors="replace"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
