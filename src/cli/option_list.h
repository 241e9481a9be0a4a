#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace flockfs {

// One element of a "-o" list.
struct ListedOption {
  std::string name;
  std::optional<std::string> value;  // none without a "="; "name=" has an empty one

  bool operator==(const ListedOption&) const = default;
};

// What a double quote in a list means. mount(8) puts values with commas in quotes; to flockfs itself it is a character.
enum class Quotes { kLiteral, kGroup };

// The elements of "name,name=value,...". "\," is a comma and "\\" a backslash; a backslash before anything else stands
// for itself. Empty elements are left out.
std::vector<ListedOption> split_option_list(std::string_view list, Quotes quotes = Quotes::kLiteral);

// The list, with literal quotes, that split_option_list() would split into these.
std::string join_option_list(const std::vector<ListedOption>& options);

}  // namespace flockfs
