#include "base/log_sink.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "base/unique_fd.h"

namespace flockfs {
namespace {

using SystemTime = std::chrono::system_clock::time_point;

int syslog_priority(LogLevel level) {
  switch (level) {
    case LogLevel::kError:
      return LOG_ERR;
    case LogLevel::kWarning:
      return LOG_WARNING;
    case LogLevel::kInfo:
      return LOG_INFO;
    case LogLevel::kDebug:
      return LOG_DEBUG;
  }
  return LOG_INFO;
}

LogLevel level_of(spdlog::level::level_enum level) {
  if (level >= spdlog::level::err) return LogLevel::kError;
  if (level == spdlog::level::warn) return LogLevel::kWarning;
  return level == spdlog::level::info ? LogLevel::kInfo : LogLevel::kDebug;
}

// "time=2025-01-31T23:59:59.123Z "
std::string time_prefix(SystemTime time) {
  const auto since_epoch = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = since_epoch / 1000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  const std::size_t length = std::strftime(text.data(), text.size(), "time=%Y-%m-%dT%H:%M:%S", &parts);
  std::array<char, 16> fraction{};
  (void)std::snprintf(fraction.data(), fraction.size(), ".%03dZ ", static_cast<int>(since_epoch % 1000));
  return std::string(text.data(), length) + fraction.data();
}

// Before each line: the time for people, or the level as sd-daemon(3) spells it for the journal, which has the time.
enum class LinePrefix { kTime, kJournalLevel };

class FdOutput final : public LogOutput {
 public:
  FdOutput(int fd, UniqueFd owned, LinePrefix prefix) : fd_(fd), owned_(std::move(owned)), prefix_(prefix) {}

  void write_line(LogLevel level, SystemTime time, std::string_view line) override {
    // One write per line: whole lines stay whole where several programs append to one file.
    std::string text = prefix_ == LinePrefix::kTime ? time_prefix(time) : journal_prefix(level);
    text.append(line).push_back('\n');
    std::string_view rest = text;
    while (!rest.empty()) {
      const ssize_t written = ::write(fd_, rest.data(), rest.size());
      if (written >= 0) {
        rest.remove_prefix(static_cast<std::size_t>(written));
      } else if (errno == EAGAIN) {
        // Somebody made the open file behind our stderr non-blocking.
        pollfd ready{fd_, POLLOUT, 0};
        (void)::poll(&ready, 1, -1);
      } else if (errno != EINTR) {
        return;  // nobody reads any more (EPIPE), no space: there is no better place to say so
      }
    }
  }

 private:
  static std::string journal_prefix(LogLevel level) { return "<" + std::to_string(syslog_priority(level)) + ">"; }

  const int fd_;
  const UniqueFd owned_;  // empty where fd_ is stderr
  const LinePrefix prefix_;
};

class SyslogOutput final : public LogOutput {
 public:
  // LOG_NDELAY: connect now, as long as the daemon sees the /dev/log it was started with.
  SyslogOutput() { ::openlog("flockfs", LOG_PID | LOG_NDELAY, LOG_DAEMON); }
  ~SyslogOutput() override { ::closelog(); }
  SyslogOutput(const SyslogOutput&) = delete;
  SyslogOutput& operator=(const SyslogOutput&) = delete;

  void write_line(LogLevel level, SystemTime /*time*/, std::string_view line) override {
    ::syslog(syslog_priority(level), "%.*s", static_cast<int>(line.size()), line.data());
  }
};

// Whether stderr is the journal's stream: systemd.exec(5), JOURNAL_STREAM, "device:inode". Both are compared, because
// the variable is inherited by children whose stderr goes elsewhere.
bool stderr_is_journal() {
  const char* const stream = std::getenv("JOURNAL_STREAM");
  struct stat status {};
  if (stream == nullptr || ::fstat(STDERR_FILENO, &status) != 0) return false;
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino) == stream;
}

Result<std::unique_ptr<LogOutput>> open_file_output(const std::string& path) {
  // O_NONBLOCK: a FIFO that nobody reads is an error and not a wait.
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640));
  if (!file) return errno_error("cannot open log file '" + path + "'");
  const int flags = ::fcntl(file.get(), F_GETFL);
  if (flags < 0 || ::fcntl(file.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) {
    return errno_error("cannot use log file '" + path + "'");
  }
  const int fd = file.get();
  return {std::make_unique<FdOutput>(fd, std::move(file), LinePrefix::kTime)};
}

}  // namespace

Result<std::unique_ptr<LogOutput>> open_log_output(const LogConfig& config) {
  switch (config.target) {
    case LogTarget::kFile:
      return open_file_output(config.file);
    case LogTarget::kSyslog:
      return {std::make_unique<SyslogOutput>()};
    case LogTarget::kStderr:
      break;
  }
  const LinePrefix prefix = stderr_is_journal() ? LinePrefix::kJournalLevel : LinePrefix::kTime;
  return {std::make_unique<FdOutput>(STDERR_FILENO, UniqueFd(), prefix)};
}

bool LogRoom::take() {
  if (used_.fetch_add(1, std::memory_order_relaxed) < capacity_) return true;
  used_.fetch_sub(1, std::memory_order_relaxed);
  unreported_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

std::uint64_t LogRoom::take_unreported() {
  if (used_.load(std::memory_order_relaxed) > capacity_ / 2) return 0;
  return unreported_.exchange(0, std::memory_order_relaxed);
}

void LogSink::log(const spdlog::details::log_msg& message) {
  const std::string_view line(message.payload.data(), message.payload.size());
  output_->write_line(level_of(message.level), message.time, line);
  room_.give_back();
  if (const std::uint64_t lost = room_.take_unreported(); lost != 0) {
    LogLine notice("dropped");
    notice.number("lines", static_cast<std::int64_t>(lost));
    output_->write_line(LogLevel::kWarning, std::chrono::system_clock::now(), notice.str());
  }
}

void LogSink::flush() {
  MutexLock lock(mutex_);
  flushed_ = true;
  flushed_changed_.notify_all();
}

bool LogSink::wait_flushed(std::chrono::steady_clock::time_point deadline) {
  MutexLock lock(mutex_);
  while (!flushed_ && std::chrono::steady_clock::now() < deadline) flushed_changed_.wait_until(mutex_, deadline);
  return flushed_;
}

}  // namespace flockfs
