#include "harness/mirror_test.h"

#include <fcntl.h>

#include "harness/connection.h"

namespace flockfs::test {

MirrorTest::MirrorTest() {
  make_dir(tree_ / "source");
  make_dir(tree_ / "mnt");
  make_dir(tree_ / "scratch");
}

// Not in TearDown(): a test that overrides that must not leave the mirror behind.
MirrorTest::~MirrorTest() { mirror_.reset(); }

std::string MirrorTest::source(const std::string& name) const {
  return name.empty() ? tree_ / "source" : tree_ / ("source/" + name);
}

std::string MirrorTest::mnt(const std::string& name) const {
  return name.empty() ? tree_ / "mnt" : tree_ / ("mnt/" + name);
}

std::string MirrorTest::folder(const std::string& name) const {
  const std::string path = tree_ / name;
  make_dir(path);
  return path;
}

MountedMirror& MirrorTest::mount(MirrorSetup setup) {
  adapt(setup);
  mirror_ = std::make_unique<MountedMirror>(source(), mnt(), tree_ / "scratch", setup);
  return *mirror_;
}

LogEntry MirrorTest::unmount_and_count() {
  const LogReader lines = log();
  unmount();
  const auto entries = lines.matching({.event = "requests"});
  EXPECT_EQ(entries.size(), 1u) << lines.text();
  return entries.empty() ? LogEntry{} : entries.front();
}

void MirrorTest::expect_as_small_as(int threads, int descriptors, const std::string& name) {
  EXPECT_TRUE(eventually([&] { return requests_waiting(mirror().connection()) == 0; }));
  // Threads that waited go after some idle seconds.
  EXPECT_TRUE(eventually([&] { return mirror().threads() <= threads; }, kPatience * 4)) << mirror().threads();
  // What it keeps for clients that looked twice and did not come back goes, after some seconds, with an open.
  const auto open_one = [&] { return in_child([&] { (void)open_error(mnt(name), O_RDONLY); }); };
  EXPECT_TRUE(eventually([&] { return open_one() && mirror().descriptors() <= descriptors; }, kPatience * 2))
      << mirror().descriptors() << " instead of " << descriptors;
}

std::string PassthroughTest::passthrough_option(Passthrough passthrough) {
  return passthrough == Passthrough::kAuto ? "passthrough=auto" : "passthrough=off";
}

std::string passthrough_name(const ::testing::TestParamInfo<Passthrough>& info) {
  return info.param == Passthrough::kAuto ? "Passthrough" : "NoPassthrough";
}

}  // namespace flockfs::test
