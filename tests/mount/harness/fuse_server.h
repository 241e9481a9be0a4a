#pragma once

#include <string>

struct fuse_operations;

namespace flockfs::test {

// A file system of a test's own, by libfuse's high-level interface. Serves it on an existing directory until it is
// unmounted; for the child of whoever owns it.
enum class Threads { kOne, kMany };
void serve_fuse(const fuse_operations& operations, std::string directory, Threads threads = Threads::kMany);

// Returns when its file "f" is there; throws, naming `what`, if it does not come up in time.
void await_fuse(const std::string& directory, const std::string& what);

}  // namespace flockfs::test
