// flockfs-status --watch on a terminal and without one.

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <string>

#include "harness/status.h"

namespace flockfs::test {
namespace {

// A terminal of 24 rows and 80 columns, and the other end of it.
class Terminal {
 public:
  Terminal() : other_(::posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC)) {
    EXPECT_EQ(::grantpt(other_.get()), 0);
    EXPECT_EQ(::unlockpt(other_.get()), 0);
    name_ = ::ptsname(other_.get());
    slave_ = open_file(name_, O_RDWR | O_NOCTTY);
    const winsize size{24, 80, 0, 0};
    EXPECT_EQ(::ioctl(slave_.get(), TIOCSWINSZ, &size), 0);
  }
  // In the child: the terminal becomes its own, and its standard input and output.
  void take() const {
    ::setsid();
    const int fd = ::open(name_.c_str(), O_RDWR);
    if (fd < 0 || ::ioctl(fd, TIOCSCTTY, 0) != 0) ::_exit(126);
    for (int standard = 0; standard < 3; ++standard) ::dup2(fd, standard);
  }
  void type(const std::string& keys) const {
    EXPECT_EQ(::write(other_.get(), keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
  }
  // All that has been written to it, once that has this in it.
  [[nodiscard]] bool shows(const std::string& text) {
    return eventually([&] {
      read();
      return shown_.find(text) != std::string::npos;
    });
  }
  void read() {
    pollfd event{other_.get(), POLLIN, 0};
    char bytes[4096];
    while (::poll(&event, 1, 0) > 0 && (event.revents & POLLIN) != 0) {
      const ssize_t got = ::read(other_.get(), bytes, sizeof bytes);
      if (got <= 0) return;
      shown_.append(bytes, static_cast<std::size_t>(got));
    }
  }
  void forget() { shown_.clear(); }
  [[nodiscard]] const std::string& shown() const { return shown_; }
  [[nodiscard]] termios settings() const {
    termios now{};
    EXPECT_EQ(::tcgetattr(slave_.get(), &now), 0);
    return now;
  }

 private:
  UniqueFd other_;
  UniqueFd slave_;
  std::string name_;
  std::string shown_;
};

class StatusWatchTest : public MirrorWithStatusTest {
 protected:
  void SetUp() override { write_file(source("f"), "contents"); }
  [[nodiscard]] Program watch(const Terminal& terminal) const {
    return Program({status_program(), "--watch", mnt()}, {.before_exec = [&terminal] { terminal.take(); }});
  }
};

constexpr const char* kBack = "\033[?25h\033[?1049l";

void expect_same_settings(const termios& before, const termios& after) {
  EXPECT_EQ(before.c_lflag, after.c_lflag);
  EXPECT_EQ(before.c_iflag, after.c_iflag);
  EXPECT_EQ(before.c_oflag, after.c_oflag);
  EXPECT_EQ(before.c_cc[VMIN], after.c_cc[VMIN]);
}

TEST_F(StatusWatchTest, EndsOnKeysAndSignalsAndRestoresTheTerminal) {
  mount();
  for (const std::string how : {"q", "\003", "TERM", "HUP"}) {
    SCOPED_TRACE(how);
    Terminal terminal;
    const termios before = terminal.settings();
    Program program = watch(terminal);
    ASSERT_TRUE(terminal.shows("WAITING 0")) << terminal.shown();
    EXPECT_EQ(terminal.settings().c_lflag & (ECHO | ICANON), 0U);
    EXPECT_EQ(terminal.shown().find(kBack), std::string::npos);
    if (how == "TERM" || how == "HUP") {
      program.process().signal(how == "TERM" ? SIGTERM : SIGHUP);
    } else {
      terminal.type(how);
    }
    EXPECT_EQ(program.exit_code(), 0) << terminal.shown();
    terminal.read();
    EXPECT_TRUE(terminal.shown().ends_with(kBack)) << terminal.shown();
    expect_same_settings(before, terminal.settings());
  }
}

TEST_F(StatusWatchTest, ShowsWhatChanges) {
  mount();
  Terminal terminal;
  Program program = watch(terminal);
  ASSERT_TRUE(terminal.shows("HELD 0"));
  Opener holder(mnt("f"), O_RDONLY);
  ASSERT_TRUE(holder.opens());
  ASSERT_TRUE(terminal.shows("HELD 1")) << terminal.shown();
  holder.close();
  terminal.forget();
  ASSERT_TRUE(terminal.shows("HELD 0")) << terminal.shown();
  terminal.type("q");
  EXPECT_EQ(program.exit_code(), 0);
}

// What is said at the end is not lost with the other screen.
TEST_F(StatusWatchTest, MirrorThatGoesEndsIt) {
  mount();
  Terminal terminal;
  const termios before = terminal.settings();
  Program program = watch(terminal);
  ASSERT_TRUE(terminal.shows("HELD 0"));
  unmount();
  EXPECT_EQ(program.exit_code(), 1);
  terminal.read();
  const std::size_t back = terminal.shown().find(kBack);
  ASSERT_NE(back, std::string::npos);
  EXPECT_NE(terminal.shown().find("flockfs-status: ", back), std::string::npos) << terminal.shown();
  expect_same_settings(before, terminal.settings());
}

TEST_F(StatusWatchTest, WithoutATerminalItIsWrittenAgainAndAgain) {
  mount();
  for (const std::string option : {"--json", "--watch"}) {
    Program program({status_program(), "--watch", option, mnt()});
    const auto times = [&] {
      const std::string text = program.out();
      std::size_t count = 0;
      for (std::size_t at = 0; (at = text.find(option == "--json" ? "\"waiting\":" : "WAITING", at)) != text.npos;
           ++at) {
        ++count;
      }
      return count;
    };
    EXPECT_TRUE(eventually([&] { return times() >= 2; })) << program.out() << program.err();
    program.process().signal(SIGINT);
    EXPECT_EQ(program.exit_code(), 0);
    EXPECT_EQ(program.out().find('\033'), std::string::npos) << program.out();
  }
}

}  // namespace
}  // namespace flockfs::test
