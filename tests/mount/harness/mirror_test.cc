#include "harness/mirror_test.h"

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

std::string PassthroughTest::passthrough_option(Passthrough passthrough) {
  return passthrough == Passthrough::kAuto ? "passthrough=auto" : "passthrough=off";
}

std::string passthrough_name(const ::testing::TestParamInfo<Passthrough>& info) {
  return info.param == Passthrough::kAuto ? "Passthrough" : "NoPassthrough";
}

}  // namespace flockfs::test
