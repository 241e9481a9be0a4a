#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <string>

#include "base/unique_fd.h"
#include "harness/child.h"

namespace flockfs::test {

// Which of the two kinds of fcntl(2) record locks.
enum class RecordKind { kPosix, kOfd };

// A range of a file; a length of 0 reaches to the end.
struct Bytes {
  off_t start = 0;
  off_t length = 0;
};

// fcntl(2) in the calling process; 0 or an errno. `type`: F_RDLCK, F_WRLCK, F_UNLCK.
[[nodiscard]] int set_record(int fd, int type, Bytes bytes = {}, RecordKind kind = RecordKind::kPosix,
                             bool wait = false);
// What F_GETLK or F_OFD_GETLK says of such a lock: "free", or the type, start, length and pid: "write 0 10 4711".
[[nodiscard]] std::string query_record(int fd, int type, Bytes bytes = {}, RecordKind kind = RecordKind::kPosix);

// A process that opens files and locks parts of them, on orders of the test; the clients of the tests of record locks.
// Descriptors are named by the numbers that open() and dup() return. All but begin_*() and ends_*() wait for the
// answer, with the usual patience.
class RecordClient {
 public:
  RecordClient();

  [[nodiscard]] pid_t pid() const { return child_.pid(); }
  [[nodiscard]] Child& child() { return child_; }

  // -1 (and a failure of the test) if it cannot.
  int open(const std::string& path, int flags);
  int dup(int fd);
  void close(int fd);
  [[nodiscard]] int set(int fd, int type, Bytes bytes = {}, RecordKind kind = RecordKind::kPosix);
  [[nodiscard]] std::string query(int fd, int type, Bytes bytes = {}, RecordKind kind = RecordKind::kPosix);
  // From now on the signal runs a handler that does nothing.
  void handle(int signal, bool restart);

  // F_SETLKW.
  void begin_wait(int fd, int type, Bytes bytes = {}, RecordKind kind = RecordKind::kPosix);
  // It has ended, or does in time, with this errno (0: with the lock).
  [[nodiscard]] ::testing::AssertionResult wait_ends(int error = 0, Millis time = kPatience);
  // Has not ended yet.
  [[nodiscard]] bool is_waiting() { return child_.silent(); }

  void end();

 private:
  std::string ask(const std::string& order);
  Child child_;
};

// A record lock on the source file, held by a process outside the mirror (this test's own, as an open file
// description).
class ForeignRecord {
 public:
  ForeignRecord(const std::string& source_path, int type, Bytes bytes = {});
  ~ForeignRecord() {
    if (fd_) release();
  }
  ForeignRecord(const ForeignRecord&) = delete;
  ForeignRecord& operator=(const ForeignRecord&) = delete;
  // Unlocks the open file description, not only this descriptor of it: children of the test have inherited others.
  void release();

 private:
  UniqueFd fd_;
};

// Whether somebody outside could lock this now.
[[nodiscard]] bool record_is_free(const std::string& source_path, int type = F_WRLCK, Bytes bytes = {});
[[nodiscard]] ::testing::AssertionResult record_becomes_free(const std::string& source_path, int type = F_WRLCK,
                                                             Bytes bytes = {});

// So many fcntl(2) calls are blocked for record locks of the source file, or soon are.
[[nodiscard]] ::testing::AssertionResult record_waiters(const std::string& source_path, int blocked);

}  // namespace flockfs::test
