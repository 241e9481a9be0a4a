// DESIGN 1.1: "by whatever system call"; and executing a file is an O_RDONLY open.

#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {
namespace {

struct Call {
  const char* name;
  std::function<int(const std::string& path)> open;
  LockSeen lock;
};

int by_fopen(const std::string& path, const char* mode) {
  FILE* file = std::fopen(path.c_str(), mode);
  return file == nullptr ? -1 : ::fileno(file);  // the stream lives until the child ends
}

int by_openat2(const std::string& path, unsigned long flags) {
  open_how how{};
  how.flags = flags;
  how.resolve = RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how));
}

int by_handle(const std::string& path, int flags) {
  std::vector<char> space(sizeof(file_handle) + MAX_HANDLE_SZ);
  auto* handle = reinterpret_cast<file_handle*>(space.data());
  handle->handle_bytes = MAX_HANDLE_SZ;
  int mount_id = 0;
  if (::name_to_handle_at(AT_FDCWD, path.c_str(), handle, &mount_id, 0) != 0) return -1;
  const UniqueFd folder(::open(path.substr(0, path.rfind('/')).c_str(), O_RDONLY | O_DIRECTORY));
  return ::open_by_handle_at(folder.get(), handle, flags);
}

std::vector<Call> calls() {
  std::vector<Call> list{
      {"open64", [](const auto& path) { return ::open64(path.c_str(), O_RDONLY); }, LockSeen::kShared},
      {"creat", [](const auto& path) { return ::creat(path.c_str(), 0644); }, LockSeen::kExclusive},
      {"fopen_r", [](const auto& path) { return by_fopen(path, "r"); }, LockSeen::kShared},
      {"fopen_w", [](const auto& path) { return by_fopen(path, "w"); }, LockSeen::kExclusive},
      {"fopen_a", [](const auto& path) { return by_fopen(path, "a"); }, LockSeen::kExclusive},
      {"fopen_rplus", [](const auto& path) { return by_fopen(path, "r+"); }, LockSeen::kExclusive},
      {"openat2_read", [](const auto& path) { return by_openat2(path, O_RDONLY); }, LockSeen::kShared},
      {"openat2_write", [](const auto& path) { return by_openat2(path, O_WRONLY); }, LockSeen::kExclusive},
      {"syscall_openat",
       [](const auto& path) { return static_cast<int>(::syscall(SYS_openat, AT_FDCWD, path.c_str(), O_RDWR, 0)); },
       LockSeen::kExclusive},
  };
#ifdef SYS_open
  list.push_back({"syscall_open",
                  [](const auto& path) { return static_cast<int>(::syscall(SYS_open, path.c_str(), O_RDONLY, 0)); },
                  LockSeen::kShared});
  list.push_back({"syscall_creat",
                  [](const auto& path) { return static_cast<int>(::syscall(SYS_creat, path.c_str(), 0644)); },
                  LockSeen::kExclusive});
#endif
  return list;
}

class LockOnSyscallTest : public PassthroughTest {
 protected:
  // Opens a file that somebody else holds, so that the open waits, is let in, and then holds the lock.
  void check(const Call& call) {
    SCOPED_TRACE(call.name);
    write_file(source(call.name), "contents");
    ForeignLock foreign(source(call.name), LOCK_EX);
    Opener opener([&] { return call.open(mnt(call.name)); });
    ASSERT_TRUE(mirror().waits(opener.pid()));
    EXPECT_TRUE(opener.is_waiting());
    foreign.release();
    ASSERT_TRUE(opener.opens());
    EXPECT_EQ(source_lock(source(call.name)), call.lock);
    opener.close();
    EXPECT_TRUE(becomes_free(source(call.name)));
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, LockOnSyscallTest, BothPassthroughs(), passthrough_name);

TEST_P(LockOnSyscallTest, EveryCallThatOpensWaitsAndLocks) {
  mount();
  for (const Call& call : calls()) {
    check(call);
    if (HasFatalFailure()) return;
  }
}

TEST_P(LockOnSyscallTest, OpenByHandleWaitsAndLocks) {
  write_file(source("probe"), "");
  mount();
  std::string probe;
  Child child([&](Peer& test) { test.say(UniqueFd(by_handle(mnt("probe"), O_RDONLY)) ? "0" : errno_name(errno)); });
  const auto answer = child.hear();
  ASSERT_TRUE(answer);
  if (*answer == "EOPNOTSUPP") GTEST_SKIP() << "this mirror gives no file handles";
  check({"by_handle_read", [](const auto& path) { return by_handle(path, O_RDONLY); }, LockSeen::kShared});
  check({"by_handle_write", [](const auto& path) { return by_handle(path, O_RDWR); }, LockSeen::kExclusive});
}

// A ring of one entry, enough to have the kernel open a file.
int by_io_uring(const std::string& path, int flags) {
  io_uring_params params{};
  const UniqueFd ring(static_cast<int>(::syscall(SYS_io_uring_setup, 1, &params)));
  if (!ring) return -1;
  const std::size_t size = params.cq_off.cqes + params.cq_entries * sizeof(io_uring_cqe);
  const std::size_t sq_size = params.sq_off.array + params.sq_entries * sizeof(unsigned);
  const auto map = [&](std::size_t length, off_t offset) {
    return static_cast<char*>(
        ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.get(), offset));
  };
  char* sq = map(sq_size, IORING_OFF_SQ_RING);
  char* cq = map(size, IORING_OFF_CQ_RING);
  auto* entries = reinterpret_cast<io_uring_sqe*>(map(params.sq_entries * sizeof(io_uring_sqe), IORING_OFF_SQES));
  *entries = {};
  entries->opcode = IORING_OP_OPENAT;
  entries->fd = AT_FDCWD;
  entries->addr = reinterpret_cast<__u64>(path.c_str());
  entries->open_flags = static_cast<unsigned>(flags);
  reinterpret_cast<unsigned*>(sq + params.sq_off.array)[0] = 0;
  std::atomic_ref<unsigned>(*reinterpret_cast<unsigned*>(sq + params.sq_off.tail)).store(1, std::memory_order_release);
  if (::syscall(SYS_io_uring_enter, ring.get(), 1, 1, IORING_ENTER_GETEVENTS, nullptr, 0) < 0) return -1;
  const int result = reinterpret_cast<io_uring_cqe*>(cq + params.cq_off.cqes)->res;
  if (result < 0) errno = -result;
  return result < 0 ? -1 : result;
}

