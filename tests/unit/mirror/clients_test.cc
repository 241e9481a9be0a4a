#include "mirror/clients.h"

#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstddef>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "eventually.h"

namespace flockfs {
namespace {

constexpr std::size_t kClients = 4;

// Processes that do nothing, and are small, so that they end at once.
class Idlers {
 public:
  explicit Idlers(std::size_t count) {
    std::array<std::string, 2> words = {"sleep", "60"};
    std::array<char*, 3> command = {words[0].data(), words[1].data(), nullptr};
    for (std::size_t i = 0; i < count; ++i) {
      pid_t pid = 0;
      if (::posix_spawnp(&pid, command[0], nullptr, nullptr, command.data(), environ) == 0) pids_.push_back(pid);
    }
  }
  Idlers(const Idlers&) = delete;
  Idlers& operator=(const Idlers&) = delete;
  ~Idlers() { end(); }

  [[nodiscard]] const std::vector<pid_t>& pids() const { return pids_; }
  // Of them, those that process_of() knows.
  [[nodiscard]] std::size_t known() const {
    return static_cast<std::size_t>(
        std::count_if(pids_.begin(), pids_.end(), [](pid_t pid) { return process_of(pid) == pid; }));
  }
  void end() {
    if (std::exchange(ended_, true)) return;
    for (const pid_t pid : pids_) ::kill(pid, SIGKILL);
    for (const pid_t pid : pids_) ::waitpid(pid, nullptr, 0);
  }

 private:
  std::vector<pid_t> pids_;
  bool ended_ = false;
};

TEST(ClientsTest, AThreadIsOfItsProcess) {
  EXPECT_EQ(process_of(::getpid()), ::getpid());
  pid_t process = 0;
  std::thread([&] { process = process_of(::gettid()); }).join();
  EXPECT_EQ(process, ::getpid());
}

TEST(ClientsTest, WhoIsGoneOrNotSeenIsOfNone) {
  Idlers idlers(1);
  ASSERT_EQ(idlers.pids().size(), 1u);
  idlers.end();
  EXPECT_EQ(process_of(idlers.pids().front()), 0);
  EXPECT_EQ(process_of(0), 0);
}

// Clients that take turns are not asked for each time, which is seen by what is said of them for a moment after their
// end.
TEST(ClientsTest, SeveralWhoTakeTurnsAreKnown) {
  EXPECT_TRUE(eventually([] {  // the moment may be over, or two of their numbers be far apart
    Idlers idlers(kClients);
    EXPECT_EQ(idlers.known(), kClients);
    idlers.end();
    return idlers.known() == kClients;
  }));
}

}  // namespace
}  // namespace flockfs
