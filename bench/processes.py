"""Programs that end by a deadline, whatever they do."""
import os
import signal
import subprocess
import time


class BenchError(Exception):
    """Something that ends the run; its text is for the user."""


def end_group(process):
    """Kills a process that leads its session, and all that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def run(command, deadline, env=None, drain=False):
    """Runs a program and returns its standard output. drain: its output goes through a pipe to cat(1) and away, as an
    archive goes to a compressor; GNU tar writes nothing at all if it sees /dev/null."""
    words = [str(word) for word in command]
    environment = {**os.environ, **(env or {})}
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        start_new_session=True,
    ) as process:
        reader = None
        if drain:
            reader = subprocess.Popen(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL, start_new_session=True)
            process.stdout.close()
            process.stdout = None
        try:
            output, errors = process.communicate(timeout=deadline)
            if reader:
                reader.wait(timeout=deadline)
        except subprocess.TimeoutExpired:
            raise BenchError(f"not done after {deadline} s: {' '.join(words)}") from None
        finally:
            for one in filter(None, (process, reader)):
                if one.returncode is None:
                    end_group(one)
    if process.returncode != 0:
        text = errors.decode(errors="replace").strip()[-2000:]
        raise BenchError(f"exit status {process.returncode}: {' '.join(words)}\n{text}")
    return (output or b"").decode(errors="replace")


def timed(command, deadline, **how):
    """Seconds that a program takes, from its start to its end."""
    began = time.perf_counter()
    run(command, deadline, **how)
    return time.perf_counter() - began


def wait_until(what, deadline, holds):
    end = time.monotonic() + deadline
    while not holds():
        if time.monotonic() > end:
            raise BenchError(f"{what}: not after {deadline} s")
        time.sleep(0.01)