TEST_P(LockOnSyscallTest, IoUringOpenWaitsAndLocks) {
  write_file(source("f"), "contents");
  mount();
  const UniqueFd plain(by_io_uring(source("f"), O_RDONLY));
  if (!plain) GTEST_SKIP() << "no io_uring here: " << errno_name(errno);
  ForeignLock foreign(source("f"), LOCK_EX);
  Opener opener([&] { return by_io_uring(mnt("f"), O_RDWR); });
  ASSERT_TRUE(mirror().waits_for(source("f")));
  EXPECT_TRUE(opener.is_waiting());
  foreign.release();
  ASSERT_TRUE(opener.opens());
  EXPECT_EQ(source_lock(source("f")), LockSeen::kExclusive);
  opener.close();
  EXPECT_TRUE(becomes_free(source("f")));
}

class ExecTest : public PassthroughTest {
 protected:
  void install_program(const std::string& name) { write_file(source(name), read_file(find_program("sleep")), 0755); }
};
INSTANTIATE_TEST_SUITE_P(Mount, ExecTest, BothPassthroughs(), passthrough_name);

TEST_P(ExecTest, RunningProgramHoldsASharedLockAsLongAsItRuns) {
  install_program("program");
  mount();
  Program program({mnt("program"), "1000"});
  ASSERT_TRUE(log().wait_for({.event = "lock", .path = source("program"), .mode = "shared"}));
  // exec opens, reads and maps the file; what has to last is what is left after that.
  const auto running = [&] {
    char exe[4096] = {};
    const std::string link = "/proc/" + std::to_string(program.pid()) + "/exe";
    return ::readlink(link.c_str(), exe, sizeof exe - 1) > 0 && mnt("program") == exe;
  };
  ASSERT_TRUE(eventually(running));
  pause_for(Millis(100));
  EXPECT_EQ(source_lock(source("program")), LockSeen::kShared);
  program.process().signal(SIGKILL);
  ASSERT_TRUE(program.process().killed_by(SIGKILL));
  EXPECT_TRUE(becomes_free(source("program")));
}

TEST_P(ExecTest, ExecWaitsForAWriter) {
  install_program("program");
  mount();
  ForeignLock foreign(source("program"), LOCK_EX);
  Program program({mnt("program"), "0"});
  ASSERT_TRUE(mirror().waits(program.pid()));
  EXPECT_FALSE(program.process().poll_status());
  foreign.release();
  EXPECT_EQ(program.exit_code(), 0);
  EXPECT_TRUE(becomes_free(source("program")));
}

TEST_P(ExecTest, ScriptHoldsASharedLockAsLongAsItRuns) {
  write_file(source("script"), "#!/bin/sh\necho started\nread line\n", 0755);
  mount();
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);
  Program program({mnt("script")}, {.before_exec = [&] { ::dup2(ends[0], 0); }});
  ASSERT_TRUE(eventually([&] { return program.out() == "started\n"; }));
  EXPECT_EQ(source_lock(source("script")), LockSeen::kShared);
  writer.reset();
  EXPECT_NE(program.exit_code(), -1);
  EXPECT_TRUE(becomes_free(source("script")));
}

}  // namespace
}  // namespace flockfs::test
