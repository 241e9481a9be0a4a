#include "mirror/request_counts.h"

namespace flockfs {
namespace {

// enum fuse_opcode of the kernel's include/uapi/linux/fuse.h, protocol 7.39; an opcode without a name has no request.
constexpr std::array<std::string_view, 53> kNames{"other",        "lookup",        "forget",       "getattr",
                                                  "setattr",      "readlink",      "symlink",      "",
                                                  "mknod",        "mkdir",         "unlink",       "rmdir",
                                                  "rename",       "link",          "open",         "read",
                                                  "write",        "statfs",        "release",      "",
                                                  "fsync",        "setxattr",      "getxattr",     "listxattr",
                                                  "removexattr",  "flush",         "init",         "opendir",
                                                  "readdir",      "releasedir",    "fsyncdir",     "getlk",
                                                  "setlk",        "setlkw",        "access",       "create",
                                                  "interrupt",    "bmap",          "destroy",      "ioctl",
                                                  "poll",         "notify_reply",  "batch_forget", "fallocate",
                                                  "readdirplus",  "rename2",       "lseek",        "copy_file_range",
                                                  "setupmapping", "removemapping", "syncfs",       "tmpfile",
                                                  "statx"};

}  // namespace

std::string_view RequestCounts::name_of(std::size_t opcode) {
  static_assert(kNames.size() == kKinds);
  return kNames[opcode].empty() ? kNames[0] : kNames[opcode];
}

void RequestCounts::add_to(LogLine& line) const {
  for_each(
      [&line](std::string_view name, std::uint64_t number) { line.number(name, static_cast<std::int64_t>(number)); });
}

}  // namespace flockfs
