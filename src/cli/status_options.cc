#include "cli/status_options.h"

#include <algorithm>
#include <array>
#include <boost/program_options.hpp>

namespace flockfs {
namespace {

namespace po = boost::program_options;

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

// Boost's view of the table.
po::options_description describe_options() {
  po::options_description description;
  for (const StatusOption& option : kOptions) {
    std::string names(option.name);
    if (option.letter != '\0') names += {',', option.letter};
    description.add_options()(names.c_str(), new po::untyped_value(true));  // which Boost deletes
  }
  return description;
}

Result<po::parsed_options> parse_with_boost(const std::vector<std::string>& arguments) {
  using Style = po::command_line_style::style_t;
  constexpr int kStyle = Style::allow_long | Style::long_allow_adjacent | Style::allow_short |
                         Style::allow_dash_for_short | Style::short_allow_adjacent | Style::allow_sticky;
  static const po::options_description options = describe_options();  // what is parsed refers to it
  try {
    return po::command_line_parser(arguments).options(options).style(kStyle).allow_unregistered().run();
  } catch (const po::invalid_command_line_syntax& failure) {
    const std::string name = failure.get_option_name();
    return usage_error("option '" + name.substr(std::min(name.find_first_not_of('-'), name.size())) +
                       "' takes no value");
  } catch (const po::error& failure) {
    return usage_error(failure.what());
  }
}

// Boost names some options with their dashes, some without.
const StatusOption* option_of(std::string_view boost_name) {
  boost_name.remove_prefix(std::min(boost_name.find_first_not_of('-'), boost_name.size()));
  const auto* const found = std::ranges::find_if(kOptions, [&](const StatusOption& one) {
    return boost_name == one.name || (boost_name.size() == 1 && boost_name[0] == one.letter);
  });
  return found == kOptions.end() ? nullptr : found;
}

}  // namespace

std::span<const StatusOption> status_option_table() { return kOptions; }

Result<StatusCommand> parse_status_command_line(const std::vector<std::string>& arguments) {
  const auto parsed = parse_with_boost(arguments);
  if (!parsed.ok()) return parsed.error();
  StatusCommand result;
  std::vector<std::string> operands;
  for (const po::option& given : parsed->options) {
    if (given.position_key >= 0) {
      operands.insert(operands.end(), given.value.begin(), given.value.end());
      continue;
    }
    const StatusOption* const option = given.unregistered ? nullptr : option_of(given.string_key);
    if (option == nullptr) {
      const std::string dashes = given.string_key.starts_with('-') ? "" : "--";
      return usage_error("unknown option '" + dashes + given.string_key + "'");
    }
    option->apply(result);
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
