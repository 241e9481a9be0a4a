#include "cli/option_list.h"

#include <cstddef>
#include <utility>

namespace flockfs {
namespace {

void append_escaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    if (c == ',' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
}

}  // namespace

std::vector<ListedOption> split_option_list(std::string_view list, Quotes quotes) {
  std::vector<ListedOption> options;
  ListedOption current;
  bool quoted = false;
  const auto finish = [&] {
    if (!current.name.empty() || current.value) options.push_back(std::exchange(current, {}));
  };
  for (std::size_t i = 0; i < list.size(); ++i) {
    char c = list[i];
    const bool escaped = c == '\\' && i + 1 < list.size() && (list[i + 1] == ',' || list[i + 1] == '\\');
    if (escaped) {
      c = list[++i];
    } else if (c == '"' && quotes == Quotes::kGroup) {
      quoted = !quoted;
      continue;
    } else if (c == ',' && !quoted) {
      finish();
      continue;
    } else if (c == '=' && !current.value) {
      current.value.emplace();
      continue;
    }
    (current.value ? *current.value : current.name).push_back(c);
  }
  finish();
  return options;
}

std::string join_option_list(const std::vector<ListedOption>& options) {
  std::string list;
  for (const ListedOption& option : options) {
    if (!list.empty()) list.push_back(',');
    append_escaped(list, option.name);
    if (!option.value) continue;
    list.push_back('=');
    append_escaped(list, *option.value);
  }
  return list;
}

}  // namespace flockfs
