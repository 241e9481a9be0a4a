#include "mirror/events.h"

#include <string>

#include "base/log.h"
#include "mirror/clients.h"

namespace flockfs {
namespace {

constexpr std::size_t kMostHolderBytes = 80;

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
  if (!log_enabled(LogLevel::kDebug)) return;
  LogLine line = begin("lock", subject);
  line.ms("wait_ms", to_ms(waited));
  end(LogLevel::kDebug, line, subject);
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
  std::string holders;
  for (const auto& file : subject.core.files.pick([&](const OpenFile& open) {
         return open.locked() && open.inode.get() == &subject.inode && open.opener != 0;
       })) {
    if (holders.size() > kMostHolderBytes) break;
    holders += (holders.empty() ? "" : ",") + std::to_string(file->opener);
  }
  if (!holders.empty()) line.text("blocked_by", holders);
  end(LogLevel::kInfo, line, subject);
}

void log_interrupted(const Subject& subject, Duration waited) {
  if (!log_enabled(LogLevel::kInfo)) return;
  LogLine line = begin("interrupted", subject);
  line.ms("wait_ms", to_ms(waited));
  end(LogLevel::kInfo, line, subject);
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
