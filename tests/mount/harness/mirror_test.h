#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "harness/child.h"
#include "harness/files.h"
#include "harness/mounted_mirror.h"
#include "harness/opener.h"
#include "harness/source_lock.h"

namespace flockfs::test {

// A test with a directory of its own that holds source/ and mnt/, and with at most one mirror of the one at the other.
class MirrorTest : public ::testing::Test {
 protected:
  MirrorTest();
  ~MirrorTest() override;

  // Below source/ and mnt/; without a name, those themselves.
  [[nodiscard]] std::string source(const std::string& name = {}) const;
  [[nodiscard]] std::string mnt(const std::string& name = {}) const;
  [[nodiscard]] const TempTree& tree() const { return tree_; }
  // A new directory beside source/.
  [[nodiscard]] std::string folder(const std::string& name) const;

  // Starts the mirror; throws, and so fails the test, if it does not come up.
  MountedMirror& mount(MirrorSetup setup = {});
  [[nodiscard]] MountedMirror& mirror() { return *mirror_; }
  [[nodiscard]] const LogReader& log() const { return mirror_->log(); }
  // Unmounts and checks; the end of the test does it anyhow.
  void unmount() { mirror_.reset(); }
  // Unmounts; how many requests of each kind the kernel has sent.
  [[nodiscard]] LogEntry unmount_and_count();

  // Nothing waits any more, and the daemon has no more threads and descriptors than at its start; `name` can be opened.
  void expect_as_small_as(int threads, int descriptors, const std::string& name);

  // Put into what mount() starts; for PassthroughTest.
  virtual void adapt(MirrorSetup& setup) const { (void)setup; }

 private:
  TempTree tree_;
  std::unique_ptr<MountedMirror> mirror_;
};

// Runs once with passthrough=auto and once with passthrough=off:
//   INSTANTIATE_TEST_SUITE_P(Mount, LifetimeTest, BothPassthroughs(), passthrough_name);
class PassthroughTest : public MirrorTest, public ::testing::WithParamInterface<Passthrough> {
 protected:
  void adapt(MirrorSetup& setup) const override { setup.options.push_back(passthrough_option(GetParam())); }

 public:
  [[nodiscard]] static std::string passthrough_option(Passthrough passthrough);
};

[[nodiscard]] inline auto BothPassthroughs() { return ::testing::Values(Passthrough::kAuto, Passthrough::kOff); }
[[nodiscard]] std::string passthrough_name(const ::testing::TestParamInfo<Passthrough>& info);

}  // namespace flockfs::test
