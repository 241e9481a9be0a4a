#include "cli/command_line.h"

#include <sys/mount.h>

#include <algorithm>
#include <boost/program_options.hpp>
#include <utility>

#include "cli/config_file.h"
#include "cli/mount_words.h"
#include "cli/option_error.h"
#include "cli/option_list.h"
#include "cli/option_table.h"

namespace flockfs {
namespace {

namespace po = boost::program_options;

// How long the kernel keeps names and attributes.
constexpr double kSeconds = 1;
constexpr double kBackupSeconds = 3600;

Error usage_error(std::string message) { return Error{0, std::move(message)}; }

Error unknown_option(const std::string& name) { return usage_error("unknown option '" + name + "'"); }

Error not_ours(const OptionSpec& option, Program program) {
  return option_error(option.display_name(), std::string(name_of(program)) + " does not have it");
}

// An option that is not this program's but the other's.
const OptionSpec* find_elsewhere(std::string_view name, Program program) {
  const OptionSpec* const found = find_option(name, program == Program::kRun ? Program::kFlockfs : Program::kRun);
  return found == nullptr || found->is_for(program) ? nullptr : found;
}

Error missing_value(const OptionSpec& option) {
  return usage_error("option '" + option.display_name() + "' needs a value (" + std::string(option.argument) + ")");
}

Error unwanted_value(const std::string& name) { return usage_error("option '" + name + "' takes no value"); }

std::string with_dashes(std::string_view name) {
  std::string dashed(name);
  std::ranges::replace(dashed, '_', '-');
  return dashed;
}

// Boost's view of the table.
po::options_description describe_options(Program program) {
  po::options_description description;
  for (const OptionSpec& option : option_table()) {
    if (!option.is_for(program)) continue;
    std::string names = with_dashes(option.name);
    if (option.letter != '\0') names += {',', option.letter};
    // Boost deletes what it is given here.
    const po::value_semantic* const semantic =
        option.takes_value() ? static_cast<po::value_semantic*>(po::value<std::string>()) : new po::untyped_value(true);
    description.add_options()(names.c_str(), semantic);
  }
  return description;
}

// Tells Boost which option a token is, so that '_' is taken for '-' in names and not in values.
// Left to Boost (by an empty name): what is no long option, and "--name=", whose empty value this form cannot express.
std::pair<std::string, std::string> split_long_option(const std::string& token) {
  if (!token.starts_with("--") || token.size() == 2) return {};
  const std::size_t equals = token.find('=');
  if (equals == std::string::npos) return {with_dashes(token.substr(2)), {}};
  if (equals + 1 == token.size()) return {};
  return {with_dashes(token.substr(2, equals - 2)), token.substr(equals + 1)};
}

// The option that Boost means: it names some with their dashes, some without, and "-o" as "--o".
const OptionSpec* option_of(std::string_view boost_name, Program program) {
  boost_name.remove_prefix(std::min(boost_name.find_first_not_of('-'), boost_name.size()));
  return boost_name.size() == 1 ? find_option(boost_name[0], program) : find_option(boost_name, program);
}

// About an option on the command line, `boost_name` being "-x", "--name" or "name".
Error unknown_on_command_line(const std::string& boost_name, Program program) {
  if (boost_name.size() == 2 && boost_name[0] == '-') return unknown_option(boost_name);
  std::string word = boost_name.substr(boost_name.starts_with("--") ? 2 : 0);
  const std::string typed = "--" + word;
  std::ranges::replace(word, '-', '_');
  if (const OptionSpec* const other = find_elsewhere(word, program); other != nullptr) return not_ours(*other, program);
  const MountWord* const found = find_mount_word(word);
  if (found == nullptr) return unknown_option(typed);
  if (found->kind == MountWord::Kind::kRefused) return option_error(word, std::string(found->reason));
  return usage_error("unknown option '" + typed + "', but there is '-o " + word + "'");
}

Error syntax_error(const po::invalid_command_line_syntax& failure, Program program) {
  // "--name=" comes with its value or "=" in the name, depending on where Boost met it.
  std::string name = failure.get_option_name();
  name = name.substr(0, name.find('='));
  const OptionSpec* const option = option_of(name, program);
  if (option == nullptr) return unknown_on_command_line(name, program);
  if (option->takes_value()) return missing_value(*option);
  return unwanted_value(option->display_name());
}

Result<po::parsed_options> parse_with_boost(const std::vector<std::string>& arguments, Program program) {
  using Style = po::command_line_style::style_t;
  constexpr int kStyle = Style::allow_long | Style::long_allow_adjacent | Style::long_allow_next | Style::allow_short |
                         Style::allow_dash_for_short | Style::short_allow_adjacent | Style::short_allow_next |
                         Style::allow_sticky;
  // What is parsed refers to it for as long as that lives.
  static const po::options_description flockfs = describe_options(Program::kFlockfs);
  static const po::options_description run = describe_options(Program::kRun);
  try {
    // Unknown options are let through, because the result says better than Boost's exception what was typed.
    return po::command_line_parser(arguments)
        .options(program == Program::kRun ? run : flockfs)
        .style(kStyle)
        .extra_parser(split_long_option)
        .allow_unregistered()
        .run();
  } catch (const po::invalid_command_line_syntax& failure) {
    return syntax_error(failure, program);
  } catch (const po::error& failure) {
    return usage_error(failure.what());
  }
}

Status apply(const OptionSpec& option, std::string_view value, CommandLine& out) {
  Status applied = option.apply(value, out);
  if (applied.ok()) return {};
  // What a list complains of names its own element.
  if (option.letter == 'o') return applied;
  return option_error(option.display_name(), applied.error().message());
}

Status apply_word(const MountWord& word, const ListedOption& element, CommandLine& out) {
  if (word.kind == MountWord::Kind::kRefused) return option_error(element.name, std::string(word.reason));
  if (word.kind == MountWord::Kind::kFlags && element.value) return unwanted_value(element.name);
  out.mirror.mount_flags &= ~word.clear;
  out.mirror.mount_flags |= word.set;
  return {};
}

Status apply_element(const ListedOption& element, CommandLine& out) {
  const OptionSpec* const option = find_option(element.name, out.program);
  if (option == nullptr || option->spelling == Spelling::kCommandLineOnly) {
    const MountWord* const word = find_mount_word(element.name);
    if (word != nullptr) return apply_word(*word, element, out);
    const OptionSpec* const other = find_elsewhere(element.name, out.program);
    return other == nullptr ? unknown_option(element.name) : not_ours(*other, out.program);
  }
  if (option->takes_value() && element.value.value_or("").empty()) return missing_value(*option);
  if (!option->takes_value() && element.value) return unwanted_value(option->display_name());
  return apply(*option, element.value.value_or(""), out);
}

// What --config has set is not missing: a single operand is MOUNTPOINT then.
Status set_operands(const std::vector<std::string>& operands, CommandLine& out) {
  std::string& source = out.mirror.source;
  std::string& mountpoint = out.mirror.mountpoint;
  if (operands.size() > 2) return usage_error("one operand too many: '" + operands[2] + "'");
  if (operands.empty()) {
    if (source.empty() && mountpoint.empty()) return usage_error("SOURCE and MOUNTPOINT are missing");
    if (source.empty()) return usage_error("SOURCE is missing");
    return mountpoint.empty() ? usage_error("MOUNTPOINT is missing") : Status();
  }
  if (operands.size() == 1 && source.empty()) return usage_error("MOUNTPOINT is missing");
  if (operands.size() == 2) source = operands.front();
  mountpoint = operands.back();
  return {};
}

// An operand, or what might stand in a "-o" list.
Status apply_setting(const ListedOption& setting, CommandLine& out) {
  std::string* const operand = setting.name == "source"       ? &out.mirror.source
                               : setting.name == "mountpoint" ? &out.mirror.mountpoint
                                                              : nullptr;
  if (operand == nullptr) return apply_element(setting, out);
  *operand = setting.value.value_or("");
  return operand->empty() ? usage_error("'" + setting.name + "' needs a path") : Status();
}

Status apply_config_file(const std::string& path, CommandLine& out) {
  const auto settings = read_config_file(path);
  if (!settings.ok()) return option_error("config", settings.error().message());
  for (const ConfigSetting& setting : *settings) {
    if (Status applied = apply_setting(setting.option, out); !applied.ok()) {
      return usage_error(path + ":" + std::to_string(setting.line) + ": " + applied.error().message());
    }
  }
  return {};
}

// Applies the options; what is none is added to `operands`.
Status apply_all(const std::vector<std::string>& arguments, CommandLine& result, std::vector<std::string>& operands) {
  const auto parsed = parse_with_boost(arguments, result.program);
  if (!parsed.ok()) return parsed.error();
  // The file first, so that the command line beats it, wherever --config stands.
  for (const po::option& given : parsed->options) {
    if (given.string_key == "config" && !given.unregistered && !given.value.empty()) {
      result.config_file = given.value.front();
    }
  }
  if (!result.config_file.empty()) {
    if (Status applied = apply_config_file(result.config_file, result); !applied.ok()) return applied;
  }
  for (const po::option& given : parsed->options) {
    if (given.position_key >= 0) {
      operands.insert(operands.end(), given.value.begin(), given.value.end());
      continue;
    }
    const OptionSpec* const option = given.unregistered ? nullptr : option_of(given.string_key, result.program);
    if (option == nullptr) return unknown_on_command_line(given.string_key, result.program);
    const std::string value = given.value.empty() ? std::string{} : given.value.front();
    if (Status applied = apply(*option, value, result); !applied.ok()) return applied.error();
  }
  return {};
}

// What the options and the user together come to.
Status conclude(uid_t user, CommandLine& out) {
  const unsigned long flags = out.mirror.mount_flags;
  if (user != 0 && (flags & MS_NOSUID) == 0) return option_error("suid", "only root may ask for it");
  if (user != 0 && (flags & MS_NODEV) == 0) return option_error("dev", "only root may ask for it");
  out.mirror.read_only = (flags & MS_RDONLY) != 0;
  out.mirror.noatime = (flags & MS_NOATIME) != 0;
  out.mirror.allow_other = out.allow_other.value_or(user == 0);
  // A backup reads what it is shown soon after, and what it opens is shown as it is then whatever has been kept.
  const double kept = out.program == Program::kRun && out.mirror.read_only ? kBackupSeconds : kSeconds;
  out.mirror.attr_timeout = out.attr_timeout.value_or(std::chrono::duration<double>(kept));
  out.mirror.entry_timeout = out.entry_timeout.value_or(std::chrono::duration<double>(kept));
  if (out.log.target != LogTarget::kFile) {
    out.log.target = out.foreground ? LogTarget::kStderr : LogTarget::kSyslog;
  }
  return {};
}

}  // namespace

Status apply_option_list(std::string_view list, CommandLine& out) {
  for (const ListedOption& element : split_option_list(list)) {
    if (Status applied = apply_element(element, out); !applied.ok()) return applied;
  }
  return {};
}

Result<CommandLine> parse_command_line(const std::vector<std::string>& arguments, uid_t user) {
  CommandLine result;
  result.mirror.mount_flags = MS_NOSUID | MS_NODEV;  // as for every FUSE mount, unless asked otherwise
  std::vector<std::string> operands;
  if (Status applied = apply_all(arguments, result, operands); !applied.ok()) return applied.error();
  if (result.request != CommandLine::Request::kMount) return result;
  if (Status set = set_operands(operands, result); !set.ok()) return set.error();
  if (Status concluded = conclude(user, result); !concluded.ok()) return concluded.error();
  return result;
}

Result<CommandLine> parse_run_command_line(const std::vector<std::string>& arguments, uid_t user) {
  CommandLine result;
  result.program = Program::kRun;
  result.mirror.mount_flags = MS_NOSUID | MS_NODEV | MS_RDONLY;
  const auto end = std::ranges::find(arguments, "--");
  const bool complete = end != arguments.end();
  if (Status applied = apply_all({arguments.begin(), end}, result, result.sources); !applied.ok()) {
    // It may well be one of COMMAND's.
    return complete ? applied.error() : usage_error(applied.error().message() + "; '--' before COMMAND is missing");
  }
  if (result.request != CommandLine::Request::kMount) return result;
  if (!complete) return usage_error("'--' and COMMAND are missing");
  result.command.assign(end + 1, arguments.end());
  if (result.sources.empty()) return usage_error("SOURCE is missing");
  if (result.command.empty()) return usage_error("COMMAND is missing behind '--'");
  if (Status concluded = conclude(user, result); !concluded.ok()) return concluded.error();
  return result;
}

std::string_view name_of(Program program) { return program == Program::kRun ? "flockfs-run" : "flockfs"; }

std::string version_text(Program program) { return std::string(name_of(program)) + " " FLOCKFS_VERSION "\n"; }

}  // namespace flockfs
