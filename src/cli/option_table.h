#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "cli/command_line.h"

namespace flockfs {

// How --help groups the options, in its order.
enum class OptionGroup { kRun, kLocking, kMirror, kDaemon, kOther };

// Where an option can be given: as --long-option and as -o long_option, or on the command line only.
enum class Spelling { kEverywhere, kCommandLineOnly };

enum class Repeat { kLastWins, kAdds };

// Who takes an option.
enum class Takers { kBoth, kFlockfsOnly, kRunOnly };

// One option, and all there is to know about it: parsing, --help, and the checks of the man page and the completions
// come from this table. A new option is one new entry.
struct OptionSpec {
  std::string_view name;      // "long_option", with '_'; empty if the option has a letter only
  char letter = '\0';         // the "-x" form; 0: none
  std::string_view argument;  // what --help calls the value; empty: the option takes none
  std::string_view fallback;  // the default as --help shows it; empty: nothing worth saying
  std::string_view help;      // one line or more, no full stop
  OptionGroup group = OptionGroup::kOther;
  Spelling spelling = Spelling::kEverywhere;
  Repeat repeat = Repeat::kLastWins;
  // Puts the value (empty if the option takes none) where it belongs. An Error's context is what is wrong with it.
  Status (*apply)(std::string_view value, CommandLine& out) = nullptr;
  Takers takers = Takers::kBoth;
  std::string_view run_fallback = {};  // the default of flockfs-run, where it is another

  [[nodiscard]] bool is_for(Program program) const {
    return takers == Takers::kBoth || (takers == Takers::kRunOnly) == (program == Program::kRun);
  }

  [[nodiscard]] bool takes_value() const { return !argument.empty(); }
  // What messages call it: "long_option", or "-x".
  [[nodiscard]] std::string display_name() const;
};

// All options of flockfs(8) and flockfs-run(1), in the order of --help.
std::span<const OptionSpec> option_table();

// The option of this program whose long name, spelt with either of '-' and '_', is `name`; or null.
const OptionSpec* find_option(std::string_view name, Program program = Program::kFlockfs);
const OptionSpec* find_option(char letter, Program program = Program::kFlockfs);

// Whether "-o name" can mean anything to flockfs: an option of the table that may stand there, or a word of mount(8).
bool is_listed_option_known(std::string_view name);

}  // namespace flockfs
