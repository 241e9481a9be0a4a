#include "mirror/mirror.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <optional>
#include <thread>

#include "base/blocking_pool.h"
#include "base/log.h"
#include "lock/foreign_locks.h"
#include "lock/signal_probe.h"
#include "mirror/connection.h"
#include "mirror/core.h"
#include "mirror/device.h"
#include "mirror/flocks.h"
#include "mirror/lock_file_leftovers.h"
#include "mirror/lock_file_record.h"
#include "mirror/lock_file_waits.h"
#include "mirror/lock_files.h"
#include "mirror/lock_probe.h"
#include "mirror/look_around.h"
#include "mirror/open_pipeline.h"
#include "mirror/process_files.h"
#include "mirror/record_locks.h"
#include "mirror/release_desk.h"
#include "mirror/slow_opens.h"
#include "mirror/workers.h"

namespace flockfs {
namespace {

// Jobs that may block at a time: one for each file that somebody outside has locked, one for each open(2) that waits.
constexpr unsigned kMostBlocking = 1024;
constexpr auto kWorkersLimit = std::chrono::seconds(3);
// After that long a thread of ours hangs in a source that does not answer; the process ends, and with it every lock.
constexpr unsigned kTearDownLimitSeconds = 10;

// The workers never wait for a lock, but they wait for disks.
unsigned default_threads() { return std::clamp(4 * std::thread::hardware_concurrency(), 8U, 32U); }

UniqueFd stop_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, signal);
  return UniqueFd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

// Whatever mask and dispositions were inherited: SIGTERM, SIGINT and SIGHUP are read from a descriptor, all others are
// let through, since SIGUSR1 wakes our threads and SIGALRM bounds the end.
void use_own_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_SETMASK, &set, nullptr);
  ::signal(SIGALRM, SIG_DFL);
}

class MountedMirror final : public Mirror {
 public:
  MountedMirror(const MirrorConfig& config, MirrorHost host)
      : lock_support_(config.lock, config.source),
        core_(config, std::move(host.source), host.counters),
        slow_(pool_, signals_) {
    core_.watcher = host.watcher;
  }
  ~MountedMirror() override;

  Status start();
  Status serve() override;
  dev_t device() const override { return core_.device; }
  MirrorState state() override;
  bool passes_through() const override { return core_.backing.enabled(); }

 private:
  void end_waits();
  Status start_lock_files();
  void begin_stop(std::string_view why);
  void on_mountinfo();
  void log_started() const;
  void log_requests() const;
  std::unique_ptr<LockEngine> make_engine(FileLocker& locker);

  SteadyClock clock_;
  const TimePoint started_ = clock_.now();
  LockSupport lock_support_;
  ProcSignalProbe signals_;
  ProcForeignLocks foreign_;
  Core core_;
  BlockingPool pool_{kMostBlocking};
  SlowOpens slow_;
  ProcHolderProbe holders_{core_};
  std::unique_ptr<LockFileRecord> lock_file_record_;
  std::optional<LockFiles> lock_files_;
  std::optional<LockFileWaits> lock_file_waits_;
  std::unique_ptr<LockEngine> locks_;
  // Where opens take no flock: for those who call flock(2) themselves.
  std::unique_ptr<FileLocker> flock_locker_;
  std::unique_ptr<LockEngine> flock_engine_;
  std::optional<Flocks> flocks_;
  std::optional<RecordLocks> records_;
  std::optional<OpenPipeline> opens_;
  std::optional<ReleaseDesk> releases_;
  std::optional<Connection> connection_;
  std::optional<Workers> workers_;
  UniqueFd stop_signals_;
  UniqueFd mountinfo_;
  std::optional<MountPoint> mount_point_;
  const pid_t parent_ = ::getppid();
  bool waits_ended_ = false;
  std::optional<TimePoint> stop_at_;
};

