#include "cli/status_options.h"

#include <algorithm>
#include <array>

namespace flockfs {
namespace {

constexpr std::size_t kTextColumn = 16;

// name, letter, help, apply
constexpr std::array kOptions{
    StatusOption{"json", 0, "print JSON, one line for each mirror", [](StatusCommand& out) { out.json = true; }},
    StatusOption{"watch", 0, "show it anew every second, until q or Ctrl-C",
                 [](StatusCommand& out) { out.watch = true; }},
    StatusOption{"help", 'h', "display this help",
                 [](StatusCommand& out) { out.request = StatusCommand::Request::kHelp; }},
    StatusOption{"version", 'V', "display the version",
                 [](StatusCommand& out) { out.request = StatusCommand::Request::kVersion; }},
};

Error usage_error(std::string message) { return Error{0, std::move(message)}; }

Status apply_long(const std::string& argument, StatusCommand& out) {
  const std::string word =
      argument.substr(2, argument.find('=') == std::string::npos ? std::string::npos : argument.find('=') - 2);
  const auto* const option = std::ranges::find(kOptions, std::string_view(word), &StatusOption::name);
  if (option == kOptions.end()) return usage_error("unknown option '--" + word + "'");
  if (word.size() + 2 != argument.size()) return usage_error("option '" + word + "' takes no value");
  option->apply(out);
  return {};
}

Status apply_letters(const std::string& argument, StatusCommand& out) {
  for (const char letter : argument.substr(1)) {
    const auto* const option = std::ranges::find(kOptions, letter, &StatusOption::letter);
    if (letter == '\0' || option == kOptions.end()) return usage_error(std::string("unknown option '-") + letter + "'");
    option->apply(out);
  }
  return {};
}

}  // namespace

std::span<const StatusOption> status_option_table() { return kOptions; }

Result<StatusCommand> parse_status_command_line(const std::vector<std::string>& arguments) {
  StatusCommand result;
  std::vector<std::string> operands;
  bool options = true;
  for (const std::string& argument : arguments) {
    Status applied;
    if (!options || argument.size() < 2 || argument[0] != '-') {
      operands.push_back(argument);
    } else if (argument == "--") {
      options = false;
    } else {
      applied = argument[1] == '-' ? apply_long(argument, result) : apply_letters(argument, result);
    }
    if (!applied.ok()) return applied.error();
  }
  if (result.request != StatusCommand::Request::kShow) return result;
  if (operands.empty() || operands.front().empty()) return usage_error("MOUNTPOINT is missing");
  if (operands.size() > 1) return usage_error("one operand too many: '" + operands[1] + "'");
  result.target = operands.front();
  return result;
}

std::string status_help_text() {
  std::string text =
      "Usage: flockfs-status [OPTIONS] MOUNTPOINT|PID\n"
      "Show who holds locks through the mirror of flockfs at MOUNTPOINT, who waits for\n"
      "them and for whom, and what the mirror has done so far\n"
      "\n";
  for (const StatusOption& option : kOptions) {
    std::string line = option.letter == '\0' ? "      --" : std::string("  -") + option.letter + ", --";
    line += option.name;
    line.append(std::max<std::size_t>(kTextColumn + 2, line.size() + 1) - line.size(), ' ');
    text += line.append(option.help).append("\n");
  }
  text +=
      "\n"
      "PID: the mirrors that the process or a descendant serves, or sees in a mount\n"
      "namespace of its own (a directory of that name is ./PID)\n"
      "Only root and the user who has mounted the mirror may ask\n"
      "Exit status: 0 shown, 1 failure, 2 wrong usage\n";
  return text;
}

}  // namespace flockfs
