#include "helper_arguments.h"

#include <getopt.h>

#include <array>
#include <iterator>
#include <utility>

#include "cli/option_table.h"

namespace flockfs {
namespace {

constexpr std::array kLongOptions{option{"help", no_argument, nullptr, 'h'},
                                  option{"version", no_argument, nullptr, 'V'}, option{nullptr, 0, nullptr, 0}};

Error usage_error(std::string message) { return Error{0, std::move(message)}; }

// What -f, -o and so on say, before it is put together.
struct Parsed {
  HelperArguments arguments;
  bool sloppy = false;  // -s: options that nobody knows are no error
};

Status check_type(const std::string& type) {
  if (type == "flockfs" || type == "fuse.flockfs") return {};
  return usage_error("file system type '" + type + "' is neither flockfs nor fuse.flockfs");
}

// An invalid option, which getopt() has left behind optind, as it was typed.
Error invalid_option(int result, char* const* argv) {
  if (result == ':') return usage_error(std::string("option '-") + static_cast<char>(optopt) + "' needs a value");
  if (optopt != 0) return usage_error(std::string("unknown option '-") + static_cast<char>(optopt) + "'");
  return usage_error("unknown option '" + std::string(argv[optind - 1]) + "'");
}

Status apply(int letter, const char* value, Parsed& out) {
  HelperArguments& arguments = out.arguments;
  switch (letter) {
    case 'f':
      arguments.fake = true;
      break;
    case 'n':  // no mtab: there has been none to write for years
      break;
    case 's':
      out.sloppy = true;
      break;
    case 'v':
      arguments.verbose = true;
      break;
    case 'r':
    case 'w':
      arguments.options.push_back({letter == 'r' ? "ro" : "rw", std::nullopt});
      break;
    case 'o': {
      auto listed = split_option_list(value, Quotes::kGroup);
      std::move(listed.begin(), listed.end(), std::back_inserter(arguments.options));
      break;
    }
    case 'N':
      arguments.mount_namespace = value;
      break;
    case 't':
      return check_type(value);
    case 'h':
      arguments.request = HelperArguments::Request::kHelp;
      break;
    default:
      arguments.request = HelperArguments::Request::kVersion;
      break;
  }
  return {};
}

Status set_operands(char* const* operands, int count, HelperArguments& out) {
  if (count < 2) return usage_error(count == 0 ? "SOURCE and MOUNTPOINT are missing" : "MOUNTPOINT is missing");
  if (count > 2) return usage_error("one operand too many: '" + std::string(operands[2]) + "'");
  out.source = operands[0];
  out.mountpoint = operands[1];
  return {};
}

}  // namespace

std::vector<std::string> HelperArguments::flockfs_arguments() const {
  std::vector<std::string> result{"flockfs"};
  if (!options.empty()) result.insert(result.end(), {"-o", join_option_list(options)});
  result.insert(result.end(), {"--", source, mountpoint});
  return result;
}

Result<HelperArguments> parse_helper_arguments(const std::vector<std::string>& arguments) {
  std::vector<std::string> words{"mount.flockfs"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const auto argc = static_cast<int>(words.size());

  Parsed parsed;
  opterr = 0;
  optind = 0;  // glibc: start anew
  for (;;) {
    const int letter = ::getopt_long(argc, argv.data(), ":fnrsvwhVN:o:t:", kLongOptions.data(), nullptr);
    if (letter == -1) break;
    if (letter == '?' || letter == ':') return invalid_option(letter, argv.data());
    if (Status applied = apply(letter, optarg, parsed); !applied.ok()) return applied.error();
  }
  HelperArguments& result = parsed.arguments;
  if (result.request != HelperArguments::Request::kMount) return result;
  if (Status set = set_operands(argv.data() + optind, argc - optind, result); !set.ok()) return set.error();
  if (parsed.sloppy) {
    std::erase_if(result.options, [](const ListedOption& option) { return !is_listed_option_known(option.name); });
  }
  return result;
}

}  // namespace flockfs