// On an error everything is undone by the destructor.
Status MountedMirror::start() {
  if (auto root = core_.inodes.open_root(); !root) return root;
  locks_ = make_engine(lock_support_.locker());
  if (!locks_) return errno_error("cannot start a thread");
  if (lock_support_.locker().flock_part() == nullptr) {
    flock_locker_ = make_file_locker(LockKind::kFlock);
    flock_engine_ = make_engine(*flock_locker_);
    if (!flock_engine_) return errno_error("cannot start a thread");
  }
  flocks_.emplace(core_, *locks_, flock_engine_ ? *flock_engine_ : *locks_);
  opens_.emplace(core_, *locks_, slow_);
  releases_.emplace(core_);
  records_.emplace(
      RecordLocks::Config{pool_, [this] { return core_.take_slot(); }, [this] { releases_->poll_soon(); }});
  core_.pool = &pool_;
  core_.signals = &signals_;
  core_.holders = &holders_;
  core_.lock_support = &lock_support_;
  core_.flocks = &*flocks_;
  core_.opens = &*opens_;
  core_.releases = &*releases_;
  core_.records = &*records_;
  if (auto probed = lock_support_.probe(core_.source->root_mount()); !probed) {
    if (core_.config.on_unsupported == Otherwise::kFail) return probed;
    log_write(LogLevel::kWarning, LogLine("unsupported")
                                      .quoted("source", core_.config.source)
                                      .quoted("reason", Error{probed.error().code, {}}.message()));
  }
  if (auto started = start_lock_files(); !started) return started;
  stop_signals_ = stop_signals();
  mountinfo_ = UniqueFd(::open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC));
  if (!stop_signals_ || !mountinfo_) return errno_error("cannot prepare for signals and unmounting");

  auto device = open_fuse_device();
  if (!device) return device.error();
  const int device_fd = device->get();
  connection_.emplace(core_);
  if (auto made = connection_->open(*std::move(device)); !made) return made;
  UniqueFd covered;
  if (core_.source->sees_later_mounts()) {
    covered = UniqueFd(::open(core_.config.mountpoint.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!covered) return errno_error("cannot open " + core_.config.mountpoint);
  }
  auto mounted = mount_fuse(core_.config, device_fd);
  if (!mounted) return mounted.error();
  mount_point_ = *mounted;
  core_.source->set_mirror(mount_point_->dev, std::move(covered));
  core_.device = mount_point_->dev;
  workers_.emplace(core_);
  core_.workers = &*workers_;
  if (auto answered = workers_->answer_init(); !answered) return answered;
  if (auto started = releases_->start(mount_point_->dev); !started) return started;
  if (auto started = workers_->start(core_.config.threads.value_or(default_threads())); !started) return started;
  log_started();
  return {};
}

std::unique_ptr<LockEngine> MountedMirror::make_engine(FileLocker& locker) {
  return make_lock_engine({locker, signals_, foreign_, holders_, clock_, pool_, kLongWait, core_.config.reopen});
}

// Before the mirror is there: the source's own names only, and nobody who waits for what a dead mirror left. In a
// read-only mirror there are no writers.
Status MountedMirror::start_lock_files() {
  if (core_.config.read_only) return {};
  remove_leftover_lock_files(*core_.source);
  if (!core_.config.lockfile) return {};
  auto record = LockFileRecord::create(core_.config.source);
  if (!record) return record.error();
  lock_file_record_ = *std::move(record);
  lock_files_.emplace(core_.inodes, *lock_file_record_);
  lock_file_waits_.emplace(pool_, signals_, *lock_files_);
  core_.lock_files = &*lock_files_;
  core_.lock_file_waits = &*lock_file_waits_;
  return lock_file_waits_->start();
}

void MountedMirror::log_started() const {
  log_write(LogLevel::kInfo, LogLine("mounted")
                                 .quoted("source", core_.config.source)
                                 .quoted("mountpoint", core_.config.mountpoint)
                                 .text("passthrough", core_.backing.enabled() ? "on" : "off")
                                 .number("pid", ::getpid()));
}

void MountedMirror::log_requests() const {
  LogLine line("requests");
  core_.counters.requests.add_to(line);
  log_write(LogLevel::kInfo, line);
}

Status MountedMirror::serve() {
  // Changes between mounting and the first poll(2) are reported by it: the file remembers what it has shown.
  for (;;) {
    int timeout = -1;
    if (stop_at_) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(*stop_at_ - clock_.now()).count();
      if (left <= 0) break;
      timeout = static_cast<int>(std::min<std::int64_t>(left, 1'000'000));
    }
    pollfd events[] = {
        {workers_->ended_fd(), POLLIN, 0}, {stop_signals_.get(), POLLIN, 0}, {mountinfo_.get(), POLLPRI, 0}};
    if (::poll(events, std::size(events), timeout) < 0 && errno != EINTR) return errno_error("poll");
    if ((events[0].revents & POLLIN) != 0) {
      log_requests();
      LogLine line("unmounted");
      line.quoted("mountpoint", core_.config.mountpoint);
      core_.counters.add_to(line);
      log_write(LogLevel::kInfo, line);
      return workers_->failure();
    }
    if ((events[1].revents & POLLIN) != 0) {
      signalfd_siginfo info{};
      if (::read(stop_signals_.get(), &info, sizeof info) != sizeof info) continue;
      // Whoever stops a service or a whole process group means COMMAND, which may still have to use the mirror.
      if (core_.config.covers_source && ::getppid() == parent_ && info.ssi_pid != static_cast<std::uint32_t>(parent_)) {
        continue;
      }
      if (stop_at_) break;  // asked twice: at once
      begin_stop(info.ssi_signo == SIGINT ? "SIGINT" : info.ssi_signo == SIGHUP ? "SIGHUP" : "SIGTERM");
    }
    if ((events[2].revents & (POLLPRI | POLLERR)) != 0) on_mountinfo();
  }
  log_requests();
  LogLine line("cut");
  line.quoted("mountpoint", core_.config.mountpoint)
      .number("open_files", static_cast<std::int64_t>(core_.files.size()))
      .number("mapped_files", static_cast<std::int64_t>(releases_->kept()));
  core_.counters.add_to(line);
  // With flockfs-run it is the usual end.
  log_write(core_.config.covers_source ? LogLevel::kInfo : LogLevel::kWarning, line);
  return {};
}

