// The JSON that scripts read: its keys are an interface.

#include "status/report.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace flockfs::test {
namespace {

using Json = nlohmann::ordered_json;
using std::chrono::milliseconds;

MirrorState example() {
  MirrorState state;
  state.source = "/srv/data";
  state.mountpoint = "/mnt/data";
  state.passthrough = true;
  state.up = std::chrono::seconds(90);
  state.hold_warn = std::chrono::seconds(60);
  state.counters = {{"opens", 3}, {"locked", 2}};
  state.waited = milliseconds(1500);
  state.requests = {{"lookup", 7}, {"open", 3}};
  state.all_held = 1;
  state.held = {{"/srv/data/f", false, LockMode::kShared, "flock", 812, milliseconds(1336), false}};
  state.all_waiting = 1;
  state.waiting = {{"/srv/data/f",
                    LockMode::kExclusive,
                    900,
                    milliseconds(20),
                    false,
                    {{812, LockMode::kShared, true}, {-1, LockMode::kShared, false}}}};
  return state;
}

Json report_of(const MirrorState& state, const std::string& command = "tar") {
  const std::string text = status_report(state, 77, [&](pid_t) { return command; });
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 1);
  EXPECT_TRUE(std::ranges::all_of(text, [](char byte) { return byte == '\n' || (byte >= ' ' && byte < '\x7F'); }));
  return Json::parse(text);
}

std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

using Keys = std::vector<std::string>;

TEST(ReportTest, KeysAreAnInterface) {
  const Json report = report_of(example());
  EXPECT_EQ(keys_of(report),
            (Keys{"version", "source", "mountpoint", "pid", "uptime_s", "passthrough", "hold_warn_s", "counters",
                  "wait_seconds_total", "requests", "held_total", "held", "waiting_total", "waiting"}));
  EXPECT_EQ(keys_of(report["held"][0]), (Keys{"path", "mode", "lock", "pid", "comm", "since_s"}));
  EXPECT_EQ(keys_of(report["waiting"][0]), (Keys{"path", "mode", "pid", "comm", "waited_s", "blocked_by"}));
  EXPECT_EQ(keys_of(report["waiting"][0]["blocked_by"][0]), (Keys{"pid", "comm", "mode", "through_mirror"}));
}

TEST(ReportTest, ValuesAreTheMirrors) {
  const Json report = report_of(example());
  EXPECT_EQ(report["source"], "/srv/data");
  EXPECT_EQ(report["mountpoint"], "/mnt/data");
  EXPECT_EQ(report["pid"], 77);
  EXPECT_EQ(report["uptime_s"], 90.0);
  EXPECT_EQ(report["passthrough"], true);
  EXPECT_EQ(report["counters"]["opens"], 3);
  EXPECT_EQ(report["wait_seconds_total"], 1.5);
  EXPECT_EQ(report["requests"]["lookup"], 7);
  EXPECT_EQ(report["held"][0]["since_s"], 1.336);
  EXPECT_EQ(report["held"][0]["mode"], "shared");
  EXPECT_EQ(report["held"][0]["comm"], "tar");
  EXPECT_EQ(report["waiting"][0]["mode"], "exclusive");
  EXPECT_EQ(report["waiting"][0]["blocked_by"][0]["through_mirror"], true);
}

TEST(ReportTest, WhoCannotBeSeenIsNull) {
  const Json outside = report_of(example())["waiting"][0]["blocked_by"][1];
  EXPECT_TRUE(outside["pid"].is_null());
  EXPECT_TRUE(outside["comm"].is_null());
  EXPECT_EQ(outside["through_mirror"], false);
  EXPECT_TRUE(report_of(example(), "")["held"][0]["comm"].is_null()) << "a process that is gone";
}

TEST(ReportTest, MarksAreThereOnlyWhenTheyAreTrue) {
  MirrorState state = example();
  state.held[0].deleted = state.held[0].long_held = state.waiting[0].possible_deadlock = true;
  const Json report = report_of(state);
  EXPECT_EQ(report["held"][0]["deleted"], true);
  EXPECT_EQ(report["held"][0]["long"], true);
  EXPECT_EQ(report["waiting"][0]["possible_deadlock"], true);
}

TEST(ReportTest, NamesThatAreNoUtf8AreEscapedAndSaidToBe) {
  MirrorState state = example();
  state.held[0].path = "/srv/data/caf\xE9\\";
  state.waiting[0].path = "/srv/data/\u65e5\033[31m";
  const Json report = report_of(state, "\xFFx");
  EXPECT_EQ(report["held"][0]["path"], "/srv/data/caf\\xE9\\\\");
  EXPECT_EQ(report["held"][0]["path_escaped"], true);
  EXPECT_EQ(report["waiting"][0]["path"], "/srv/data/\u65e5\033[31m");
  EXPECT_FALSE(report["waiting"][0].contains("path_escaped"));
  EXPECT_EQ(report["held"][0]["comm"], "\\xFFx");
}

TEST(ReportTest, EachProcessIsAskedOnce) {
  MirrorState state = example();
  int asked = 0;
  (void)status_report(state, 77, [&](pid_t) {
    ++asked;
    return std::string("tar");
  });
  EXPECT_EQ(asked, 2) << "812 and 900";
}

}  // namespace
}  // namespace flockfs::test
