#include "harness/stepper.h"

#include <sched.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>

#include "harness/files.h"

namespace flockfs::test {

std::vector<pid_t> threads_named(pid_t process, const std::string& name) {
  std::vector<pid_t> threads;
  const std::string task = "/proc/" + std::to_string(process) + "/task";
  for (const std::string& thread : list_dir(task)) {
    if (read_file(task + "/" + thread + "/comm") == name + "\n") threads.push_back(std::stoi(thread));
  }
  return threads;
}

#ifdef __x86_64__

namespace {

std::optional<unsigned long long> descriptor_of(pid_t thread, const std::string& path) {
  const std::string fds = "/proc/" + std::to_string(thread) + "/fd";
  for (const std::string& fd : list_dir(fds)) {
    std::error_code gone;
    if (std::filesystem::read_symlink(fds + "/" + fd, gone) == path) return std::stoull(fd);
  }
  return std::nullopt;
}

user_regs_struct registers_of(pid_t thread) {
  user_regs_struct registers{};
  if (::ptrace(PTRACE_GETREGS, thread, nullptr, &registers) != 0) throw std::runtime_error("PTRACE_GETREGS");
  return registers;
}

std::uint32_t opcode_at(pid_t thread, unsigned long long request) {
  // The second word of fuse_in_header.
  return static_cast<std::uint32_t>(::ptrace(PTRACE_PEEKDATA, thread, request, nullptr) >> 32);
}

}  // namespace

bool Stepper::possible() { return true; }

Stepper::Stepper(pid_t thread) : thread_(thread) {
  const auto device = descriptor_of(thread, "/dev/fuse");
  if (!device) throw std::runtime_error("the thread has no /dev/fuse");
  device_ = *device;
  // On one processor the two take turns without waking one: many times faster.
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(::sched_getcpu(), &one);
  if (::sched_setaffinity(0, sizeof one, &one) != 0 || ::sched_setaffinity(thread_, sizeof one, &one) != 0) {
    throw std::runtime_error("sched_setaffinity");
  }
  if (::ptrace(PTRACE_SEIZE, thread_, nullptr, nullptr) != 0) throw std::runtime_error("PTRACE_SEIZE");
  if (::ptrace(PTRACE_INTERRUPT, thread_, nullptr, nullptr) != 0 || !wait_for_stop(Deadline())) {
    throw std::runtime_error("PTRACE_INTERRUPT");
  }
}

Stepper::~Stepper() {
  if (!ended_) ::ptrace(PTRACE_DETACH, thread_, nullptr, pass_on_);
}

bool Stepper::wait_for_stop(const Deadline& deadline) {
  for (;;) {
    int status = 0;
    const pid_t got = ::waitpid(thread_, &status, __WALL | WNOHANG);
    if (got == thread_) {
      ended_ = !WIFSTOPPED(status);
      if (ended_) return false;
      pass_on_ = WSTOPSIG(status) == SIGTRAP ? 0 : WSTOPSIG(status);
      return true;
    }
    if (got < 0 && errno != EINTR) return false;
    if (deadline.passed()) return false;
    ::sched_yield();
  }
}

bool Stepper::step(const Deadline& deadline) {
  if (::ptrace(PTRACE_SINGLESTEP, thread_, nullptr, pass_on_) != 0) return false;
  if (wait_for_stop(deadline)) return true;
  // Asleep in a call that does not end: it has to stop before it can be let go.
  if (!ended_ && ::ptrace(PTRACE_INTERRUPT, thread_, nullptr, nullptr) == 0) (void)wait_for_stop(Deadline());
  return false;
}

bool Stepper::is_system_call(unsigned long long at) {
  const auto [known, fresh] = system_calls_.try_emplace(at, false);
  if (fresh) {
    constexpr long kSyscall = 0x050f;
    known->second = (::ptrace(PTRACE_PEEKTEXT, thread_, at, nullptr) & 0xffff) == kSyscall;
  }
  return known->second;
}

std::vector<Stepper::Handled> Stepper::requests(std::size_t count, Millis time) {
  const Deadline deadline(time);
  std::vector<Handled> handled;
  bool works = false;
  Handled now;
  while (!deadline.passed()) {
    const user_regs_struct before = registers_of(thread_);
    const bool calls = is_system_call(before.rip);
    const bool reads = calls && before.rax == SYS_read && before.rdi == device_;
    if (works && (reads || (calls && before.rax == SYS_poll))) {
      handled.push_back(now);
      works = false;
      if (handled.size() == count) break;
    }
    if (!step(deadline)) break;
    ++now.instructions;
    if (!reads) continue;
    const user_regs_struct after = registers_of(thread_);
    if (after.rip == before.rip || static_cast<long>(after.rax) <= 0) continue;  // an error, or to be called again
    works = true;
    now = {opcode_at(thread_, before.rsi), 0};
  }
  return handled;
}

#else

bool Stepper::possible() { return false; }
Stepper::Stepper(pid_t thread) : thread_(thread) { throw std::runtime_error("not on this architecture"); }
Stepper::~Stepper() = default;
std::vector<Stepper::Handled> Stepper::requests(std::size_t /*count*/, Millis /*time*/) { return {}; }

#endif

}  // namespace flockfs::test
