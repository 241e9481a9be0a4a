#pragma once

#include <sys/types.h>

#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "tree/credentials.h"

namespace flockfs {

// Making objects in the source as the client who asked (DESIGN 4.8): they get the caller's ids, the caller's umask or
// the directory's default ACL, and a setgid directory's group, as if the caller had made them. `directory` is an O_PATH
// descriptor. All are thread-safe; each calling thread must have called own_umask().

// What to do with a new file before anybody can see it (take its lock); an error undoes the making.
using BeforeVisible = std::function<Status(int fd)>;

// What link(2) makes of a file on a file system without renameat2(2)'s RENAME_NOREPLACE: one more name of the same
// inode, or, as many FUSE daemons tell the kernel, another inode, with locks of its own.
enum class Links { kSameInode, kOtherInode };

// A new regular file, open with `flags`, that appears under its name only after `before` has succeeded. EEXIST if the
// name is taken. Never waits for anybody. Where the source has neither O_TMPFILE nor RENAME_NOREPLACE and links are
// other inodes, there is no way to do so: there the file has its name for some microseconds before it has its lock.
Result<UniqueFd> make_file(int directory, const char* name, int flags, mode_t mode, const Caller& caller,
                           const BeforeVisible& before, Links links = Links::kSameInode);

// A new regular file at once, for those that need no lock.
Result<UniqueFd> make_file_plainly(int directory, const char* name, int flags, mode_t mode, const Caller& caller);

// A file without a name (O_TMPFILE), writable whatever `flags` say.
Result<UniqueFd> make_unnamed(int directory, int flags, mode_t mode, const Caller& caller);

// Gives such a file its name. EEXIST if that is taken.
Status name_file(int fd, int directory, const char* name, const Caller& caller);

// An existing regular file, opened with the caller's own rights, supplementary groups included if `caller` has them:
// for a name that turned up although the kernel, which else checks the rights, took it for free. EEXIST if it is
// something else, EWOULDBLOCK if the open would have to wait.
Result<UniqueFd> open_as_caller(int directory, const char* name, int flags, const Caller& caller);

Status make_directory(int directory, const char* name, mode_t mode, const Caller& caller);
Status make_node(int directory, const char* name, mode_t mode, dev_t device, const Caller& caller);
Status make_symlink(int directory, const char* name, const char* target, const Caller& caller);

}  // namespace flockfs
