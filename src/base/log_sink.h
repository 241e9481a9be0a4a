#pragma once

#include <spdlog/common.h>
#include <spdlog/sinks/sink.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "base/mutex.h"
#include "base/result.h"

namespace flockfs {

// Where one line goes in the end. Used by the log's thread alone; write_line() may block as long as its sink does.
class LogOutput {
 public:
  virtual ~LogOutput() = default;
  virtual void write_line(LogLevel level, std::chrono::system_clock::time_point time, std::string_view line) = 0;
};

// The output that `config` asks for, opened.
Result<std::unique_ptr<LogOutput>> open_log_output(const LogConfig& config);

// The room left in the log's queue, and how much was lost for want of it. Thread-safe.
class LogRoom {
 public:
  explicit LogRoom(std::size_t capacity) : capacity_(capacity) {}

  // Takes a place in the queue; false, and counted, if there is none.
  bool take();
  // Gives the place back once the line is written.
  void give_back() { used_.fetch_sub(1, std::memory_order_relaxed); }
  // The lines lost since the last call. 0 until half of the queue is free again, so that a long jam is reported once
  // and not after every line that trickles through.
  std::uint64_t take_unreported();

 private:
  const std::size_t capacity_;
  std::atomic<std::size_t> used_ = 0;
  std::atomic<std::uint64_t> unreported_ = 0;
};

// spdlog's end of the queue: hands each line to the output, on spdlog's thread. `room` outlives the sink.
class LogSink final : public spdlog::sinks::sink {
 public:
  LogSink(std::unique_ptr<LogOutput> output, LogRoom& room) : output_(std::move(output)), room_(room) {}

  void log(const spdlog::details::log_msg& message) override;
  // Comes through the queue behind the lines before it, so all of those have been written.
  void flush() override;
  void set_pattern(const std::string& /*pattern*/) override {}
  void set_formatter(std::unique_ptr<spdlog::formatter> /*formatter*/) override {}

  // Waits for a flush() to come through; false if `deadline` passes first.
  bool wait_flushed(std::chrono::steady_clock::time_point deadline);

 private:
  const std::unique_ptr<LogOutput> output_;
  LogRoom& room_;
  Mutex mutex_;
  CondVar flushed_changed_;
  bool flushed_ GUARDED_BY(mutex_) = false;
};

}  // namespace flockfs
