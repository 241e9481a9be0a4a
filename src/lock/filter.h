#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace flockfs {

enum class PassReason : std::uint8_t {
  kNone,     // selected
  kPrefix,   // below none of the prefixes
  kExclude,  // below an excluded path
};

[[nodiscard]] constexpr std::string_view to_string(PassReason reason) {
  switch (reason) {
    case PassReason::kPrefix:
      return "prefix";
    case PassReason::kExclude:
      return "exclude";
    case PassReason::kNone:
      break;
  }
  return "none";
}

struct FilterDecision {
  bool selected = true;
  PassReason reason = PassReason::kNone;
};

// Which files of the source are locked when they are opened. Constant after construction, so thread-safe.
//
// A rule matches its path and everything below it, by whole components: /a/b matches /a/b and /a/b/c, not /a/bc. The
// longest matching rule decides; of a prefix and an exclude that are the same path, the exclude. Without any prefix
// everything is selected that is not excluded.
class Filter {
 public:
  // Paths are canonical (absolute, symlinks resolved); a relative one is below `source`; trailing slashes do not count.
  Filter(std::string_view source, const std::vector<std::string>& prefixes, const std::vector<std::string>& excludes);

  // True if decide() would select every path at and below the source: then no path need be built to ask it.
  [[nodiscard]] bool selects_everything() const { return selects_everything_; }

  // REQUIRES: the path is canonical.
  [[nodiscard]] FilterDecision decide(std::string_view canonical_path) const;

 private:
  struct Rule {
    std::string path;  // without trailing slash: the root is ""
    PassReason reason;
  };

  std::vector<Rule> rules_;  // longest first, an exclude before a prefix of the same path
  PassReason otherwise_;     // when no rule matches
  bool selects_everything_;
};

}  // namespace flockfs
