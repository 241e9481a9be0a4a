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

constexpr std::array<std::pair<OptionGroup, std::string_view>, 4> kGroups{{{OptionGroup::kLocking, "Locking:"},
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

std::string description_of(const OptionSpec& option) {
  std::string text(option.help);
  if (option.repeat == Repeat::kAdds) text += "; may repeat";
  if (!option.fallback.empty()) text.append(" [").append(option.fallback).append("]");
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

void append_option(std::string& out, const OptionSpec& option) {
  const std::string synopsis = synopsis_of(option);
  out.append(synopsis);
  append_wrapped(out, synopsis.size(), description_of(option));
}

}  // namespace

std::string help_text() {
  std::string text =
      "Usage: flockfs [OPTIONS] SOURCE MOUNTPOINT\n"
      "Mirror SOURCE at MOUNTPOINT; who opens a file there holds a lock on it until the\n"
      "last close (flock, or as lock= says): shared for reading, exclusive for writing\n";
  for (const auto& [group, title] : kGroups) {
    text.append("\n").append(title).append("\n");
    for (const OptionSpec& option : option_table()) {
      if (option.group == group) append_option(text, option);
    }
  }
  text +=
      "\n"
      "--long-option VALUE is also -o long_option=VALUE, with \"\\,\" for a comma in VALUE\n"
      "-o also takes nodev, nosuid, noexec, sync, dirsync and their like from mount(8)\n"
      "prefix, exclude: absolute or below SOURCE; TIME: N milliseconds, Ns or Nmin\n"
      "Exit status: 0 mounted, 1 failure, 2 wrong usage\n";
  return text;
}

}  // namespace flockfs
