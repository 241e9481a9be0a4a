"""Where examples of the documentation run: a mount namespace of their own, with new and empty places for the paths that
they name."""
import os
import pathlib
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 60  # seconds for each command

# $W: a directory for this run. The namespace, and all that is mounted and started in it, ends with this shell.
_GROUND = r"""
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
mirrors() { findmnt --noheadings --raw -o TARGET -t fuse.flockfs; }
there=$(mirrors || true)
"""
# That whatever was mounted is unmounted again.
NOTHING_LEFT = '[ "$(mirrors)" = "$there" ]\n'


def run(script, bin_dir, sbin_dir):
    """Its output, and None or what went wrong."""
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c",
               f"{_GROUND}set -x\n{script}"]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as work:
        environment = {**os.environ, "W": work, "SBIN": str(sbin_dir),
                       "PATH": f"{bin_dir}:{sbin_dir}:/usr/sbin:/usr/bin:/sbin:/bin"}
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  timeout=PATIENCE, env=environment, check=False)
        except subprocess.TimeoutExpired as late:
            return (late.output or b"").decode(errors="replace"), f"is not done after {PATIENCE} s"
    return done.stdout.decode(errors="replace"), None if done.returncode == 0 else f"exit status {done.returncode}"


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
