#pragma once

namespace flockfs::test {

// Makes a system call fail with `error` in the calling process and all it starts, for good; for
// ProgramSetup::before_exec. Needs root.
void make_call_fail(int call_number, int error);

// The same for openat(2) with O_TMPFILE: EOPNOTSUPP, as on file systems that cannot.
void make_tmpfile_fail();

}  // namespace flockfs::test
