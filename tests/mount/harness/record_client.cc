#include "harness/record_client.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <sstream>
#include <system_error>

#include "harness/files.h"
#include "harness/source_lock.h"

namespace flockfs::test {
namespace {

struct flock range(int type, Bytes bytes) {
  struct flock lock {};
  lock.l_type = static_cast<short>(type);
  lock.l_start = bytes.start;
  lock.l_len = bytes.length;
  return lock;
}

extern "C" void note_record_signal(int) {}

std::string on_range(const char* order, int fd, int type, Bytes bytes, RecordKind kind) {
  std::ostringstream text;
  text << order << ' ' << fd << ' ' << type << ' ' << bytes.start << ' ' << bytes.length << ' '
       << (kind == RecordKind::kOfd);
  return text.str();
}

std::string obey(std::istringstream& order) {
  std::string what;
  int fd = -1;
  order >> what >> fd;
  if (what == "open") {
    std::string path;
    order >> path;
    const int opened = ::open(path.c_str(), fd | O_CLOEXEC);  // fd: the flags
    return std::to_string(opened >= 0 ? opened : -errno);
  }
  if (what == "dup") return std::to_string(::dup(fd));
  if (what == "close") return std::to_string(::close(fd));
  if (what == "handle") {
    struct sigaction action {};
    action.sa_handler = note_record_signal;
    order >> action.sa_flags;
    return std::to_string(::sigaction(fd, &action, nullptr));
  }
  int type = 0;
  Bytes bytes;
  bool ofd = false;
  order >> type >> bytes.start >> bytes.length >> ofd;
  const RecordKind kind = ofd ? RecordKind::kOfd : RecordKind::kPosix;
  if (what == "query") return query_record(fd, type, bytes, kind);
  return std::to_string(set_record(fd, type, bytes, kind, what == "wait"));
}

void serve(Peer& test) {
  for (;;) {
    const std::string text = test.hear();
    if (text == "end") return;
    std::istringstream order(text);
    test.say(obey(order));
  }
}

}  // namespace

int set_record(int fd, int type, Bytes bytes, RecordKind kind, bool wait) {
  const struct flock lock = range(type, bytes);
  const int command = kind == RecordKind::kPosix ? (wait ? F_SETLKW : F_SETLK) : (wait ? F_OFD_SETLKW : F_OFD_SETLK);
  return ::fcntl(fd, command, &lock) == 0 ? 0 : errno;
}

std::string query_record(int fd, int type, Bytes bytes, RecordKind kind) {
  struct flock lock = range(type, bytes);
  if (::fcntl(fd, kind == RecordKind::kPosix ? F_GETLK : F_OFD_GETLK, &lock) != 0) return errno_name(errno);
  if (lock.l_type == F_UNLCK) return "free";
  std::ostringstream text;
  text << (lock.l_type == F_WRLCK ? "write " : "read ") << lock.l_start << ' ' << lock.l_len << ' ' << lock.l_pid;
  return text.str();
}

RecordClient::RecordClient() : child_(serve) {}

std::string RecordClient::ask(const std::string& order) {
  child_.say(order);
  const auto answer = child_.hear();
  EXPECT_TRUE(answer) << "no answer to " << order;
  return answer.value_or("-1");
}

int RecordClient::open(const std::string& path, int flags) {
  const int fd = std::stoi(ask("open " + std::to_string(flags) + " " + path));
  EXPECT_GE(fd, 0) << path << ": " << errno_name(-fd);
  return fd;
}

int RecordClient::dup(int fd) {
  const int copy = std::stoi(ask("dup " + std::to_string(fd)));
  EXPECT_GE(copy, 0);
  return copy;
}

void RecordClient::close(int fd) { EXPECT_EQ(ask("close " + std::to_string(fd)), "0"); }

int RecordClient::set(int fd, int type, Bytes bytes, RecordKind kind) {
  return std::stoi(ask(on_range("set", fd, type, bytes, kind)));
}

std::string RecordClient::query(int fd, int type, Bytes bytes, RecordKind kind) {
  return ask(on_range("query", fd, type, bytes, kind));
}

void RecordClient::handle(int signal, bool restart) {
  EXPECT_EQ(ask("handle " + std::to_string(signal) + " " + std::to_string(restart ? SA_RESTART : 0)), "0");
}

void RecordClient::begin_wait(int fd, int type, Bytes bytes, RecordKind kind) {
  child_.say(on_range("wait", fd, type, bytes, kind));
}

::testing::AssertionResult RecordClient::wait_ends(int error, Millis time) {
  return child_.says(std::to_string(error), time);
}

void RecordClient::end() {
  child_.say("end");
  EXPECT_TRUE(child_.ends_well());
}

ForeignRecord::ForeignRecord(const std::string& source_path, int type, Bytes bytes)
    : fd_(open_file(source_path, O_RDWR)) {
  const int error = set_record(fd_.get(), type, bytes, RecordKind::kOfd);
  if (error != 0) throw std::system_error(error, std::generic_category(), source_path);
}

void ForeignRecord::release() {
  EXPECT_EQ(set_record(fd_.get(), F_UNLCK, {}, RecordKind::kOfd), 0);
  fd_.reset();
}

bool record_is_free(const std::string& source_path, int type, Bytes bytes) {
  return query_record(open_file(source_path, O_RDONLY).get(), type, bytes, RecordKind::kOfd) == "free";
}

::testing::AssertionResult record_becomes_free(const std::string& source_path, int type, Bytes bytes) {
  if (eventually([&] { return record_is_free(source_path, type, bytes); })) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "still locked: "
                                       << query_record(open_file(source_path, O_RDONLY).get(), type, bytes,
                                                       RecordKind::kOfd);
}

::testing::AssertionResult record_waiters(const std::string& source_path, int blocked) {
  std::ptrdiff_t seen = 0;
  const auto as_wanted = [&] {
    const auto locks = kernel_locks(source_path);
    seen = std::count_if(locks.begin(), locks.end(),
                         [](const KernelLock& lock) { return lock.waits && lock.type != "FLOCK"; });
    return seen == blocked;
  };
  if (eventually(as_wanted)) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << seen << " blocked";
}

}  // namespace flockfs::test
