#include "run/command.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "base/printable.h"
#include "base/unique_fd.h"
#include "run/caller_state.h"
#include "run/runner.h"

namespace flockfs {
namespace {

[[noreturn]] void become(const std::vector<std::string>& words, const Place& place, const CallerState& caller,
                         std::atomic<bool>& failed) {
  if (Status entered = place.enter(); !entered) {
    failed = true;
    ::_exit(say(kRunFailure, entered.error().message()));
  }
  std::vector<std::string> copies = words;
  std::vector<char*> arguments;
  arguments.reserve(copies.size() + 1);
  for (std::string& word : copies) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  caller.give_back();
  ::execvp(arguments[0], arguments.data());
  const int error = errno;
  failed = true;
  ::_exit(say(error == ENOENT ? kRunNotFound : kRunCannot,
              Error{error, "cannot run '" + escaped(words[0]) + "'"}.message()));
}

// Whether there may be a shell that looks after our stopping. Where there is none, nobody would have us go on.
bool has_terminal() { return UniqueFd(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)).valid(); }

// By the signal that stopped COMMAND, for the shell to say which; until SIGCONT.
void stop_by(int signal) {
  struct sigaction action {};
  sigset_t set;
  sigset_t before;
  ::sigemptyset(&set);
  ::sigaddset(&set, signal);
  const bool usual = ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_DFL;
  if (signal == SIGSTOP || !usual) {
    (void)::raise(SIGSTOP);
    return;
  }
  // One that the terminal has sent to the whole group is waiting already; a second one would stop us twice.
  sigset_t pending;
  if (::sigpending(&pending) != 0 || ::sigismember(&pending, signal) != 1) (void)::raise(signal);
  ::sigprocmask(SIG_UNBLOCK, &set, &before);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
}

// Whether nothing has happened to a child since it was seen stopped. A shell has its whole job go on; then a SIGCONT
// from here could undo the next Ctrl-Z.
bool has_not_moved(pid_t child) {
  siginfo_t change{};
  return ::waitid(P_PID, static_cast<id_t>(child), &change, WEXITED | WSTOPPED | WCONTINUED | WNOHANG | WNOWAIT) == 0 &&
         change.si_pid == 0;
}

}  // namespace

Result<Command> Command::start(const std::vector<std::string>& words, const Place& place, const CallerState& caller) {
  auto failed = SharedMemory<std::atomic<bool>>::make();
  if (!failed) return failed.error();
  auto witness = Witness::start();
  if (!witness) return witness.error();
  const pid_t runner = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("cannot start COMMAND");
  if (pid == 0) {
    (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != runner) ::_exit(kRunFailure);
    become(words, place, caller, *failed->get());
  }
  return Command(pid, *std::move(failed), *std::move(witness));
}

void Command::look() {
  for (int status = 0; !status_ && ::waitpid(pid_, &status, WNOHANG | WUNTRACED) == pid_;) {
    if (!WIFSTOPPED(status)) {
      status_ = status;
      return;
    }
    if (!has_terminal()) continue;
    stop_by(WSTOPSIG(status));
    if (has_not_moved(pid_)) (void)::kill(pid_, SIGCONT);
  }
}

// Stop signals are the terminal's; what a process gets for its own children and pipes is the runner's own.
void Command::hand_on(int signal) {
  if (status_) return;
  switch (signal) {
    case SIGCHLD:
    case SIGPIPE:
    case SIGTTIN:
    case SIGTTOU:
    case SIGWINCH:
    case SIGURG:
      return;
    default:
      break;
  }
  if (!witness_.saw(signal)) (void)::kill(pid_, signal);
}

}  // namespace flockfs
