#include "harness/mounted_mirror.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <ostream>
#include <sstream>
#include <stdexcept>

#include "harness/connection.h"
#include "harness/files.h"

namespace flockfs::test {
namespace {

std::string program_from(const char* variable, const char* built) {
  const char* path = std::getenv(variable);
  return path == nullptr || *path == '\0' ? built : path;
}

std::string with_addition(const char* variable, const std::string& addition) {
  const char* old = std::getenv(variable);
  return std::string(variable) + "=" + (old == nullptr || *old == '\0' ? "" : std::string(old) + ":") + addition;
}

std::vector<std::string> command_line(const MirrorSetup& setup, const std::string& source,
                                      const std::string& mountpoint, const std::string& log) {
  std::vector<std::string> command{flockfs_program(), "--log-file", log, "--log-level", "debug"};
  if (setup.foreground) command.emplace_back("-f");
  for (const std::string& option : setup.options) command.insert(command.end(), {"-o", option});
  command.insert(command.end(), setup.arguments.begin(), setup.arguments.end());
  command.insert(command.end(), {source, mountpoint});
  return command;
}

int lines_in_proc(pid_t pid, const char* folder) {
  std::error_code error;
  const std::filesystem::directory_iterator entries("/proc/" + std::to_string(pid) + "/" + folder, error);
  return error ? -1 : static_cast<int>(std::distance(begin(entries), end(entries)));
}

bool runs(const std::filesystem::path& task) {
  std::string stat;
  std::getline(std::ifstream(task / "stat"), stat);
  const std::size_t state = stat.rfind(") ");
  return state != std::string::npos && stat.substr(state + 2).starts_with('R');
}

// Each thread of the daemon has been seen not to run. The line that says that an open waits is written a moment before
// the wait has its place in the queue, by the thread that gives it that place.
bool has_come_to_rest(pid_t daemon) {
  std::error_code error;
  const std::filesystem::directory_iterator tasks("/proc/" + std::to_string(daemon) + "/task", error);
  if (error) return false;
  return std::all_of(begin(tasks), end(tasks),
                     [](const auto& task) { return eventually([&] { return !runs(task.path()); }); });
}

// A mirror is usable when the first of its threads serves it. The main thread has started all of them when it waits in
// poll(2) for what happens.
bool has_started(pid_t daemon) {
#ifdef SYS_poll
  constexpr int kWaits = SYS_poll;
#else
  constexpr int kWaits = SYS_ppoll;
#endif
  const std::string id = std::to_string(daemon);
  return read_file("/proc/" + id + "/task/" + id + "/syscall").starts_with(std::to_string(kWaits) + " ");
}

bool is_path_only(const std::string& fdinfo) {
  std::ifstream file(fdinfo);
  for (std::string key, value; file >> key >> value;) {
    if (key == "flags:") return (std::stoi(value, nullptr, 8) & O_PATH) != 0;
  }
  return false;
}

}  // namespace

std::ostream& operator<<(std::ostream& out, Passthrough passthrough) {
  return out << (passthrough == Passthrough::kAuto ? "auto" : "off");
}

std::string flockfs_program() { return program_from("FLOCKFS_BIN", BUILT_FLOCKFS); }
std::string mount_helper_program() { return program_from("MOUNT_FLOCKFS_BIN", BUILT_MOUNT_FLOCKFS); }
std::string status_program() { return program_from("FLOCKFS_STATUS_BIN", BUILT_FLOCKFS_STATUS); }
std::string build_directory() { return BUILD_DIRECTORY; }

std::vector<std::string> sanitizer_environment(const std::string& scratch) {
  const std::string reports = "log_path=" + scratch + "/sanitizer";
  return {with_addition("ASAN_OPTIONS", reports), with_addition("TSAN_OPTIONS", reports),
          with_addition("UBSAN_OPTIONS", "print_stacktrace=1:" + reports), with_addition("LSAN_OPTIONS", reports)};
}

void expect_no_sanitizer_report(const std::string& scratch) {
  for (const std::string& name : list_dir(scratch)) {
    if (name.starts_with("sanitizer.")) ADD_FAILURE() << read_file(scratch + "/" + name);
  }
}

std::optional<pid_t> find_daemon(const std::string& mountpoint) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path program = fs::canonical(flockfs_program());
  const fs::path mounts = fs::read_symlink("/proc/self/ns/mnt");
  for (const std::string& name : list_dir("/proc")) {
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ec != std::errc()) continue;
    if (fs::read_symlink("/proc/" + name + "/exe", error) != program) continue;
    if (fs::read_symlink("/proc/" + name + "/ns/mnt", error) != mounts) continue;
    std::ifstream file("/proc/" + name + "/cmdline", std::ios::binary);
    for (std::string word; std::getline(file, word, '\0');) {
      if (fs::path(word).filename() == fs::path(mountpoint).filename()) return pid;
    }
  }
  return std::nullopt;
}

