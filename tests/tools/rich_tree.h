#pragma once

#include <string>

namespace flockfs::test {

// Puts one of everything that a file system can hold below the directory, which exists: hard links, holes, nodes of all
// types, awkward and long names, times from long ago and far ahead, extended attributes, capabilities, access lists,
// set-id bits, other people's files, symlinks of all sorts, and a deep path. `all_times`: also such times as ext4
// cannot keep. Throws if it cannot. Needs root, and setfacl(1).
void make_rich_tree(const std::string& dir, bool all_times);

// All that lstat(2), listxattr(2), readlink(2), lseek(2) and read(2) say of each object below the directory, itself
// included, but for the device it is on: one line each, in the order of their names. Paths in it are relative.
[[nodiscard]] std::string describe_tree(const std::string& dir);

}  // namespace flockfs::test
