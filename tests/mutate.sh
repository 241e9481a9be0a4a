#!/bin/bash
# Puts known bugs into a copy of the sources, one after the other; each must turn a test red. sudo ./tests/mutate.sh [NAME...]
#
# Works in a directory of its own (FLOCKFS_MUTATE_ROOT, below the builds otherwise), which it keeps for the next time.
# Prints a line for each bug; the exit status is not 0 if one went unseen, or is no longer possible because the code has
# changed (then the list below wants mending).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
unset FLOCKFS_TEST_FULL  # full size takes longer than the time a bug has
work=${FLOCKFS_MUTATE_ROOT:-$root/build-mutate}

((EUID == 0)) || { echo "mutate.sh: the tests mount file systems: run me as root (sudo $0)" >&2; exit 1; }
"$root/packaging/install-deps.sh" test >/dev/null

mkdir -p "$work/tree"
# Without times: what has changed is newer than what was built of it.
"$root/packaging/list-sources.sh" |
  rsync -rlp --checksum --delete --from0 --files-from=- --ignore-missing-args "$root/" "$work/tree/"
cmake -S "$work/tree" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Checked -DCMAKE_CXX_FLAGS="-O1 -Wno-restrict" \
  -DFLOCKFS_TESTS=ON >"$work/log" 2>&1 || { tail -n 30 "$work/log"; exit 1; }

exec python3 - "$work" "$@" <<'MUTANTS'
import pathlib
import subprocess
import sys

WORK = pathlib.Path(sys.argv[1])
WANTED = sys.argv[2:]
TIME_LIMIT = 300  # seconds for the tests of one bug; a test that hangs is red, too