void kill_daemon_at(const std::string& mountpoint) {
  const auto daemon = find_daemon(mountpoint);
  ASSERT_TRUE(daemon);
  ::kill(*daemon, SIGKILL);
  ASSERT_TRUE(eventually([&] { return !find_daemon(mountpoint); }));
  ASSERT_TRUE(find_mount(mountpoint));
  // It may be about to die still, and what it was asked is aborted.
  EXPECT_TRUE(
      in_child([&] { EXPECT_TRUE(eventually([&] { return open_error(mountpoint + "/f", O_RDONLY) == ENOTCONN; })); }));
}

MountedMirror::MountedMirror(std::string source, std::string mountpoint, const std::string& scratch,
                             const MirrorSetup& setup)
    : source_(std::move(source)), mountpoint_(std::move(mountpoint)), scratch_(scratch), log_(scratch + "/log") {
  start(setup);
}

MountedMirror::~MountedMirror() { stop(); }

void MountedMirror::start(const MirrorSetup& setup) {
  const auto before = find_mount(mountpoint_);
  ProgramSetup program = setup.program;
  for (const std::string& pair : sanitizer_environment(scratch_)) program.environment.push_back(pair);
  foreground_ = setup.foreground;
  command_ = std::make_unique<Program>(command_line(setup, source_, mountpoint_, scratch_ + "/log"), program);
  daemon_ = command_->pid();
  const auto mounted = [&] {
    const auto now = find_mount(mountpoint_);
    return now && now->type.starts_with("fuse") && (!before || before->minor != now->minor);
  };
  const auto failed = [&](const std::string& why) {
    stopped_ = true;
    return std::runtime_error("no mirror at " + mountpoint_ + ": " + why + "\n" + command_->err() + log_.text());
  };
  if (foreground_) {
    const bool up = eventually([&] { return mounted() || command_->process().poll_status(); }, kPatience * 2);
    if (!up) throw failed("not mounted in time");
  } else if (command_->exit_code(kPatience * 2) != 0) {
    throw failed("the command failed");
  }
  if (!mounted()) throw failed("the command ended");
  connection_ = find_mount(mountpoint_)->minor;
  remember_connection(connection_);
  if (!foreground_) adopt_background_daemon(kPatience);
  guardian_.emplace(connection_, mountpoint_, daemon_, setup.test_deadline);
  if (!in_child([&] { (void)stat_of(mountpoint_); })) throw failed("it does not answer");
}

void MountedMirror::adopt_background_daemon(Millis time) {
  // The test is the subreaper (main.cc), so the daemon has become its child and can be waited for.
  const bool found = eventually([&] { return find_daemon(mountpoint_).has_value(); }, time);
  if (!found) throw std::runtime_error("no daemon found for " + mountpoint_);
  daemon_ = *find_daemon(mountpoint_);
}

