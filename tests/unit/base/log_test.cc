#include "base/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "temp_directory.h"

namespace flockfs {
namespace {

using std::chrono::seconds;
using testing::HasSubstr;
using testing::MatchesRegex;
using Steady = std::chrono::steady_clock;

std::string contents(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// A directory of its own for each test; the log is closed whatever happened.
class LogTest : public testing::Test {
 protected:
  ~LogTest() override { log_close(); }
  [[nodiscard]] std::string file() const { return directory_.path() + "/log"; }
  [[nodiscard]] LogConfig to_file(LogLevel level = LogLevel::kInfo) const { return {LogTarget::kFile, file(), level}; }

 private:
  const TempDirectory directory_;
};

// Puts a pipe in stderr's place for a scope.
class StderrPipe {
 public:
  StderrPipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
    reader_.reset(ends[0]);
    saved_.reset(::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3));
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[1]);
  }
  ~StderrPipe() { restore(); }
  StderrPipe(const StderrPipe&) = delete;
  StderrPipe& operator=(const StderrPipe&) = delete;

  void restore() {
    if (saved_) ::dup2(saved_.get(), STDERR_FILENO);
    saved_.reset();
  }
  // Whoever writes now waits until somebody has read, however late it comes.
  static void fill() {
    const int flags = ::fcntl(STDERR_FILENO, F_GETFL);
    ::fcntl(STDERR_FILENO, F_SETFL, flags | O_NONBLOCK);
    while (::write(STDERR_FILENO, "\n", 1) == 1) {
    }
    ::fcntl(STDERR_FILENO, F_SETFL, flags);
  }
  void close_reader() { reader_.reset(); }
  // What was written; REQUIRES: restored, so that there is an end.
  std::string read_all() {
    std::string text;
    char buffer[65536];
    for (ssize_t got = 1; got > 0;) {
      got = ::read(reader_.get(), buffer, sizeof buffer);
      if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
    }
    return text;
  }
  // Reads until `text` has been seen or 10 s have passed.
  std::string read_until(const std::string& text) {
    std::string all;
    const auto deadline = Steady::now() + seconds(10);
    while (all.find(text) == std::string::npos && Steady::now() < deadline) {
      char buffer[65536];
      const ssize_t got = ::read(reader_.get(), buffer, sizeof buffer);
      if (got <= 0) break;
      all.append(buffer, static_cast<std::size_t>(got));
    }
    return all;
  }

 private:
  UniqueFd reader_;
  UniqueFd saved_;
};

TEST_F(LogTest, FileGetsLinesWithTime) {
  ASSERT_TRUE(log_open(to_file()).ok());
  log_write(LogLevel::kInfo, LogLine("lock").number("pid", 1));
  log_close();
  EXPECT_THAT(contents(file()), MatchesRegex("time=20[0-9-]{8}T[0-9:]{8}\\.[0-9]{3}Z event=lock pid=1\n"));
}

TEST_F(LogTest, FileIsAppendedTo) {
  std::ofstream(file()) << "before\n";
  ASSERT_TRUE(log_open(to_file()).ok());
  log_write(LogLevel::kError, LogLine("x"));
  log_close();
  EXPECT_THAT(contents(file()), MatchesRegex("before\ntime=[^ ]* event=x\n"));
}

TEST_F(LogTest, NewFileIsNotForOthers) {
  ::umask(0);
  ASSERT_TRUE(log_open(to_file()).ok());
  ::umask(022);
  struct stat status {};
  ASSERT_EQ(::stat(file().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0640U);
}

TEST_F(LogTest, FileIsClosedOnExec) {
  ASSERT_TRUE(log_open(to_file()).ok());
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ignored;
    if (std::filesystem::read_symlink(entry, ignored) != file()) continue;
    ++found;
    EXPECT_NE(::fcntl(std::stoi(entry.path().filename()), F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_EQ(found, 1);
}

TEST_F(LogTest, FileThatCannotBeOpenedIsNamed) {
  const Status opened = log_open({LogTarget::kFile, "/nonexistent/dir/log", LogLevel::kInfo});
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().message(), "cannot open log file '/nonexistent/dir/log': No such file or directory");
  EXPECT_FALSE(log_enabled(LogLevel::kError));
}

TEST_F(LogTest, FifoWithoutReaderIsAnErrorAndNoWait) {
  ASSERT_EQ(::mkfifo(file().c_str(), 0600), 0);
  EXPECT_FALSE(log_open(to_file()).ok());
}

TEST_F(LogTest, LevelDecidesWhatIsWritten) {
  ASSERT_TRUE(log_open(to_file(LogLevel::kWarning)).ok());
  EXPECT_TRUE(log_enabled(LogLevel::kError));
  EXPECT_TRUE(log_enabled(LogLevel::kWarning));
  EXPECT_FALSE(log_enabled(LogLevel::kInfo));
  log_write(LogLevel::kInfo, LogLine("no"));
  log_write(LogLevel::kWarning, LogLine("yes"));
  log_close();
  EXPECT_THAT(contents(file()), MatchesRegex("[^\n]*event=yes\n"));
}

TEST_F(LogTest, NothingIsEnabledWhileClosed) {
  EXPECT_FALSE(log_enabled(LogLevel::kError));
  log_write(LogLevel::kError, LogLine("nowhere"));
  ASSERT_TRUE(log_open(to_file()).ok());
  log_close();
  EXPECT_FALSE(log_enabled(LogLevel::kError));
  log_write(LogLevel::kError, LogLine("nowhere"));
  EXPECT_EQ(contents(file()), "");
}

TEST_F(LogTest, ErrorsNameOperationPathAndReason) {
  ASSERT_TRUE(log_open(to_file()).ok());
  log_error("open", "/a b", Error{ENOENT, "cannot open"});
  log_error("fence", "", Error{EIO, ""});
  log_close();
  EXPECT_THAT(contents(file()), HasSubstr(" event=error op=open path=\"/a b\" reason=\"cannot open: No such file or "
                                          "directory\"\n"));
  EXPECT_THAT(contents(file()), HasSubstr(" event=error op=fence reason=\"Input/output error\"\n"));
}

TEST_F(LogTest, ThreadsDoNotMixTheirLines) {
  ASSERT_TRUE(log_open(to_file()).ok());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 500; ++i) log_write(LogLevel::kInfo, LogLine("n").number("t", t).number("i", i));
    });
  }
  for (auto& thread : threads) thread.join();
  log_close();
  std::ifstream lines(file());
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    EXPECT_THAT(line, MatchesRegex("time=[^ ]* event=n t=[0-9]+ i=[0-9]+"));
  }
  EXPECT_EQ(count, 2000);
}