MirrorState MountedMirror::state() {
  MirrorState state;
  state.source = core_.config.source;
  state.mountpoint = core_.config.mountpoint;
  state.passthrough = core_.backing.enabled();
  state.up = clock_.now() - started_;
  state.hold_warn = core_.config.hold_warn;
  const auto adder = [](auto& to) {
    return [&to](std::string_view name, std::uint64_t n) { to.emplace_back(name, n); };
  };
  core_.counters.for_each(adder(state.counters));
  core_.counters.requests.for_each(adder(state.requests));
  state.waited = std::chrono::nanoseconds(core_.counters.waited_ns.load());
  look_around(core_, *locks_, flock_engine_.get(), state);
  return state;
}

void MountedMirror::end_waits() {
  if (opens_) opens_->stop();
  if (flocks_) flocks_->stop();
  if (records_) records_->stop();
}

void MountedMirror::begin_stop(std::string_view why) {
  log_write(
      LogLevel::kInfo,
      LogLine("stopping").text("signal", why).number("open_files", static_cast<std::int64_t>(core_.files.size())));
  stop_at_ = clock_.now() + core_.config.stop_timeout;
  waits_ended_ = true;
  end_waits();
  if (!core_.config.covers_source) detach(core_.config.mountpoint, *mount_point_);
}

// After `umount -l` the kernel tells the daemon nothing until the last file is closed: nobody who waits can be left
// waiting.
void MountedMirror::on_mountinfo() {
  if (waits_ended_ || is_mounted(mountinfo_.get(), mount_point_->dev)) return;
  waits_ended_ = true;
  log_write(LogLevel::kInfo, LogLine("detached")
                                 .quoted("mountpoint", core_.config.mountpoint)
                                 .number("open_files", static_cast<std::int64_t>(core_.files.size())));
  end_waits();
}

MountedMirror::~MountedMirror() {
  // Not called off: what the members' ends wait for counts too, and the process ends after them.
  ::alarm(kTearDownLimitSeconds);
  end_waits();
  if (mount_point_ && !core_.config.covers_source) detach(core_.config.mountpoint, *mount_point_);
  if (workers_ && !workers_->stop(kWorkersLimit)) {
    log_write(LogLevel::kError, LogLine("error").text("op", "stop").quoted("reason", "a request hangs in the source"));
    log_close();
    std::_Exit(1);
  }
  // Each of these may still be answering an open: the session they answer through goes after them. No client's I/O is
  // served any more, so that the locks may go before the connection does.
  if (releases_) releases_->stop();
  if (lock_file_waits_) lock_file_waits_->end();
  pool_.wait_idle();
  if (locks_) locks_->end();
  if (flock_engine_) flock_engine_->end();
  for (auto& file : core_.files.take_all()) releases_->end(std::move(file));
  (void)core_.directories.take_all();
  connection_.reset();
}

}  // namespace

SourceOptions source_options(const MirrorConfig& config) {
  return {config.source, config.read_only, config.noatime, config.hide_submounts};
}

Result<std::unique_ptr<Mirror>> Mirror::mount(const MirrorConfig& config, MirrorHost host) {
  if (auto limits = prepare_limits(); !limits) return limits.error();
  use_own_signals();
  if (!host.source) {
    auto source = Source::open(source_options(config));
    if (!source) return source.error();
    host.source = *std::move(source);
  }
  auto mirror = std::make_unique<MountedMirror>(config, std::move(host));
  if (auto started = mirror->start(); !started) return started.error();
  return std::unique_ptr<Mirror>(std::move(mirror));
}

}  // namespace flockfs
