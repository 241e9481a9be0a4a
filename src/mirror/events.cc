#include "mirror/events.h"

#include <string>

#include "base/log.h"
#include "mirror/clients.h"

namespace flockfs {
namespace {

constexpr std::size_t kMostHolderBytes = 80;

// The end of a wait that was worth a warning is worth another.
LogLevel level_after(Duration waited, LogLevel usual) { return waited < kLongWait ? usual : LogLevel::kWarning; }

// "12,34": as many as fit a line.
class Numbers {
 public:
  void add(pid_t number) {
    if (number <= 0 || text_.size() > kMostHolderBytes) return;
    text_ += (text_.empty() ? "" : ",") + std::to_string(number);
  }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

LogLine begin(std::string_view event, const Subject& subject) {
  LogLine line(event);
  line.quoted("path", subject.core.inodes.path(subject.inode)).text("mode", to_string(subject.mode));
  return line;
}

void end(LogLevel level, LogLine& line, const Subject& subject) {
  line.number("pid", subject.process)
      .text("comm", subject.command.empty() ? command_of(subject.process) : std::string(subject.command));
  log_write(level, line);
}

}  // namespace

void log_lock(const Subject& subject, Duration waited) {
  const LogLevel level = level_after(waited, LogLevel::kDebug);
  if (!log_enabled(level)) return;
  LogLine line = begin("lock", subject);
  line.ms("wait_ms", to_ms(waited));
  end(level, line, subject);
}

void log_pass(const Subject& subject, PassReason reason) {
  if (!log_enabled(LogLevel::kDebug)) return;
  LogLine line = begin("pass", subject);
  line.text("reason", to_string(reason));
  end(LogLevel::kDebug, line, subject);
}

void log_wait(const Subject& subject) {
  if (!log_enabled(LogLevel::kInfo)) return;
  LogLine line = begin("wait", subject);
  // Who holds it through this mirror. The kernel's list of all locks takes milliseconds to read: not here.
  Numbers holders;
  for (const auto& file : subject.core.files.pick([&](const OpenFile& open) {
         return open.locked() && open.inode.get() == &subject.inode && open.opener != 0;
       })) {
    holders.add(file->opener);
  }
  if (!holders.text().empty()) line.text("blocked_by", holders.text());
  end(LogLevel::kInfo, line, subject);
}

void log_long_wait(const Subject& subject, Duration waited, const std::vector<Blocker>& blockers) {
  if (!log_enabled(LogLevel::kWarning)) return;
  LogLine line = begin("wait", subject);
  line.ms("wait_ms", to_ms(waited));
  Numbers pids;
  for (const Blocker& blocker : blockers) pids.add(blocker.pid);
  if (!pids.text().empty()) line.text("blocked_by", pids.text());
  end(LogLevel::kWarning, line, subject);
}

void log_deadlock(const Subject& subject, const std::vector<pid_t>& processes, bool certain) {
  if (!log_enabled(LogLevel::kWarning)) return;
  LogLine line = begin("deadlock", subject);
  line.text("refused", certain ? "yes" : "no");
  Numbers pids;
  for (const pid_t process : processes) pids.add(process);
  if (!certain && !pids.text().empty()) line.text("processes", pids.text());
  end(LogLevel::kWarning, line, subject);
}

void log_lapsed(const Subject& subject, std::string_view reason) {
  if (!log_enabled(LogLevel::kWarning)) return;
  LogLine line = begin("lapsed", subject);
  line.text("reason", reason);
  end(LogLevel::kWarning, line, subject);
}

void log_wait_for_lock_file(const Subject& subject, std::string_view path) {
  if (!log_enabled(LogLevel::kInfo)) return;
  LogLine line("wait");
  line.quoted("path", path).text("mode", to_string(subject.mode));
  end(LogLevel::kInfo, line, subject);
}

void log_long_wait_for_lock_file(const Subject& subject, std::string_view path, Duration waited) {
  if (!log_enabled(LogLevel::kWarning)) return;
  LogLine line("wait");
  line.quoted("path", path).text("mode", to_string(subject.mode)).ms("wait_ms", to_ms(waited));
  end(LogLevel::kWarning, line, subject);
}

void log_interrupted(const Subject& subject, Duration waited) {
  const LogLevel level = level_after(waited, LogLevel::kInfo);
  if (!log_enabled(level)) return;
  LogLine line = begin("interrupted", subject);
  line.ms("wait_ms", to_ms(waited));
  end(level, line, subject);
}

void log_timeout(const Subject& subject, Duration waited) {
  const LogLevel level = level_after(waited, LogLevel::kInfo);
  if (!log_enabled(level)) return;
  LogLine line = begin("timeout", subject);
  line.ms("wait_ms", to_ms(waited));
  end(level, line, subject);
}

void log_unlocked(const Subject& subject, std::string_view reason, Duration waited) {
  if (!log_enabled(LogLevel::kWarning)) return;
  LogLine line = begin("unlocked", subject);
  line.text("reason", reason).ms("wait_ms", to_ms(waited));
  end(LogLevel::kWarning, line, subject);
}

void log_open_error(const Subject& subject, std::string_view op, int error) {
  if (!log_enabled(LogLevel::kError)) return;
  LogLine line("error");
  line.text("op", op)
      .quoted("path", subject.core.inodes.path(subject.inode))
      .quoted("reason", Error{error, {}}.message());
  end(LogLevel::kError, line, subject);
}

void log_unlock(const Subject& subject, Duration held) {
  if (!log_enabled(LogLevel::kDebug)) return;
  LogLine line = begin("unlock", subject);
  line.ms("held_ms", to_ms(held));
  end(LogLevel::kDebug, line, subject);
}

void log_held(const Subject& subject, Duration held) {
  if (!log_enabled(LogLevel::kWarning)) return;
  LogLine line = begin("held", subject);
  line.ms("held_ms", to_ms(held));
  end(LogLevel::kWarning, line, subject);
}

}  // namespace flockfs
