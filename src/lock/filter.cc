#include "lock/filter.h"

#include <algorithm>

#include "base/path.h"

namespace flockfs {

namespace {

std::string_view without_trailing_slashes(std::string_view path) {
  while (!path.empty() && path.back() == '/') path.remove_suffix(1);
  return path;
}

std::string absolute(std::string_view source, std::string_view path) {
  std::string result;
  if (!path.starts_with('/')) result.append(without_trailing_slashes(source)).push_back('/');
  result.append(path);
  result.resize(without_trailing_slashes(result).size());
  return result;
}

}  // namespace

Filter::Filter(std::string_view source, const std::vector<std::string>& prefixes,
               const std::vector<std::string>& excludes)
    : otherwise_(prefixes.empty() ? PassReason::kNone : PassReason::kPrefix) {
  for (const std::string& path : excludes) rules_.push_back({absolute(source, path), PassReason::kExclude});
  for (const std::string& path : prefixes) rules_.push_back({absolute(source, path), PassReason::kNone});
  std::stable_sort(rules_.begin(), rules_.end(),
                   [](const Rule& a, const Rule& b) { return a.path.size() > b.path.size(); });
  // An exclude outside the source changes nothing there; one above it does, unless a prefix in between takes it back.
  const std::string_view top = without_trailing_slashes(source);
  selects_everything_ = decide(source).selected && std::none_of(rules_.begin(), rules_.end(), [top](const Rule& rule) {
                          return rule.reason == PassReason::kExclude && is_at_or_below(rule.path, top);
                        });
}

FilterDecision Filter::decide(std::string_view canonical_path) const {
  const std::string_view path = without_trailing_slashes(canonical_path);
  for (const Rule& rule : rules_) {
    if (is_at_or_below(path, rule.path)) return {rule.reason == PassReason::kNone, rule.reason};
  }
  return {otherwise_ == PassReason::kNone, otherwise_};
}

}  // namespace flockfs
