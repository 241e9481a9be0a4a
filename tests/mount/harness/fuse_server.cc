#include "harness/fuse_server.h"

#define FUSE_USE_VERSION 317
#include <fuse.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <stdexcept>
#include <utility>
#include <vector>

#include "harness/deadline.h"

namespace flockfs::test {

void serve_fuse(const fuse_operations& operations, std::string directory, Threads threads) {
  std::vector<std::string> words{"test-fs", "-f", std::move(directory)};
  if (threads == Threads::kOne) words.emplace_back("-s");
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  EXPECT_EQ(fuse_main(static_cast<int>(arguments.size()), arguments.data(), &operations, nullptr), 0);
}

void await_fuse(const std::string& directory, const std::string& what) {
  struct stat st {};
  const auto serves = [&] { return ::stat((directory + "/f").c_str(), &st) == 0; };
  if (!eventually(serves)) throw std::runtime_error(what + " does not come up");
}

}  // namespace flockfs::test
