#include "cli/daemonize.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <thread>

#include "temp_directory.h"

namespace flockfs {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

// Runs `body` as the daemon, which ends with it; returns what the caller hears.
StartOutcome start(const std::function<void(Startup&)>& body) {
  auto side = start_in_background();
  if (auto* const startup = std::get_if<Startup>(&side)) {
    body(*startup);
    ::_exit(0);
  }
  return std::get<StartOutcome>(side);
}

// The names of the open descriptors and what they lead to, "0=/dev/null 1=...".
std::string open_descriptors() {
  std::set<std::string> lines;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    const std::string target = fs::read_symlink(entry, ignored).string();
    if (target.find("/fd") == std::string::npos) lines.insert(entry.path().filename().string() + "=" + target);
  }
  std::string text;
  for (const std::string& line : lines) text += line + " ";
  return text;
}

class DaemonizeTest : public testing::Test {
 protected:
  DaemonizeTest() { (void)std::signal(SIGPIPE, SIG_IGN); }

  [[nodiscard]] const std::string& directory() const { return directory_.path(); }

  // For what a daemon does after its caller has heard of it: a file that appears whole.
  void note(const std::string& text) const {
    std::ofstream(directory() + "/part") << text << std::flush;
    fs::rename(directory() + "/part", directory() + "/note");
  }
  [[nodiscard]] std::string wait_for_note() const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!fs::exists(directory() + "/note") && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    std::ostringstream text;
    text << std::ifstream(directory() + "/note").rdbuf();
    return text.str();
  }

 private:
  const TempDirectory directory_;
};

TEST_F(DaemonizeTest, ReadyIsSuccess) {
  const StartOutcome outcome = start([](Startup& startup) { (void)startup.ready(); });
  EXPECT_EQ(outcome.code, kExitOk);
  EXPECT_EQ(outcome.message, "");
}

TEST_F(DaemonizeTest, CallerReturnsWhileTheDaemonGoesOn) {
  const StartOutcome outcome = start([&](Startup& startup) {
    const bool heard = startup.ready();
    // Only the caller, once it has returned, lets this go on.
    while (!fs::exists(directory() + "/returned")) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    note(heard ? "heard" : "unheard");
  });
  std::ofstream(directory() + "/returned") << "x";
  EXPECT_EQ(outcome.code, kExitOk);
  EXPECT_EQ(wait_for_note(), "heard");
}

TEST_F(DaemonizeTest, FailureReachesTheCallerWithCodeAndMessage) {
  const std::string message = "cannot mount '/a\nb': " + std::string(100'000, 'x');  // more than a pipe holds
  const StartOutcome outcome = start([&](Startup& startup) { (void)startup.fail(kExitUsage, message); });
  EXPECT_EQ(outcome.code, kExitUsage);
  EXPECT_EQ(outcome.message, message);
}

TEST_F(DaemonizeTest, DeathBySignalIsToldApart) {
  const StartOutcome outcome = start([](Startup& /*startup*/) { ::kill(::getpid(), SIGKILL); });
  EXPECT_EQ(outcome.code, kExitFailure);
  EXPECT_EQ(outcome.message, "the daemon was killed by signal 9 (Killed) before the mirror was usable");
}

TEST_F(DaemonizeTest, ExitWithoutAWordIsAFailureEvenWithStatusZero) {
  EXPECT_EQ(start([](Startup& /*startup*/) { ::_exit(7); }).message,
            "the daemon ended with status 7 before the mirror was usable");
  EXPECT_EQ(start([](Startup& /*startup*/) { ::_exit(0); }).code, kExitFailure);
}

TEST_F(DaemonizeTest, CallerWhoIgnoresSigchldStillLearnsHowTheDaemonDied) {
  (void)std::signal(SIGCHLD, SIG_IGN);
  EXPECT_THAT(start([](Startup& /*startup*/) { ::_exit(7); }).message, HasSubstr("status 7"));
}

TEST_F(DaemonizeTest, DaemonHasItsOwnSessionAndTheRootDirectory) {
  const StartOutcome outcome = start([](Startup& startup) {
    const bool leads = ::getsid(0) == ::getpid();
    (void)startup.fail(kExitFailure, (leads ? "leads " : "follows ") + fs::current_path().string());
  });
  EXPECT_EQ(outcome.message, "leads /");
}

TEST_F(DaemonizeTest, DescriptorsOfTheCallerAreClosed) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int high = ::fcntl(ends[1], F_DUPFD, 100);
  const StartOutcome outcome = start([](Startup& startup) { (void)startup.fail(kExitFailure, open_descriptors()); });
  ::close(ends[0]);
  ::close(ends[1]);
  ::close(high);
  EXPECT_THAT(outcome.message, testing::MatchesRegex("0=[^ ]* 1=[^ ]* 2=[^ ]* 3=pipe:[^ ]* "));
}

TEST_F(DaemonizeTest, AfterReadyNothingOfTheCallerIsLeft) {
  const StartOutcome outcome = start([&](Startup& startup) {
    (void)startup.ready();
    note(open_descriptors());
  });
  EXPECT_EQ(outcome.code, kExitOk);
  EXPECT_EQ(wait_for_note(), "0=/dev/null 1=/dev/null 2=/dev/null ");
}

TEST_F(DaemonizeTest, DaemonLearnsThatItsCallerIsGone) {
  const pid_t caller = ::fork();
  ASSERT_GE(caller, 0);
  if (caller == 0) {
    (void)start([&](Startup& startup) {
      const pid_t parent = ::getppid();
      ::kill(parent, SIGKILL);
      // Until it is waited for, below: while it ends its other threads (the sanitizer's) still have its descriptors.
      while (::kill(parent, 0) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      note(startup.ready() ? "heard" : "unheard");
    });
    ::_exit(1);
  }
  ::waitpid(caller, nullptr, 0);
  EXPECT_EQ(wait_for_note(), "unheard");
}

TEST_F(DaemonizeTest, StartupInTheForegroundPrintsAndKeepsItsDescriptors) {
  Startup startup = Startup::in_foreground();
  testing::internal::CaptureStderr();
  EXPECT_EQ(startup.fail(kExitFailure, "no such thing"), kExitFailure);
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "flockfs: no such thing\n");
  const std::string before = open_descriptors();
  EXPECT_TRUE(startup.ready());
  EXPECT_EQ(open_descriptors(), before);
}

TEST_F(DaemonizeTest, ClosedStandardDescriptorsAreFilled) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::close(STDIN_FILENO);
    ::close(STDERR_FILENO);
    fill_standard_descriptors();
    const int next = ::open("/dev/null", O_RDONLY);
    ::_exit(next > STDERR_FILENO && ::fcntl(STDERR_FILENO, F_GETFD) == 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace flockfs
