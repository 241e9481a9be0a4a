#include "cli/option_table.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <utility>

#include "base/duration.h"
#include "cli/mount_words.h"

namespace flockfs {
namespace {

using std::chrono::milliseconds;

constexpr unsigned kMaxThreads = 256;

Error invalid(std::string_view value, std::string_view reason) {
  return Error{0, "'" + std::string(value) + "' is " + std::string(reason)};
}

Status set_duration(std::string_view value, milliseconds& out) {
  const auto parsed = parse_duration(value);
  if (!parsed.ok()) return parsed.error();
  out = *parsed;
  return {};
}

Status set_seconds(std::string_view value, std::optional<std::chrono::duration<double>>& out) {
  const auto parsed = parse_seconds(value);
  if (!parsed.ok()) return parsed.error();
  out = *parsed;
  return {};
}

Status set_path(std::string_view value, std::string& out) {
  if (value.empty()) return Error{0, "the path is empty"};
  out = value;
  return {};
}

Status add_path(std::string_view value, std::vector<std::string>& out) {
  out.emplace_back();
  return set_path(value, out.back());
}

// One of two words.
template <typename Value>
Status set_choice(std::string_view value, std::pair<std::string_view, Value> one,
                  std::pair<std::string_view, Value> other, Value& out) {
  for (const auto& [word, meaning] : {one, other}) {
    if (word != value) continue;
    out = meaning;
    return {};
  }
  return invalid(value, "neither " + std::string(one.first) + " nor " + std::string(other.first));
}

Status set_otherwise(std::string_view value, Otherwise& out) {
  return set_choice<Otherwise>(value, {"fail", Otherwise::kFail}, {"unlocked", Otherwise::kUnlocked}, out);
}

Status set_timeout(std::string_view value, CommandLine& out) {
  const auto parsed = parse_duration(value, Forever::kAllowed);
  if (!parsed.ok()) return parsed.error();
  out.mirror.timeout.reset();
  if (*parsed != kForever) out.mirror.timeout = *parsed;
  return {};
}

Status set_threads(std::string_view value, CommandLine& out) {
  unsigned threads = 0;
  const char* const end = value.data() + value.size();
  const auto [rest, code] = std::from_chars(value.data(), end, threads);
  if (code != std::errc{} || rest != end || threads < 1 || threads > kMaxThreads) {
    return invalid(value, "not a number from 1 to " + std::to_string(kMaxThreads));
  }
  out.mirror.threads = threads;
  return {};
}

Status set_passthrough(std::string_view value, CommandLine& out) {
  return set_choice<bool>(value, {"auto", true}, {"off", false}, out.mirror.passthrough);
}

Status set_lock(std::string_view value, CommandLine& out) {
  bool flock = false;
  bool ofd = false;
  bool lockfile = false;
  for (std::string_view rest = value;;) {
    const std::string_view word = rest.substr(0, rest.find('+'));
    bool* const part = word == "flock" ? &flock : word == "ofd" ? &ofd : word == "lockfile" ? &lockfile : nullptr;
    if (part == nullptr || *part) return invalid(value, "none of flock, ofd, flock+ofd, with +lockfile or without");
    *part = true;
    if (word.size() == rest.size()) break;
    rest.remove_prefix(word.size() + 1);
  }
  if (!flock && !ofd) return invalid(value, "no lock by itself (try flock+lockfile)");
  out.mirror.lock = flock && ofd ? LockKind::kFlockAndOfd : flock ? LockKind::kFlock : LockKind::kOfd;
  out.mirror.lockfile = lockfile;
  return {};
}

Status set_log_level(std::string_view value, CommandLine& out) {
  constexpr std::array<std::pair<std::string_view, LogLevel>, 4> kLevels{{{"error", LogLevel::kError},
                                                                          {"warning", LogLevel::kWarning},
                                                                          {"info", LogLevel::kInfo},
                                                                          {"debug", LogLevel::kDebug}}};
  for (const auto& [name, level] : kLevels) {
    if (name != value) continue;
    out.log.level = level;
    return {};
  }
  return invalid(value, "none of error, warning, info, debug");
}

Status set_log_file(std::string_view value, CommandLine& out) {
  out.log.target = LogTarget::kFile;
  return set_path(value, out.log.file);
}

constexpr auto kRun = OptionGroup::kRun;
constexpr auto kLocking = OptionGroup::kLocking;
constexpr auto kMirror = OptionGroup::kMirror;
constexpr auto kDaemon = OptionGroup::kDaemon;
constexpr auto kOther = OptionGroup::kOther;
constexpr auto kEverywhere = Spelling::kEverywhere;
constexpr auto kCommandLineOnly = Spelling::kCommandLineOnly;
constexpr auto kLastWins = Repeat::kLastWins;
constexpr auto kAdds = Repeat::kAdds;

// name, letter, argument, default, help, group, spelling, repeat, apply, takers, default of flockfs-run
constexpr std::array kOptions{
    OptionSpec{"quiet", 'q', "", "", "no live line, no summary at the end", kRun, kEverywhere, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.quiet = true;
                 return {};
               },
               Takers::kRunOnly},
    OptionSpec{"fail_if_unlocked", 0, "", "", "exit with 75 if a file was refused or opened without a lock", kRun,
               kEverywhere, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.fail_if_unlocked = true;
                 return {};
               },
               Takers::kRunOnly},

