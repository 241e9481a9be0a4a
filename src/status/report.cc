#include "status/report.h"

#include <chrono>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string_view>
#include <unordered_map>

#include "base/printable.h"

namespace flockfs {
namespace {

using Json = nlohmann::ordered_json;

// Milliseconds are what one can make use of.
double seconds(Duration duration) {
  return std::round(std::chrono::duration<double, std::milli>(duration).count()) / 1000.0;
}

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = decode_utf8(text).length;
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::string as_utf8(const std::string& bytes) { return is_utf8(bytes) ? bytes : escaped(bytes); }

Json numbers(const std::vector<std::pair<std::string_view, std::uint64_t>>& from) {
  Json to = Json::object();
  for (const auto& [name, number] : from) to[std::string(name)] = number;
  return to;
}

class Report {
 public:
  explicit Report(const std::function<std::string(pid_t)>& command_of) : command_of_(command_of) {}

  Json of(const MirrorState& state, pid_t daemon) {
    Json json;
    json["version"] = FLOCKFS_VERSION;
    add_path(json, "source", state.source);
    add_path(json, "mountpoint", state.mountpoint);
    json["pid"] = daemon;
    json["uptime_s"] = seconds(state.up);
    json["passthrough"] = state.passthrough;
    json["hold_warn_s"] = seconds(state.hold_warn);
    json["counters"] = numbers(state.counters);
    json["wait_seconds_total"] = seconds(state.waited);
    json["requests"] = numbers(state.requests);
    json["held_total"] = state.all_held;
    json["held"] = Json::array();
    for (const HeldState& held : state.held) json["held"].push_back(of(held));
    json["waiting_total"] = state.all_waiting;
    json["waiting"] = Json::array();
    for (const WaitingState& waiting : state.waiting) json["waiting"].push_back(of(waiting));
    return json;
  }

 private:
  // A path that is not UTF-8 is written as the log writes it; a key beside it says so, since a name may look like that.
  static void add_path(Json& to, const std::string& key, const std::string& path) {
    to[key] = as_utf8(path);
    if (!is_utf8(path)) to[key + "_escaped"] = true;
  }

  void add_process(Json& to, pid_t process) {
    to["pid"] = nullptr;
    to["comm"] = nullptr;
    if (process <= 0) return;
    to["pid"] = process;
    const auto [at, asked] = commands_.try_emplace(process);
    if (asked) at->second = as_utf8(command_of_(process));
    if (!at->second.empty()) to["comm"] = at->second;
  }

  Json of(const HeldState& held) {
    Json json;
    add_path(json, "path", held.path);
    if (held.deleted) json["deleted"] = true;
    json["mode"] = to_string(held.mode);
    json["lock"] = held.lock;
    add_process(json, held.process);
    json["since_s"] = seconds(held.held);
    if (held.long_held) json["long"] = true;
    return json;
  }

  Json of(const WaitingState& waiting) {
    Json json;
    add_path(json, "path", waiting.path);
    json["mode"] = to_string(waiting.mode);
    add_process(json, waiting.process);
    json["waited_s"] = seconds(waiting.waited);
    if (waiting.possible_deadlock) json["possible_deadlock"] = true;
    json["blocked_by"] = Json::array();
    for (const Blocker& blocker : waiting.blocked_by) {
      Json one;
      add_process(one, blocker.pid);
      one["mode"] = to_string(blocker.mode);
      one["through_mirror"] = blocker.through_mirror;
      json["blocked_by"].push_back(std::move(one));
    }
    return json;
  }

  const std::function<std::string(pid_t)>& command_of_;
  std::unordered_map<pid_t, std::string> commands_;
};

}  // namespace

std::string status_report(const MirrorState& state, pid_t daemon, const std::function<std::string(pid_t)>& command_of) {
  // ASCII: no control character of a name reaches whoever prints it on a terminal.
  return Report(command_of).of(state, daemon).dump(-1, ' ', true) + "\n";
}

}  // namespace flockfs
