// The socket: who finds it, who is answered, and that nobody can hold it up.

#include "status/server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <new>

#include "status/local_socket.h"
#include "status/socket_name.h"
#include "temp_directory.h"

namespace flockfs::test {
namespace {

class StatusServerTest : public ::testing::Test {
 protected:
  StatusServerTest() {
    directory_ = UniqueFd(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    EXPECT_TRUE(directory_.valid());
  }

  [[nodiscard]] UniqueFd directory() const { return UniqueFd(::fcntl(directory_.get(), F_DUPFD_CLOEXEC, 0)); }
  [[nodiscard]] std::unique_ptr<StatusServer> start(StatusServer::Answer answer, dev_t device = makedev(0, 99)) const {
    auto server = StatusServer::start(directory(), device, std::move(answer));
    EXPECT_TRUE(server.ok()) << (server.ok() ? "" : server.error().message());
    return server.ok() ? *std::move(server) : nullptr;
  }
  [[nodiscard]] static std::string name(dev_t device = makedev(0, 99)) {
    return to_string(SocketName{device, ::getpid()});
  }
  [[nodiscard]] UniqueFd connect(const std::string& to = name()) const {
    auto socket = connect_in(directory_.get(), to);
    EXPECT_TRUE(socket.ok());
    return socket.ok() ? *std::move(socket) : UniqueFd();
  }
  // All that comes, with a deadline.
  [[nodiscard]] static std::string read_all(const UniqueFd& socket) {
    constexpr timeval kLimit{.tv_sec = 60, .tv_usec = 0};
    EXPECT_EQ(::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kLimit, sizeof kLimit), 0);
    std::string text;
    char bytes[65536];
    for (ssize_t got = 0; (got = ::recv(socket.get(), bytes, sizeof bytes, 0)) != 0;) {
      if (got < 0) return "recv: " + std::string(std::strerror(errno));
      text.append(bytes, static_cast<std::size_t>(got));
    }
    return text;
  }

  const TempDirectory temporary_;
  const std::string& path_ = temporary_.path();
  UniqueFd directory_;
};

TEST_F(StatusServerTest, AnswersAndCloses) {
  const auto server = start([] { return std::string("report\n"); });
  EXPECT_EQ(read_all(connect()), "report\n");
  EXPECT_EQ(read_all(connect()), "report\n");
}

TEST_F(StatusServerTest, OnlyItsUserMayUseTheSocket) {
  const auto server = start([] { return std::string("report\n"); });
  struct stat st {};
  ASSERT_EQ(::stat((path_ + "/" + name()).c_str(), &st), 0);
  EXPECT_EQ(st.st_mode, static_cast<mode_t>(S_IFSOCK | 0600));
}

TEST_F(StatusServerTest, LeavesNothing) {
  start([] { return std::string(); }).reset();
  EXPECT_TRUE(names_in(directory_.get()).size() == 2) << "more than . and ..";
}

// An answer that no socket takes in one piece.
TEST_F(StatusServerTest, LongAnswersArriveWhole) {
  const std::string text(std::size_t{8} << 20U, 'x');
  const auto server = start([&] { return text; });
  EXPECT_TRUE(read_all(connect()) == text);
}

TEST_F(StatusServerTest, WhoDoesNotReadHoldsUpNobody) {
  const auto server = start([] { return std::string(std::size_t{8} << 20U, 'x'); });
  const UniqueFd hanging = connect();
  EXPECT_EQ(read_all(connect()).size(), std::size_t{8} << 20U);
}

// Those who hang are cut off, and then those are answered who had no place.
TEST_F(StatusServerTest, ManyWhoDoNotReadHoldUpOthersForSomeSecondsOnly) {
  const auto server = start([] { return std::string(std::size_t{1} << 20U, 'x'); });
  std::vector<UniqueFd> hanging;
  for (int i = 0; i < 12; ++i) hanging.push_back(connect());
  EXPECT_EQ(read_all(connect()).size(), std::size_t{1} << 20U);
}

TEST_F(StatusServerTest, EndsAtOnceWhateverItsClientsDo) {
  auto server = start([] { return std::string(std::size_t{8} << 20U, 'x'); });
  const UniqueFd hanging = connect();
  const auto begun = std::chrono::steady_clock::now();
  server.reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(4)) << "the time that a client has";
}

TEST_F(StatusServerTest, AnAnswerThatFailsHarmsNobody) {
  std::atomic<bool> fails = true;
  const auto server = start([&]() -> std::string {
    if (fails) throw std::bad_alloc();
    return "report\n";
  });
  EXPECT_EQ(read_all(connect()), "");
  fails = false;
  EXPECT_EQ(read_all(connect()), "report\n");
}

TEST_F(StatusServerTest, SocketsOfTheDeadAreRemovedAndOthersLeft) {
  const std::string dead = to_string(SocketName{makedev(0, 50), 4711});
  {
    const auto listener = listen_in(directory_.get(), dead, 1);
    ASSERT_TRUE(listener.ok());
  }
  const auto living = start([] { return std::string("other\n"); }, makedev(0, 51));
  const std::string record = "lockfiles.0123456789abcdef";
  ASSERT_TRUE(UniqueFd(::openat(directory_.get(), record.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)).valid());
  const auto server = start([] { return std::string("report\n"); });
  const auto names = names_in(directory_.get());
  EXPECT_EQ(std::ranges::count(names, dead), 0);
  EXPECT_EQ(std::ranges::count(names, record), 1);
  EXPECT_EQ(read_all(connect(name(makedev(0, 51)))), "other\n");
}

// Not a socket, but by that name: left alone, as is what a symlink leads to.
TEST_F(StatusServerTest, WhatIsNoSocketIsLeftAlone) {
  const std::string odd = to_string(SocketName{makedev(0, 50), 1});
  ASSERT_EQ(::symlinkat("/etc/passwd", directory_.get(), odd.c_str()), 0);
  const auto server = start([] { return std::string("report\n"); });
  EXPECT_TRUE(std::filesystem::is_symlink(path_ + "/" + odd));
  EXPECT_EQ(read_all(connect()), "report\n");
}

TEST(SocketNameTest, NamesAreReadAsTheyAreWritten) {
  const SocketName name{makedev(0, 1234567 & 0xFFFFF), 4711};
  EXPECT_EQ(parse_socket_name(to_string(name)), name);
  for (const std::string text : {"", "status.", "status.0:5", "status.0:5.", "status.0:5.0", "status.0:5.-3",
                                 "status.0:5.7x", "status.:5.7", "lockfiles.0:5.7", "new.status.0:5.7"}) {
    EXPECT_FALSE(parse_socket_name(text)) << text;
  }
}

}  // namespace
}  // namespace flockfs::test
