#include "cli/help.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <string_view>
#include <utility>

#include "cli/option_table.h"

namespace flockfs {
namespace {

constexpr std::size_t kWidth = 80;
constexpr std::size_t kTextColumn = 29;

constexpr std::array<std::pair<OptionGroup, std::string_view>, 5> kGroups{{{OptionGroup::kRun, "Running:"},
                                                                           {OptionGroup::kLocking, "Locking:"},
                                                                           {OptionGroup::kMirror, "Mirror:"},
                                                                           {OptionGroup::kDaemon, "Daemon and log:"},
                                                                           {OptionGroup::kOther, "Other:"}}};

// " -f, --foreground", "     --prefix PATH"
std::string synopsis_of(const OptionSpec& option) {
  std::string text = option.letter == '\0' ? "    " : std::string{' ', '-', option.letter};
  if (!option.name.empty()) {
    std::string dashed(option.name);
    std::ranges::replace(dashed, '_', '-');
    text += (option.letter == '\0' ? " --" : ", --") + dashed;
  }
  if (option.takes_value()) text.append(" ").append(option.argument);
  return text;
}

std::string description_of(const OptionSpec& option, Program program) {
  std::string text(option.help);
  if (option.repeat == Repeat::kAdds) text += "; may repeat";
  const bool other = program == Program::kRun && !option.run_fallback.empty();
  const std::string_view fallback = other ? option.run_fallback : option.fallback;
  if (!fallback.empty()) text.append(" [").append(fallback).append("]");
  return text;
}

// Appends `text` from kTextColumn on, broken between words.
void append_wrapped(std::string& out, std::size_t column, std::string_view text) {
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(text.size(), word.size() + 1));
    if (column + 1 + word.size() > kWidth || column < kTextColumn) {
      if (column >= kTextColumn) {
        out.push_back('\n');
        column = 0;
      }
      out.append(kTextColumn - column, ' ');
      column = kTextColumn;
    } else {
      out.push_back(' ');
      ++column;
    }
    out.append(word);
    column += word.size();
  }
  out.push_back('\n');
}

void append_option(std::string& out, const OptionSpec& option, Program program) {
  const std::string synopsis = synopsis_of(option);
  out.append(synopsis);
  append_wrapped(out, synopsis.size(), description_of(option, program));
}

std::string_view head_of(Program program) {
  if (program == Program::kRun) {
    return "Usage: flockfs-run [OPTIONS] SOURCE... -- COMMAND [ARGUMENT...]\n"
           "Run COMMAND where each SOURCE is covered by a locking mirror of itself, which\n"
           "nobody else sees: what it opens below SOURCE it holds a lock on, until the last\n"
           "close (flock, or as lock= says): shared for reading, exclusive for writing\n";
  }
  return "Usage: flockfs [OPTIONS] SOURCE MOUNTPOINT\n"
         "Mirror SOURCE at MOUNTPOINT; who opens a file there holds a lock on it until the\n"
         "last close (flock, or as lock= says): shared for reading, exclusive for writing\n";
}

std::string_view exit_statuses(Program program) {
  if (program == Program::kRun) {
    return "Exit status: COMMAND's; 128+N if signal N killed it; 75 as --fail-if-unlocked\n"
           "says; 125 failure of flockfs-run, 126 COMMAND cannot be run, 127 not found\n";
  }
  return "Exit status: 0 mounted, 1 failure, 2 wrong usage\n";
}

}  // namespace

std::string help_text(Program program) {
  std::string text(head_of(program));
  for (const auto& [group, title] : kGroups) {
    std::string options;
    for (const OptionSpec& option : option_table()) {
      if (option.group == group && option.is_for(program)) append_option(options, option, program);
    }
    if (!options.empty()) text.append("\n").append(title).append("\n").append(options);
  }
  text +=
      "\n"
      "--long-option VALUE is also -o long_option=VALUE, with \"\\,\" for a comma in VALUE\n"
      "-o also takes nodev, nosuid, noexec, sync, dirsync and their like from mount(8)\n"
      "prefix, exclude: absolute or below SOURCE; TIME: N milliseconds, Ns or Nmin\n";
  text += exit_statuses(program);
  return text;
}

}  // namespace flockfs
