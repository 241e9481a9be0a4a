#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <cstdint>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "harness/deadline.h"
#include "harness/guardian.h"
#include "harness/log_reader.h"
#include "harness/program.h"

// Overview of the harness (tests/mount/harness):
//   deadline.h        deadlines, scaled by $FLOCKFS_TEST_SLOW; eventually()
//   child.h           forked processes that talk with the test; all use of a mirror happens in them
//   program.h         programs with their output caught
//   opener.h          a child that opens one file and holds it open
//   record_client.h   a child that takes fcntl(2) record locks, and those of a source file as others see them
//   files.h           small file helpers, TempTree
//   file_systems.h    tmpfs and overlayfs, mounted
//   fuse_server.h     how the harness's own file systems are served
//   lease.h           a lease on a source file, which keeps open(2) itself waiting
//   source_lock.h     the locks of a source file as others see them; ForeignLock, which the test itself holds
//   record_lock.h     the same for record locks (fcntl)
//   log_reader.h      the daemon's log while it is being written
//   status.h          what flockfs-status shows of a mirror
//   lockfile.h        what tests of lock files need
//   sections.h        who is inside which critical section, as the processes themselves see it
//   lockless_fs.h     a file system without locks
//   failing_fs.h      a file system whose calls fail when told so
//   one_lock_fs.h     a file system where flock and record locks exclude each other
//   pids_limit.h      a limit for the threads of the daemon
//   connection.h      the mount table, and aborting FUSE connections
//   tracer.h          strace(1) attached to the daemon
//   guardian.h        the process that cleans up when a test hangs or dies
//   mounted_mirror.h  a running daemon and its mount (this file)
//   mirror_test.h     the fixtures
// The programs under test come from $FLOCKFS_BIN, $MOUNT_FLOCKFS_BIN and $FLOCKFS_STATUS_BIN, or else from the build.
// Every test process runs in a mount namespace of its own, so tests see nothing of each other's mounts. Needs root and
// /dev/fuse.

namespace flockfs::test {

enum class Passthrough { kAuto, kOff };
std::ostream& operator<<(std::ostream& out, Passthrough passthrough);

[[nodiscard]] std::string flockfs_program();
[[nodiscard]] std::string mount_helper_program();
[[nodiscard]] std::string status_program();
// Where this test was built, with all programs.
[[nodiscard]] std::string build_directory();

struct MirrorSetup {
  std::vector<std::string> options{};    // each as `-o OPTION`
  std::vector<std::string> arguments{};  // before SOURCE, as they are
  bool foreground = true;
  ProgramSetup program{};        // environment, limits, namespaces of the daemon
  Millis test_deadline{100000};  // after it the guardian ends the mirror; not scaled: ctest's own limit is not either
};

// A daemon that runs and serves a mirror of `source` at `mountpoint`, logging at debug level to a file. The destructor
// unmounts, with a deadline, and fails the test if the daemon does not end with status 0 in time, a mount is left, the
// log holds an event=error that expect_error() did not announce, or a sanitizer has reported. The constructor throws if
// the mirror does not come up. Used by the thread of the test only.
class MountedMirror {
 public:
  // `scratch` is an existing directory for the log and the sanitizers' reports, for this mirror alone.
  MountedMirror(std::string source, std::string mountpoint, const std::string& scratch, const MirrorSetup& setup = {});
  ~MountedMirror();
  MountedMirror(const MountedMirror&) = delete;
  MountedMirror& operator=(const MountedMirror&) = delete;

  [[nodiscard]] pid_t daemon() const { return daemon_; }
  [[nodiscard]] unsigned connection() const { return connection_; }
  [[nodiscard]] const LogReader& log() const { return log_; }
  [[nodiscard]] const std::string& source() const { return source_; }
  [[nodiscard]] const std::string& mountpoint() const { return mountpoint_; }
  // What the command has written to its standard error.
  [[nodiscard]] std::string messages() const { return command_->err(); }

  // The log line that says this process waits for a lock has come (or, for any process, so many of them), and whatever
  // thread has written it has gone on until it had nothing more to do.
  [[nodiscard]] ::testing::AssertionResult waits(pid_t pid, Millis time = kPatience) const;
  [[nodiscard]] ::testing::AssertionResult waits_for(const std::string& source_path, std::size_t count = 1,
                                                     Millis time = kPatience) const;

  // An event=error line that contains this is part of the test.
  void expect_error(std::string text) { expected_errors_.push_back(std::move(text)); }

  // Threads and open descriptors of the daemon now, once it has started all of its threads.
  [[nodiscard]] int threads() const;
  [[nodiscard]] int descriptors() const;
  // How often its threads of this name have gone to sleep.
  [[nodiscard]] std::uint64_t sleeps_of(const std::string& thread_name) const;
  // Whether the daemon has this source file open (an O_PATH descriptor does not open it).
  [[nodiscard]] bool has_open(const std::string& source_path) const;

  // Unmounts and makes all the checks; the destructor does it if it was not called.
  void stop();
  // umount2(2) in a child; the errno, 0 for success, ETIMEDOUT if it hangs.
  [[nodiscard]] int unmount(int flags = 0) const;

  // For tests that end the daemon in other ways: waits until it is gone and returns the status of waitpid(2); stop()
  // then only cleans up. nullopt if it lives on.
  [[nodiscard]] std::optional<int> daemon_exit(Millis time = kPatience);
  [[nodiscard]] bool daemon_runs();
  // Its mount is the topmost one at the mountpoint.
  [[nodiscard]] bool is_mounted() const;

 private:
  void start(const MirrorSetup& setup);
  void adopt_background_daemon(Millis time);
  void unmount_now();
  void check_exit();
  void check_log() const;
  void check_sanitizers() const;

  std::string source_;
  std::string mountpoint_;
  std::string scratch_;
  LogReader log_;
  std::unique_ptr<Program> command_;  // in the foreground: the daemon itself
  bool foreground_ = true;
  pid_t daemon_ = -1;
  std::optional<int> daemon_status_;
  bool ended_by_test_ = false;
  bool stopped_ = false;
  unsigned connection_ = 0;
  std::optional<Guardian> guardian_;
  std::vector<std::string> expected_errors_;
};

// The process that serves this mountpoint: it runs flockfs_program() in the test's mount namespace and names the
// mountpoint, or a relative path with the same last component, in its arguments.
[[nodiscard]] std::optional<pid_t> find_daemon(const std::string& mountpoint);

// Kills the daemon that serves the mirror there, of a source with the file "f", and waits until the kernel says that it
// is dead (ENOTCONN).
void kill_daemon_at(const std::string& mountpoint);

// Adds what makes sanitizers of a daemon write to files `scratch`/sanitizer.PID, and fails the test if there are any.
[[nodiscard]] std::vector<std::string> sanitizer_environment(const std::string& scratch);
void expect_no_sanitizer_report(const std::string& scratch);

}  // namespace flockfs::test