# name: (file, what is there, what becomes of it, {program: tests that can see it})
MUTANTS = {
    "drop-a-wake-up": (
        "src/lock/wait_room_holders.cc",
        "examine_heirs(record, after);\n    if (record.grantable() != nullptr) after.pump.push_back(which.file);",
        "examine_heirs(record, after);",
        {"unit_lock": "WaitRoomTest.*:JoinTest.*"},
    ),
    "leave-a-turn-asleep": (
        "src/lock/wait_room_holders.cc",
        "review_turns(record, after);  //",
        "//",
        {"mount_tests": "*ClientFlockTest*"},
    ),
    "join-whatever-is-there": (
        "src/lock/wait_room_join.cc",
        "if (holder.state != Holder::State::kHeld || holder.busy || holder.alone) return false;\n  if (mode ==",
        "if (holder.busy || holder.id != 0) return true;\n  if (mode ==",
        {"mount_tests": "*ModelTest*"},
    ),
    "pass-the-queue": (
        "src/lock/lock_table.cc",
        "return queue_.empty() && compatible(mode)",
        "return compatible(mode)",
        {"mount_tests": "*ModelTest*"},
    ),
    "skip-the-identity-check": (
        "src/mirror/open_identity.cc",
        "auto names = core_.inodes.names(*inode);\n  std::vector",
        "auto names = core_.inodes.names(*inode);\n  if (tid != 0) return true;\n  std::vector",
        {"mount_tests": "*FreshnessTest*"},
    ),
    "unlock-twice": (
        "src/lock/wait_room_holders.cc",
        "(void)locker_.unlock(holder.fd);",
        "(void)locker_.unlock(holder.fd), (void)locker_.unlock(holder.fd);",
        {"unit_lock": "WaitRoomTest.*"},
    ),
    "forget-the-fence": (  # and that RELEASE may come later still, which would make up for it
        "src/mirror/late_release.cc",
        "  (void)core_.workers->fence(kFenceLimit);\n  core_.releases->hurry();\n  looked_ = now();\n}\n\n"
        "bool LateRelease::look_again(const std::vector<Blocker>& in_the_way, bool waited_for) {\n",
        "}\n\nbool LateRelease::look_again(const std::vector<Blocker>& in_the_way, bool waited_for) {\n"
        "  if (looks_ == 0) return false;\n",
        {"mount_tests": "*CloseThenTryTest*"},
    ),
    "forget-the-late-release": (
        "src/mirror/late_release.cc",
        "  ++looks_;",
        "  if (++looks_ > 0) return false;",
        {"mount_tests": "*CloseThenTryTest*"},
    ),
    "answer-twice": (
        "src/lock/wait_room.cc",
        "one.wait->waiter->on_outcome(std::move(one.outcome));",
        "one.wait->waiter->on_outcome(std::move(one.outcome)), one.wait->waiter->on_outcome({});",
        {"unit_lock": "WaitRoomTest.*"},
    ),
    "join-a-stranger": (
        "src/lock/wait_room_join.cc",
        "if (process == 0 || !holding.any()) return nullptr;",
        "if (process == 0) return nullptr;",
        {"unit_lock": "JoinTest.*"},
    ),
    "join-what-was-handed-on": (
        "src/lock/wait_room_join.cc",
        "(holding.descriptions < open || closed > 0)",
        "(holding.descriptions == 0)",
        {"unit_lock": "JoinTest.*"},
    ),
    "refuse-in-doubt": (
        "src/lock/wait_graph.cc",
        "if (state != facts_.processes.end() && state->second.threads != waits->second.size()) return false;",
        "",
        {"unit_lock": "WaitGraphTest.*:JoinTest.*"},
    ),
    "merge-what-is-busy": (
        "src/lock/wait_room_join.cc",
        "holder.state == Holder::State::kHeld && !holder.busy && holder.belongs_to(process)",
        "holder.state == Holder::State::kHeld && holder.belongs_to(process)",
        {"unit_lock": "HeirTest.*"},
    ),
    "forget-a-held-off-upgrade": (
        "src/lock/wait_room_keeper.cc",
        "if (record->held_off() != nullptr) held_off_",
        "if (!record->queue().empty() && record->queue().front().held_off) held_off_",
        {"unit_lock": "HeirTest.*"},
    ),
    "rest-on-the-circle-alone": (
        "src/lock/wait_graph.cc",
        "if (found.insert(reason).second) circle.rests_on.push_back(reason);",
        "(void)reason;",
        {"unit_lock": "WaitGraphTest.*"},
    ),
    "forget-the-heirs": (
        "src/lock/wait_room_circles.cc",
        "      add_heirs(*record, wait, node);\n",
        "",
        {"mount_tests": "*DeadlockTest*"},
    ),
    "forget-flock-in-circles": (
        "src/lock/wait_room_circles.cc",
        "if (!wait.endless() || may_join",
        "if (!wait.endless() || !wait.is_open() || may_join",
        {"mount_tests": "*DeadlockTest*"},
    ),
    "keep-the-shared-lock-in-flock": (
        "src/lock/wait_room_flock.cc",
        "record.give_up(holder);",
        "",
        {"unit_lock": "ClientFlockTest.*"},
    ),
    "weaken-by-unlock": (
        "src/lock/lock_table.cc",
        "LockMode most = opened;",
        "LockMode most = LockMode::kShared;",
        {"unit_lock": "ClientFlockTest.*:JoinTest.*"},
    ),
    "truncate-before-the-lock": (
        "src/tree/open_flags.h",
        "(O_SYNC | O_DSYNC | O_NOATIME)",
        "(O_SYNC | O_DSYNC | O_NOATIME | O_TRUNC)",
        {"mount_tests": "*TruncateOnOpenTest*"},
    ),
    "uncover-the-source": (
        "src/mirror/mirror.cc",
        "if (mount_point_ && !core_.config.covers_source) detach",
        "if (mount_point_) detach",
        {"run_tests": "*WhoeverIsLeftBehind*"},
    ),
    "stay-in-the-plain-source": (
        "src/run/place.cc",
        "if (Status gone = go_to(directory_); !gone) return gone;\n  if (device_of(\".\") != mirror->device) {",
        "if (device_of(\".\") == 0) {",
        {"run_tests": "*WorkingDirectory*"},
    ),
    "outlive-the-runner": (
        "src/run/mirror_process.cc",
        "(void)::prctl(PR_SET_PDEATHSIG, death_signal(config));",
        "(void)death_signal(config);",
        {"run_tests": "*DieWithTheRunner*"},
    ),
    "hand-on-twice": (
        "src/run/command.cc",
        "if (!witness_.saw(signal)) (void)",
        "(void)",
        {"run_tests": "*SignalsToTheWholeGroup*"},
    ),
    "inherit-whatever-it-is": (
        "src/run/caller_state.cc",
        "if (fd > STDERR_FILENO) {\n      return",
        "if (fd > 1000) {\n      return",
        {"run_tests": "*DescriptorsPastTheMirror*"},
    ),
    "keep-signals-blocked": (
        "src/run/caller_state.cc",
        "::sigprocmask(SIG_SETMASK, &mask_, nullptr);",
        "",
        {"run_tests": "*CommandFindsEverything*"},
    ),
    "miss-what-was-refused": (
        "src/mirror/open_tries.cc",
        "  ++core_.counters.refused;\n  request.error(error);",
        "  request.error(error);",
        {"run_tests": "*FailIfUnlocked*"},
    ),
}


def run(command, limit):
    with open(WORK / "log", "w", encoding="utf-8") as log:
        try:
            return subprocess.run(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, timeout=limit).returncode
        except subprocess.TimeoutExpired:
            return -1


def build(program):
    return run(["cmake", "--build", WORK / "build", "--target", program, "flockfs", "mount.flockfs"], 1200)


def tests_of(program, names):
    [path] = (WORK / "build").glob(f"tests/**/{program}")
    return run([path, f"--gtest_filter={names}", "--gtest_brief=1"], TIME_LIMIT)


def seen(name, file, old, new, tests):
    path = WORK / "tree" / file
    text = path.read_text()
    if text.count(old) != 1:
        return f"not possible any more: {file} has it {text.count(old)} times"
    try:
        for program, names in tests.items():
            if build(program) != 0 or tests_of(program, names) != 0:
                return "the tests are red without it"
        path.write_text(text.replace(old, new))
        for program, names in tests.items():
            if build(program) != 0:
                return f"does not compile, see {WORK / 'log'}"
            if tests_of(program, names) != 0:
                return None
        return "NOT SEEN"
    finally:
        path.write_text(text)


failed = 0
for mutant, what in MUTANTS.items():
    if WANTED and mutant not in WANTED:
        continue
    problem = seen(mutant, *what)
    failed += problem is not None
    print(f"{mutant:32} {problem or 'seen'}", flush=True)
sys.exit(1 if failed else 0)
MUTANTS
