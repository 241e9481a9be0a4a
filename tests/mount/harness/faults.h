#pragma once

namespace flockfs::test {

// Makes a system call fail with `error` in the calling process and all it starts, for good; for
// ProgramSetup::before_exec. Needs root.
void make_call_fail(int call_number, int error);

// Gives the calling process a mount namespace of its own, in which /dev holds hardly anything: no /dev/fuse, or one
// that anybody may open, as distributions have it. Needs root.
enum class FuseDevice { kMissing, kForAll };
void cover_dev(FuseDevice fuse);

// As make_call_fail() for openat(2) with O_TMPFILE: EOPNOTSUPP, as on file systems that cannot.
void make_tmpfile_fail();

}  // namespace flockfs::test
