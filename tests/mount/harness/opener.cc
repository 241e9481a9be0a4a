#include "harness/opener.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "harness/files.h"

namespace flockfs::test {
namespace {

void serve(Peer& test, const std::function<int()>& open) {
  UniqueFd fd(open());
  test.say(fd ? "open" : errno_name(errno));
  if (!fd) return;
  for (;;) {
    const std::string order = test.hear();
    if (order == "close") break;
    if (order == "read") {
      test.say("=" + read_all(fd.get()));
    } else {
      const ssize_t size = ::write(fd.get(), order.data(), order.size());
      test.say(size == static_cast<ssize_t>(order.size()) ? "written" : errno_name(errno));
    }
  }
  fd.reset();
  test.say("closed");
}

}  // namespace

Opener::Opener(std::string path, int flags, mode_t mode)
    : Opener([=] { return ::open(path.c_str(), flags | O_CLOEXEC, mode); }) {}

Opener::Opener(const std::function<int()>& open) : child_([&](Peer& test) { serve(test, open); }) {}

::testing::AssertionResult Opener::opens(Millis time) { return child_.says("open", time); }

::testing::AssertionResult Opener::fails_with(int code, Millis time) { return child_.says(errno_name(code), time); }

std::string Opener::contents() {
  child_.say("read");
  const auto answer = child_.hear();
  return answer && answer->starts_with('=') ? answer->substr(1) : "(no answer)";
}

bool Opener::write(std::string_view text) {
  child_.say(text);
  return static_cast<bool>(child_.says("written"));
}

void Opener::close() {
  child_.say("close");
  EXPECT_TRUE(child_.says("closed"));
  EXPECT_TRUE(child_.ends_well());
}

}  // namespace flockfs::test