::testing::AssertionResult MountedMirror::waits(pid_t pid, Millis time) const {
  if (log_.wait_for({.event = "wait", .pid = pid}, time)) {
    (void)has_come_to_rest(daemon_);
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << "no event=wait for process " << pid << " in the log:\n" << log_.text();
}

::testing::AssertionResult MountedMirror::waits_for(const std::string& source_path, std::size_t count,
                                                    Millis time) const {
  const LogQuery query{.event = "wait", .path = source_path};
  if (log_.wait_for_count(query, count, time)) {
    (void)has_come_to_rest(daemon_);
    return ::testing::AssertionSuccess();
  }
  return ::testing::AssertionFailure() << log_.count(query) << " of " << count << " event=wait lines for "
                                       << source_path;
}

int MountedMirror::threads() const {
  EXPECT_TRUE(eventually([&] { return has_started(daemon_); }));
  return lines_in_proc(daemon_, "task");
}

int MountedMirror::descriptors() const {
  EXPECT_TRUE(eventually([&] { return has_started(daemon_); }));
  return lines_in_proc(daemon_, "fd");
}

std::uint64_t MountedMirror::sleeps_of(const std::string& thread_name) const {
  const std::string tasks = "/proc/" + std::to_string(daemon_) + "/task/";
  std::uint64_t sleeps = 0;
  bool found = false;
  for (const std::string& tid : list_dir(tasks)) {
    std::istringstream status(read_file(tasks + tid + "/status"));
    bool counts = false;
    for (std::string key, value; status >> key && std::getline(status >> std::ws, value);) {
      if (key == "Name:") counts = value == thread_name;
      if (!counts || key != "voluntary_ctxt_switches:") continue;
      sleeps += std::stoul(value);
      found = true;
    }
  }
  EXPECT_TRUE(found) << "no " << thread_name;
  return sleeps;
}

bool MountedMirror::has_open(const std::string& source_path) const {
  const struct stat wanted = stat_of(source_path);
  const std::string proc = "/proc/" + std::to_string(daemon_);
  for (const std::string& number : list_dir(proc + "/fd")) {
    struct stat status {};
    if (::stat((proc + "/fd/" + number).c_str(), &status) != 0) continue;
    if (status.st_ino == wanted.st_ino && status.st_dev == wanted.st_dev && !is_path_only(proc + "/fdinfo/" + number)) {
      return true;
    }
  }
  return false;
}

int MountedMirror::unmount(int flags) const {
  Child child([&](Peer& test) { test.say(::umount2(mountpoint_.c_str(), flags) == 0 ? "0" : std::to_string(errno)); });
  const auto answer = child.hear();
  return answer ? std::stoi(*answer) : ETIMEDOUT;
}

bool MountedMirror::daemon_runs() {
  int status = 0;
  if (daemon_status_) return false;
  if (foreground_) {
    daemon_status_ = command_->process().poll_status();
  } else if (::waitpid(daemon_, &status, WNOHANG) == daemon_) {
    daemon_status_ = status;
  }
  return !daemon_status_;
}

std::optional<int> MountedMirror::daemon_exit(Millis time) {
  if (eventually([this] { return !daemon_runs(); }, time)) ended_by_test_ = true;
  return daemon_status_;
}

bool MountedMirror::is_mounted() const {
  const auto mount = find_mount(mountpoint_);
  return mount && mount->minor == connection_;
}

void MountedMirror::unmount_now() {
  int error = 0;
  // A process that was killed a moment ago may still be about to give up its files.
  const bool done = eventually([&] { return (error = unmount()) != EBUSY; });
  if (done && error == 0) return;
  ADD_FAILURE() << "umount " << mountpoint_ << ": " << errno_name(error);
  abort_connection(connection_);
  (void)unmount(MNT_DETACH);
}

void MountedMirror::check_exit() {
  const auto status = daemon_exit();
  if (!status) {
    ADD_FAILURE() << "the daemon does not end\n" << log_.text();
    abort_connection(connection_);
    ::kill(daemon_, SIGKILL);
    (void)daemon_exit();
  } else if (*status != 0) {
    ADD_FAILURE() << "the daemon ended with " << describe_status(*status) << "\n" << messages();
  }
}

void MountedMirror::check_log() const {
  for (const LogEntry& entry : log_.matching({.event = "error"})) {
    const bool expected = std::any_of(expected_errors_.begin(), expected_errors_.end(), [&](const std::string& text) {
      return entry.line.find(text) != std::string::npos;
    });
    if (!expected) ADD_FAILURE() << "in the log: " << entry.line;
  }
}

void MountedMirror::stop() {
  if (stopped_) return;
  stopped_ = true;
  if (daemon_runs()) {
    unmount_now();
    check_exit();
  } else if (!ended_by_test_) {
    ADD_FAILURE() << "the daemon died: " << describe_status(*daemon_status_) << "\n" << messages() << log_.text();
  }
  if (is_mounted()) {
    if (daemon_status_ == 0) ADD_FAILURE() << "the daemon ended with status 0 but left its mount";
    (void)unmount(MNT_DETACH);
  }
  if (guardian_ && !guardian_->dismiss()) ADD_FAILURE() << "the deadline of the whole test has passed";
  forget_connection(connection_);
  check_log();
  expect_no_sanitizer_report(scratch_);
  if (::testing::Test::HasFailure() && !messages().empty()) std::fprintf(stderr, "%s", messages().c_str());
}

}  // namespace flockfs::test