    OptionSpec{"prefix", 0, "PATH", "all", "lock only PATH and below", kLocking, kEverywhere, kAdds,
               [](std::string_view value, CommandLine& out) { return add_path(value, out.mirror.prefixes); }},
    OptionSpec{"exclude", 0, "PATH", "none", "do not lock PATH and below", kLocking, kEverywhere, kAdds,
               [](std::string_view value, CommandLine& out) { return add_path(value, out.mirror.excludes); }},
    OptionSpec{"lock", 0, "WHICH", "flock", "flock, ofd (fcntl users see it), flock+ofd; +lockfile: as git", kLocking,
               kEverywhere, kLastWins, set_lock},
    OptionSpec{"timeout", 0, "TIME", "-1, for ever", "wait for a lock so long, 0: try once", kLocking, kEverywhere,
               kLastWins, set_timeout},
    OptionSpec{"on_timeout", 0, "WHAT", "fail", "then: fail, or unlocked (open without)", kLocking, kEverywhere,
               kLastWins,
               [](std::string_view value, CommandLine& out) { return set_otherwise(value, out.mirror.on_timeout); }},
    OptionSpec{
        "on_unsupported", 0, "WHAT", "fail", "no locks in the source: fail or unlocked", kLocking, kEverywhere,
        kLastWins,
        [](std::string_view value, CommandLine& out) { return set_otherwise(value, out.mirror.on_unsupported); }},
    OptionSpec{"nonblock", 0, "wait|try", "wait", "what O_NONBLOCK at open means", kLocking, kEverywhere, kLastWins,
               [](std::string_view value, CommandLine& out) {
                 return set_choice<bool>(value, {"wait", false}, {"try", true}, out.mirror.try_nonblocking);
               }},
    OptionSpec{"reopen", 0, "WHAT", "join", "a file that the process has already: join, or wait", kLocking, kEverywhere,
               kLastWins,
               [](std::string_view value, CommandLine& out) {
                 return set_choice<Reopen>(value, {"join", Reopen::kJoin}, {"wait", Reopen::kWait}, out.mirror.reopen);
               }},
    OptionSpec{"hold_warn", 0, "TIME", "60s", "warn of a lock that is held for longer", kLocking, kEverywhere,
               kLastWins,
               [](std::string_view value, CommandLine& out) { return set_duration(value, out.mirror.hold_warn); }},