TEST_F(LogTest, StderrHasTimeBeforeEachLine) {
  StderrPipe pipe;
  ASSERT_TRUE(log_open({}).ok());
  log_write(LogLevel::kInfo, LogLine("x"));
  log_close();
  pipe.restore();
  EXPECT_THAT(pipe.read_all(), MatchesRegex("time=[^ ]*Z event=x\n"));
}

TEST_F(LogTest, JournalGetsLevelsAndNoTime) {
  StderrPipe pipe;
  struct stat status {};
  ASSERT_EQ(::fstat(STDERR_FILENO, &status), 0);
  ::setenv("JOURNAL_STREAM", (std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino)).c_str(), 1);
  const bool opened = log_open({LogTarget::kStderr, "", LogLevel::kDebug}).ok();
  ::unsetenv("JOURNAL_STREAM");
  ASSERT_TRUE(opened);
  log_write(LogLevel::kError, LogLine("e"));
  log_write(LogLevel::kWarning, LogLine("w"));
  log_write(LogLevel::kInfo, LogLine("i"));
  log_write(LogLevel::kDebug, LogLine("d"));
  log_close();
  pipe.restore();
  EXPECT_EQ(pipe.read_all(), "<3>event=e\n<4>event=w\n<6>event=i\n<7>event=d\n");
}

TEST_F(LogTest, JournalStreamOfSomebodyElseIsNotOurs) {
  StderrPipe pipe;
  ::setenv("JOURNAL_STREAM", "1:1", 1);
  const bool opened = log_open({}).ok();
  ::unsetenv("JOURNAL_STREAM");
  ASSERT_TRUE(opened);
  log_write(LogLevel::kInfo, LogLine("x"));
  log_close();
  pipe.restore();
  EXPECT_THAT(pipe.read_all(), HasSubstr("time="));
}

TEST_F(LogTest, ClosedStderrDoesNotKill) {
  StderrPipe pipe;
  pipe.close_reader();
  ASSERT_TRUE(log_open({}).ok());
  log_write(LogLevel::kInfo, LogLine("x"));
  log_close();
}

// More than the queue (8192 lines) and a pipe (64 KiB) can hold.
void write_too_much() {
  for (int i = 0; i < 20'000; ++i) log_write(LogLevel::kInfo, LogLine("n").number("i", i));
}

TEST_F(LogTest, FullSinkNeverBlocksTheCallerAndNewLinesAreDropped) {
  StderrPipe pipe;
  pipe.fill();
  ASSERT_TRUE(log_open({}).ok());
  const std::uint64_t dropped_before = log_dropped();
  const auto start = Steady::now();
  write_too_much();
  EXPECT_LT(Steady::now() - start, seconds(5));
  const std::uint64_t dropped = log_dropped() - dropped_before;
  EXPECT_GT(dropped, 5'000U);
  EXPECT_LE(dropped, 20'000U - 8'192U);
  std::string text = pipe.read_until(" event=dropped ");
  text += pipe.read_until(" event=n i=8191\n");
  log_close();
  EXPECT_NE(text.find(" event=n i=0\n"), std::string::npos);
  EXPECT_NE(text.find(" event=n i=8191\n"), std::string::npos);
  EXPECT_EQ(text.find(" event=n i=19999\n"), std::string::npos);
  EXPECT_NE(text.find(" event=dropped lines=" + std::to_string(dropped) + "\n"), std::string::npos);
}

TEST_F(LogTest, CloseEndsWithinBoundsWhenTheSinkIsStuck) {
  StderrPipe pipe;
  ASSERT_TRUE(log_open({}).ok());
  write_too_much();
  const auto start = Steady::now();
  log_close();
  EXPECT_LT(Steady::now() - start, seconds(4));
  // The stuck thread writes on once somebody reads, into what stderr is then.
  pipe.close_reader();
}

TEST_F(LogTest, OpensAgainAfterClose) {
  ASSERT_TRUE(log_open(to_file()).ok());
  log_close();
  ASSERT_TRUE(log_open(to_file()).ok());
  log_write(LogLevel::kInfo, LogLine("again"));
  log_close();
  EXPECT_THAT(contents(file()), HasSubstr("event=again"));
}

}  // namespace
}  // namespace flockfs
