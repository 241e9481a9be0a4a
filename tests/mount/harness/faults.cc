#include "harness/faults.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <system_error>

namespace flockfs::test {

namespace {

template <std::size_t kSize>
void install(std::array<sock_filter, kSize> steps) {
  const sock_fprog program{static_cast<unsigned short>(kSize), steps.data()};
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    throw std::system_error(errno, std::generic_category(), "seccomp");
  }
}

sock_filter load(std::size_t offset) { return {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<unsigned>(offset)}; }
sock_filter answer(unsigned action) { return {BPF_RET | BPF_K, 0, 0, action}; }
sock_filter skip_unless_equal(int value, unsigned char steps) {
  return {BPF_JMP | BPF_JEQ | BPF_K, 0, steps, static_cast<unsigned>(value)};
}
sock_filter skip_unless_set(int bits, unsigned char steps) {
  return {BPF_JMP | BPF_JSET | BPF_K, 0, steps, static_cast<unsigned>(bits)};
}

}  // namespace

void make_call_fail(int call_number, int error) {
  install(std::array{load(offsetof(seccomp_data, nr)), skip_unless_equal(call_number, 1),
                     answer(SECCOMP_RET_ERRNO | static_cast<unsigned>(error)), answer(SECCOMP_RET_ALLOW)});
}

void cover_dev(FuseDevice fuse) {
  const auto require = [](int result, const char* what) {
    if (result != 0) throw std::system_error(errno, std::generic_category(), what);
  };
  require(::unshare(CLONE_NEWNS), "unshare");
  require(::mount("tmpfs", "/dev", "tmpfs", 0, "mode=0755"), "mount on /dev");
  const mode_t mask = ::umask(0);
  require(::mknod("/dev/null", S_IFCHR | 0666, makedev(1, 3)), "mknod");
  require(::mknod("/dev/urandom", S_IFCHR | 0666, makedev(1, 9)), "mknod");
  if (fuse == FuseDevice::kForAll) require(::mknod("/dev/fuse", S_IFCHR | 0666, makedev(10, 229)), "mknod");
  ::umask(mask);
}

void make_tmpfile_fail() {
  constexpr std::size_t kFlags = offsetof(seccomp_data, args) + 2 * sizeof(__u64);  // the low half: little endian
  install(std::array{load(offsetof(seccomp_data, nr)), skip_unless_equal(SYS_openat, 3), load(kFlags),
                     skip_unless_set(O_TMPFILE & ~O_DIRECTORY, 1), answer(SECCOMP_RET_ERRNO | EOPNOTSUPP),
                     answer(SECCOMP_RET_ALLOW)});
}

}  // namespace flockfs::test