    OptionSpec{"ro", 0, "", "off", "read-only", kMirror, kEverywhere, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.mirror.mount_flags |= MS_RDONLY;
                 return {};
               },
               Takers::kBoth, "on"},
    OptionSpec{"rw", 0, "", "on", "not read-only", kMirror, kEverywhere, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.mirror.mount_flags &= ~static_cast<unsigned long>(MS_RDONLY);
                 return {};
               },
               Takers::kBoth, "off"},
    OptionSpec{"noatime", 0, "", "off", "reading moves no access times of the source", kMirror, kEverywhere, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.mirror.mount_flags |= MS_NOATIME;
                 return {};
               }},
    OptionSpec{"submounts", 0, "show|hide", "show", "file systems below SOURCE; hide: as empty directories", kMirror,
               kEverywhere, kLastWins,
               [](std::string_view value, CommandLine& out) {
                 return set_choice<bool>(value, {"show", false}, {"hide", true}, out.mirror.hide_submounts);
               }},
    OptionSpec{"allow_other", 0, "", "for root", "let other users in, as fuse(8) has it", kMirror, kEverywhere,
               kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.allow_other = true;
                 return {};
               }},
    OptionSpec{"no_allow_other", 0, "", "for others", "let no other users in", kMirror, kEverywhere, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.allow_other = false;
                 return {};
               }},
    OptionSpec{"passthrough", 0, "auto|off", "auto", "kernel I/O passthrough, where it can be had", kMirror,
               kEverywhere, kLastWins, set_passthrough},
    OptionSpec{"attr_timeout", 0, "SEC", "1", "how long the kernel keeps attributes", kMirror, kEverywhere, kLastWins,
               [](std::string_view value, CommandLine& out) { return set_seconds(value, out.attr_timeout); },
               Takers::kBoth, "3600, with rw 1"},
    OptionSpec{"entry_timeout", 0, "SEC", "1", "how long the kernel keeps names", kMirror, kEverywhere, kLastWins,
               [](std::string_view value, CommandLine& out) { return set_seconds(value, out.entry_timeout); },
               Takers::kBoth, "3600, with rw 1"},
    OptionSpec{"threads", 0, "N", "by CPUs", "threads that serve requests, 1 to 256", kMirror, kEverywhere, kLastWins,
               set_threads},

    OptionSpec{"foreground", 'f', "", "", "stay in the foreground", kDaemon, kEverywhere, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.foreground = true;
                 return {};
               },
               Takers::kFlockfsOnly},
    OptionSpec{"stop_timeout", 0, "TIME", "10s", "how long open files are served after SIGTERM", kDaemon, kEverywhere,
               kLastWins,
               [](std::string_view value, CommandLine& out) { return set_duration(value, out.mirror.stop_timeout); },
               Takers::kFlockfsOnly},
    OptionSpec{"log_file", 0, "PATH", "syslog, or stderr with -f", "append the log to PATH", kDaemon, kEverywhere,
               kLastWins, set_log_file, Takers::kBoth, "syslog, or stderr with -d"},
    OptionSpec{"log_level", 0, "LEVEL", "info", "error, warning, info or debug", kDaemon, kEverywhere, kLastWins,
               set_log_level},
    OptionSpec{"debug", 0, "", "", "log every decision, as log_level=debug", kDaemon, kEverywhere, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) { return set_log_level("debug", out); }},
    OptionSpec{"", 'd', "", "", "the same, and to stderr, in the foreground", kDaemon, kCommandLineOnly, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) {
                 out.foreground = true;
                 return set_log_level("debug", out);
               }},

    OptionSpec{"", 'o', "NAME[=VALUE],...", "", "options, as in fstab", kOther, kCommandLineOnly, kAdds,
               apply_option_list},
    OptionSpec{"config", 0, "FILE", "", "also read options, SOURCE and MOUNTPOINT from FILE", kOther, kCommandLineOnly,
               kLastWins, [](std::string_view value, CommandLine& out) { return set_path(value, out.config_file); },
               Takers::kFlockfsOnly},
    OptionSpec{"help", 'h', "", "", "display this help", kOther, kCommandLineOnly, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.request = CommandLine::Request::kHelp;
                 return {};
               }},
    OptionSpec{"version", 'V', "", "", "display the version", kOther, kCommandLineOnly, kLastWins,
               [](std::string_view /*value*/, CommandLine& out) -> Status {
                 out.request = CommandLine::Request::kVersion;
                 return {};
               }},
};

bool same_name(std::string_view a, std::string_view b) {
  const auto plain = [](char c) { return c == '-' ? '_' : c; };
  return std::ranges::equal(a, b, {}, plain, plain);
}

}  // namespace

std::string OptionSpec::display_name() const { return name.empty() ? std::string{'-', letter} : std::string(name); }

std::span<const OptionSpec> option_table() { return kOptions; }

const OptionSpec* find_option(std::string_view name, Program program) {
  if (name.empty()) return nullptr;
  const auto* const found = std::ranges::find_if(
      kOptions, [&](const OptionSpec& option) { return option.is_for(program) && same_name(option.name, name); });
  return found == kOptions.end() ? nullptr : found;
}

const OptionSpec* find_option(char letter, Program program) {
  if (letter == '\0') return nullptr;
  const auto* const found = std::ranges::find_if(
      kOptions, [&](const OptionSpec& option) { return option.is_for(program) && option.letter == letter; });
  return found == kOptions.end() ? nullptr : found;
}

bool is_listed_option_known(std::string_view name) {
  const OptionSpec* const option = find_option(name);
  return (option != nullptr && option->spelling == Spelling::kEverywhere) || find_mount_word(name) != nullptr;
}

}  // namespace flockfs
