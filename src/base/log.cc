#include "base/log.h"

#include <pthread.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <exception>
#include <memory>

#include "base/log_sink.h"
#include "base/mutex.h"

namespace flockfs {
namespace {

constexpr std::size_t kQueuedLines = 8192;
constexpr std::size_t kQueuedOthers = 64;  // spdlog's own messages (flush, terminate) need no LogRoom
constexpr std::chrono::seconds kCloseTimeout{2};
constexpr int kClosed = -1;

// An open log. Destroying it joins its thread.
struct Log {
  LogRoom room{kQueuedLines};
  std::shared_ptr<LogSink> sink;
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::async_logger> logger;
};

struct LogState {
  Mutex mutex;
  std::shared_ptr<Log> log GUARDED_BY(mutex);
  // A log whose sink was stuck when it was closed: its thread may still be writing, so it stays to the end.
  std::shared_ptr<Log> stuck GUARDED_BY(mutex);
};

// The level of the open log, or kClosed.
std::atomic<int> g_level = kClosed;
std::atomic<std::uint64_t> g_dropped = 0;

// Never destroyed: threads may log while static objects are.
LogState& state() {
  static auto* const instance = new LogState;
  return *instance;
}

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::kError:
      return spdlog::level::err;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kDebug:
      return spdlog::level::debug;
  }
  return spdlog::level::info;
}

void prepare_log_thread() {
  sigset_t all;
  sigfillset(&all);
  // Signals are for the mirror's threads; and a reader of our stderr who goes away must not end us by SIGPIPE.
  pthread_sigmask(SIG_BLOCK, &all, nullptr);
  pthread_setname_np(pthread_self(), "flockfs-log");
}

std::shared_ptr<Log> make_log(std::unique_ptr<LogOutput> output) {
  auto log = std::make_shared<Log>();
  log->sink = std::make_shared<LogSink>(std::move(output), log->room);
  log->pool = std::make_shared<spdlog::details::thread_pool>(kQueuedLines + kQueuedOthers, 1, prepare_log_thread);
  // LogRoom keeps the queue from ever being full, so nothing is overrun; but no caller would block if it were.
  log->logger = std::make_shared<spdlog::async_logger>("flockfs", log->sink, log->pool,
                                                       spdlog::async_overflow_policy::overrun_oldest);
  log->logger->set_level(spdlog::level::trace);
  return log;
}

std::shared_ptr<Log> current_log() {
  LogState& s = state();
  MutexLock lock(s.mutex);
  return s.log;
}

}  // namespace

Status log_open(const LogConfig& config) {
  auto output = open_log_output(config);
  if (!output.ok()) return output.error();
  LogState& s = state();
  try {
    auto log = make_log(std::move(output).value());
    MutexLock lock(s.mutex);
    s.log = std::move(log);
  } catch (const std::exception& failure) {
    return Error{0, std::string("cannot start the log: ") + failure.what()};
  }
  g_level.store(static_cast<int>(config.level), std::memory_order_relaxed);
  return {};
}

void log_close() {
  g_level.store(kClosed, std::memory_order_relaxed);
  LogState& s = state();
  MutexLock lock(s.mutex);
  const std::shared_ptr<Log> log = std::move(s.log);
  s.log = nullptr;
  lock.unlock();
  if (!log) return;
  log->logger->flush();
  if (log->sink->wait_flushed(std::chrono::steady_clock::now() + kCloseTimeout)) return;
  lock.lock();
  s.stuck = log;
}

bool log_enabled(LogLevel level) { return static_cast<int>(level) <= g_level.load(std::memory_order_relaxed); }

void log_write(LogLevel level, const LogLine& line) {
  if (!log_enabled(level)) return;
  const std::shared_ptr<Log> log = current_log();
  if (!log) return;
  if (log->room.take()) {
    log->logger->log(spdlog_level(level), line.str());
  } else {
    g_dropped.fetch_add(1, std::memory_order_relaxed);
  }
}

void log_error(std::string_view op, std::string_view path, const Error& error) {
  if (!log_enabled(LogLevel::kError)) return;
  LogLine line("error");
  line.text("op", op);
  if (!path.empty()) line.quoted("path", path);
  line.quoted("reason", error.message());
  log_write(LogLevel::kError, line);
}

std::uint64_t log_dropped() { return g_dropped.load(std::memory_order_relaxed); }

}  // namespace flockfs
