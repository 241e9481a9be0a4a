#include "mirror/clients.h"

#include <gtest/gtest.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <thread>
#include <vector>

#include "eventually.h"

namespace flockfs {
namespace {

constexpr std::size_t kClients = 8;

// Processes that do nothing.
class Idlers {
 public:
  explicit Idlers(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) ::pause();
      }
      if (pid > 0) pids_.push_back(pid);
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
    for (; ended_ < pids_.size(); ++ended_) {
      ::kill(pids_[ended_], SIGKILL);
      ::waitpid(pids_[ended_], nullptr, 0);
    }
  }

 private:
  std::vector<pid_t> pids_;
  std::size_t ended_ = 0;
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
