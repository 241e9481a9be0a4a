#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/program.h"

namespace flockfs::test {

using Json = nlohmann::json;

// Covers /run with a file system of this test's own: its mirrors' sockets are the only ones there.
void cover_run();

// The names of all sockets of mirrors there.
[[nodiscard]] std::vector<std::string> status_sockets();

// flockfs-status with these arguments, run to its end.
[[nodiscard]] ProgramResult run_status(std::vector<std::string> arguments, const ProgramSetup& setup = {});

// What `flockfs-status --json TARGET` shows now; null, and a failure of the test, if it fails.
[[nodiscard]] Json status_of(const std::string& target);

// The same, once it is as `wanted` says; the last one if it is not in time.
[[nodiscard]] Json status_when(const std::string& target, const std::function<bool(const Json&)>& wanted);

// The first entry of the list whose pid this is; null if there is none.
[[nodiscard]] Json entry_of(const Json& list, pid_t pid);

// With a /run of its own, and mirrors that can be asked for their status once they are mounted: in the foreground, as
// tests have them, that is a moment later.
class MirrorWithStatusTest : public MirrorTest {
 protected:
  MirrorWithStatusTest() { cover_run(); }
  MountedMirror& mount(MirrorSetup setup = {});
  [[nodiscard]] Json status() const { return status_of(mnt()); }
};

}  // namespace flockfs::test
