#include "cli/run_plan.h"

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/option_error.h"
#include "cli/paths.h"

namespace flockfs {
namespace {

namespace fs = std::filesystem;

using Paths = std::vector<std::string> MirrorConfig::*;

MirrorConfig* mirror_of(RunPlan& plan, const std::string& path) {
  const auto found = std::ranges::find_if(
      plan.mirrors, [&](const MirrorConfig& mirror) { return is_at_or_below(path, mirror.source); });
  return found == plan.mirrors.end() ? nullptr : &*found;
}

// Gives each SOURCE that is in no other one a mirror.
void add_mirrors(const MirrorConfig& wanted, RunPlan& plan) {
  for (const std::string& source : plan.sources) {
    const bool within = std::ranges::any_of(
        plan.sources, [&](const std::string& other) { return other != source && is_at_or_below(source, other); });
    if (within || mirror_of(plan, source) != nullptr) continue;
    MirrorConfig mirror = wanted;
    mirror.prefixes.clear();
    mirror.excludes.clear();
    mirror.source = mirror.mountpoint = source;
    mirror.covers_source = true;
    mirror.stop_timeout = std::chrono::milliseconds(0);
    plan.mirrors.push_back(std::move(mirror));
  }
}

Status add_path(std::string_view option, const fs::path& path, const std::string& limit, RunPlan& plan, Paths where) {
  auto resolved = make_canonical(path);
  if (!resolved.ok()) return option_error(option, resolved.error().message());
  MirrorConfig* const mirror = mirror_of(plan, *resolved);
  if (mirror == nullptr || !is_at_or_below(*resolved, limit)) {
    return option_error(option, "'" + path.string() + "' is outside every SOURCE");
  }
  (mirror->*where).push_back(*std::move(resolved));
  return {};
}

Status add_paths(std::string_view option, const std::vector<std::string>& paths, RunPlan& plan, Paths where) {
  for (const fs::path path : paths) {
    if (path.is_absolute()) {
      if (Status added = add_path(option, path, "/", plan, where); !added.ok()) return added;
      continue;
    }
    for (const std::string& source : plan.sources) {
      if (Status added = add_path(option, fs::path(source) / path, source, plan, where); !added.ok()) return added;
    }
  }
  return {};
}

Status resolve_log_file(LogConfig& log) {
  if (log.target != LogTarget::kFile) return {};
  std::error_code code;
  const fs::path absolute = fs::absolute(log.file, code);
  if (code) return option_error("log_file", Error{code.value(), "'" + log.file + "'"}.message());
  log.file = absolute.string();
  return {};
}

}  // namespace

Result<RunPlan> make_run_plan(const CommandLine& command) {
  RunPlan plan;
  plan.command = command.command;
  plan.log = command.log;
  plan.quiet = command.quiet;
  plan.fail_if_unlocked = command.fail_if_unlocked;
  for (std::string source : command.sources) {
    if (Status made = make_canonical_directory("source", source); !made.ok()) return made.error();
    plan.sources.push_back(std::move(source));
  }
  add_mirrors(command.mirror, plan);
  const MirrorConfig& wanted = command.mirror;
  if (Status done = add_paths("prefix", wanted.prefixes, plan, &MirrorConfig::prefixes); !done.ok())
    return done.error();
  if (Status done = add_paths("exclude", wanted.excludes, plan, &MirrorConfig::excludes); !done.ok()) {
    return done.error();
  }
  for (MirrorConfig& mirror : plan.mirrors) {
    // No prefix is in this one; but to a mirror none means all.
    if (!wanted.prefixes.empty() && mirror.prefixes.empty()) mirror.excludes = {mirror.source};
  }
  if (Status resolved = resolve_log_file(plan.log); !resolved.ok()) return resolved.error();
  return plan;
}

}  // namespace flockfs
