#include "terminal.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <stdexcept>

namespace flockfs::test {
namespace {

[[noreturn]] void become(const std::vector<std::string>& command, const std::vector<std::string>& environment) {
  for (const std::string& pair : environment) {
    const std::size_t equals = pair.find('=');
    ::setenv(pair.substr(0, equals).c_str(), pair.substr(equals + 1).c_str(), 1);
  }
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(::strdup(word.c_str()));
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  ::_exit(127);
}

void report(int reports, const std::string& text) { (void)::send(reports, text.data(), text.size(), MSG_NOSIGNAL); }

// The smallest shell that has one job.
[[noreturn]] void be_shell(const std::vector<std::string>& command, const std::vector<std::string>& environment,
                           int orders, int reports) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGTTOU, SIG_IGN);
  const pid_t job = ::fork();
  if (job == 0) {
    ::setpgid(0, 0);
    ::tcsetpgrp(0, ::getpid());
    ::signal(SIGTTOU, SIG_DFL);
    become(command, environment);
  }
  ::setpgid(job, job);
  for (;;) {
    int status = 0;
    if (::waitpid(job, &status, WUNTRACED) != job) ::_exit(1);
    ::tcsetpgrp(0, ::getpgrp());
    if (!WIFSTOPPED(status)) {
      report(reports, WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                                          : "exit " + std::to_string(WEXITSTATUS(status)));
      char end = 0;
      (void)!::read(orders, &end, 1);
      ::_exit(0);
    }
    report(reports, "stopped " + std::to_string(WSTOPSIG(status)));
    char order = 0;
    if (::read(orders, &order, 1) != 1) ::_exit(0);
    ::tcsetpgrp(0, job);
    ::kill(-job, SIGCONT);
  }
}

std::pair<UniqueFd, UniqueFd> socket_pair() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) throw std::runtime_error("socketpair");
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace

Terminal::Terminal(const std::vector<std::string>& command, const std::vector<std::string>& environment) {
  auto [orders_here, orders_there] = socket_pair();
  auto [reports_here, reports_there] = socket_pair();
  int terminal = -1;
  winsize size{24, 120, 0, 0};
  shell_ = ::forkpty(&terminal, nullptr, nullptr, &size);
  if (shell_ < 0) throw std::runtime_error("forkpty");
  if (shell_ == 0) be_shell(command, environment, orders_there.get(), reports_there.get());
  terminal_.reset(terminal);
  ::fcntl(terminal, F_SETFD, FD_CLOEXEC);
  ::fcntl(terminal, F_SETFL, O_NONBLOCK);
  orders_ = std::move(orders_here);
  reports_ = std::move(reports_here);
}

Terminal::~Terminal() {
  ::kill(shell_, SIGKILL);  // the terminal hangs up on its job
  ::waitpid(shell_, nullptr, 0);
}

void Terminal::drain() {
  std::array<char, 4096> bytes{};
  for (ssize_t got = 0; (got = ::read(terminal_.get(), bytes.data(), bytes.size())) > 0;) {
    shown_.append(bytes.data(), static_cast<std::size_t>(got));
  }
}

const std::string& Terminal::shown() {
  drain();
  return shown_;
}

bool Terminal::shows(const std::string& text, Millis time) {
  return eventually([&] { return shown().find(text) != std::string::npos; }, time);
}

void Terminal::type(const std::string& keys) { (void)!::write(terminal_.get(), keys.data(), keys.size()); }

void Terminal::resize(unsigned short columns) {
  winsize size{24, columns, 0, 0};
  ::ioctl(terminal_.get(), TIOCSWINSZ, &size);
}

std::string Terminal::job(Millis time) {
  std::array<char, 64> text{};
  ssize_t got = -1;
  (void)eventually(
      [&] {
        drain();
        return (got = ::recv(reports_.get(), text.data(), text.size(), MSG_DONTWAIT)) > 0;
      },
      time);
  return got > 0 ? std::string(text.data(), static_cast<std::size_t>(got)) : "";
}

void Terminal::foreground() { (void)::send(orders_.get(), "f", 1, MSG_NOSIGNAL); }

}  // namespace flockfs::test
