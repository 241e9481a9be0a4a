#include "run/mirror_process.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <exception>
#include <utility>

#include "mirror/mirror.h"
#include "run/caller_state.h"
#include "status/server.h"

namespace flockfs {
namespace {

// With lock files to remove, the mirror gets the time for that; else it goes at once, whatever it is doing.
int death_signal(const MirrorConfig& config) { return config.lockfile ? SIGTERM : SIGKILL; }

// False if the runner is gone already. To be said again once all is set up: a change of identity takes it back.
bool die_with(pid_t runner, const MirrorConfig& config) {
  (void)::prctl(PR_SET_PDEATHSIG, death_signal(config));
  return ::getppid() == runner;
}

// A session of its own: what the terminal sends is for COMMAND, and a stopped COMMAND's files stay locked and served.
void become_daemon(const LogConfig& log, const CallerState& caller) {
  (void)::setsid();
  (void)::prctl(PR_SET_NAME, "flockfs");
  (void)::chdir("/");
  caller.close_descriptors();
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return;
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (fd != STDERR_FILENO || log.target != LogTarget::kStderr) (void)::dup2(null.get(), fd);
  }
}

void fail(int channel, std::string why) {
  Message message;
  message.kind = Message::Kind::kFailed;
  message.text = std::move(why);
  send_message(channel, message);
}

struct Serving {
  const MirrorConfig& config;
  const LogConfig& log;
  Counters* counters;
  int channel;
  pid_t runner;
};

int serve(const Serving& wanted, std::unique_ptr<Source> source) {
  WaitReporter reporter(wanted.channel);
  auto mirror = Mirror::mount(wanted.config, {std::move(source), wanted.counters, &reporter});
  if (!mirror) {
    fail(wanted.channel, mirror.error().message());
    return 1;
  }
  if (!die_with(wanted.runner, wanted.config)) return 1;
  // Nothing of a run may be left when it is killed.
  const auto status = StatusServer::serve_without_trace(**mirror);
  Message ready;
  ready.kind = Message::Kind::kReady;
  ready.device = (*mirror)->device();
  ready.passes_through = (*mirror)->passes_through();
  send_message(wanted.channel, ready);
  const Status served = (*mirror)->serve();
  if (!served) log_error("serve", wanted.config.source, served.error());
  return served ? 0 : 1;
}

int serve_with_log(const Serving& wanted, std::unique_ptr<Source> source) {
  try {
    if (Status opened = log_open(wanted.log); !opened) {
      fail(wanted.channel, opened.error().message());
      return 1;
    }
    const int status = serve(wanted, std::move(source));
    log_close();
    return status;
  } catch (const std::exception& failure) {
    fail(wanted.channel, failure.what());
    return 1;
  }
}

}  // namespace

Result<MirrorProcess> MirrorProcess::start(const MirrorConfig& config, std::unique_ptr<Source> source,
                                           const LogConfig& log, const CallerState& caller,
                                           const std::function<void()>& in_child) {
  auto counters = SharedMemory<Counters>::make();
  if (!counters) return counters.error();
  auto channel = make_channel();
  if (!channel) return channel.error();
  auto [ours, theirs] = *std::move(channel);
  const pid_t runner = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return errno_error("cannot start the mirror of " + config.source);
  if (pid == 0) {
    if (!die_with(runner, config)) ::_exit(1);
    ours.reset();
    in_child();
    become_daemon(log, caller);
    (void)std::signal(SIGPIPE, SIG_IGN);
    ::_exit(serve_with_log({config, log, counters->get(), theirs.get(), runner}, std::move(source)));
  }
  return MirrorProcess(config.source, *std::move(counters), std::move(ours), pid);
}

std::optional<Message> MirrorProcess::receive() {
  if (ended_) return std::nullopt;
  auto message = receive_message(channel_.get(), ended_);
  if (message && message->kind == Message::Kind::kReady) {
    device_ = message->device;
    passes_through_ = message->passes_through;
  }
  return message;
}

bool MirrorProcess::reap() {
  int status = 0;
  if (!status_ && ::waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
  return status_.has_value();
}

std::string MirrorProcess::death() {
  int status = 0;
  while (!status_ && ::waitpid(pid_, &status, 0) != pid_) {
    if (errno != EINTR) return "ended";
  }
  if (!status_) status_ = status;
  if (WIFSIGNALED(*status_)) return "was killed by signal " + std::to_string(WTERMSIG(*status_));
  return "ended with status " + std::to_string(WEXITSTATUS(*status_));
}

void MirrorProcess::signal(int number) {
  if (status_) return;
  if (number == SIGKILL) killed_ = true;
  (void)::kill(pid_, number);
}

}  // namespace flockfs
