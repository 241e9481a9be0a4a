#include "tree/credentials.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string_view>

#include "base/log.h"
#include "base/unique_fd.h"

namespace flockfs {
namespace {

constexpr uid_t kNobody = 65534;

using CapData = std::array<__user_cap_data_struct, _LINUX_CAPABILITY_U32S_3>;

bool read_capabilities(CapData& data) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capget, &header, data.data()) == 0;
}

bool write_capabilities(const CapData& data) {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  return ::syscall(SYS_capset, &header, data.data()) == 0;
}

constexpr unsigned word_of(unsigned capability) { return capability / 32; }
constexpr std::uint32_t bit_of(unsigned capability) { return 1U << (capability % 32); }

// Only root can become somebody else; a daemon in a user namespace has one client uid anyway.
bool privileged() {
  static const bool answer = ::geteuid() == 0;
  return answer;
}

// setfsuid(2) returns the previous id whatever happens; asking with -1 (never valid) tells what holds now.
bool set_fsuid(uid_t uid) {
  ::syscall(SYS_setfsuid, uid);
  return static_cast<uid_t>(::syscall(SYS_setfsuid, -1)) == uid;
}

bool set_fsgid(gid_t gid) {
  ::syscall(SYS_setfsgid, gid);
  return static_cast<gid_t>(::syscall(SYS_setfsgid, -1)) == gid;
}

[[noreturn]] void cannot_return(const char* what) {
  log_error(what, "", errno_error("cannot return to the daemon's own identity"));
  log_close();
  std::abort();
}

// In a user namespace without the right to setgroups(2) (user_namespaces(7)), all threads keep the groups they have.
bool groups_are_fixed() {
  static const bool answer = [] {
    const UniqueFd fd(::open("/proc/self/setgroups", O_RDONLY | O_CLOEXEC));
    std::array<char, 4> text{};
    return fd && ::read(fd.get(), text.data(), text.size()) == 4 && std::string_view(text.data(), 4) == "deny";
  }();
  return answer;
}

void use_umask(mode_t umask) {
  thread_local mode_t current = 0;
  thread_local bool known = false;
  if (!known || current != umask) ::umask(umask);
  known = true;
  current = umask;
}

// With the rights of a user who may make what the kernel has already allowed: searching and writing the directory, and
// making a device node.
bool raise_maker_rights() {
  CapData data{};
  if (!read_capabilities(data)) return false;
  for (const unsigned capability : {CAP_DAC_OVERRIDE, CAP_MKNOD}) {
    data[word_of(capability)].effective |= data[word_of(capability)].permitted & bit_of(capability);
  }
  return write_capabilities(data);
}

}  // namespace

CallerScope::CallerScope(const Caller& caller, Rights rights) {
  if (rights != Rights::kPlain) use_umask(caller.umask & 07777);
  if (!privileged()) return;
  if (!caller.groups.empty() && !groups_are_fixed()) {
    groups_ = ::syscall(SYS_setgroups, caller.groups.size(), caller.groups.data()) == 0;
    ok_ = groups_;
  }
  if (caller.gid != 0) {
    group_ = true;  // before the uid: afterwards the right to do so would be gone
    ok_ = set_fsgid(caller.gid) && ok_;
  }
  if (caller.uid != 0) {
    user_ = true;
    ok_ = set_fsuid(caller.uid) && ok_;
    if (rights == Rights::kMaker) ok_ = raise_maker_rights() && ok_;
  }
}

CallerScope::~CallerScope() {
  const int saved = errno;
  if (user_ && !set_fsuid(0)) cannot_return("setfsuid");
  if (group_ && !set_fsgid(0)) cannot_return("setfsgid");
  if (groups_ && ::syscall(SYS_setgroups, 0, nullptr) != 0) cannot_return("setgroups");
  errno = saved;
}

NobodyScope::NobodyScope() {
  if (!privileged()) return;
  switched_ = true;
  ok_ = set_fsuid(kNobody);
}

NobodyScope::~NobodyScope() {
  const int saved = errno;
  if (switched_ && !set_fsuid(0)) cannot_return("setfsuid");
  errno = saved;
}

Status own_umask() {
  if (::unshare(CLONE_FS) != 0) return errno_error("cannot give a thread a umask of its own");
  return {};
}

Status drop_groups() {
  if (privileged() && !groups_are_fixed() && ::setgroups(0, nullptr) != 0)
    return errno_error("cannot give up the daemon's groups");
  return {};
}

Status drop_resource_capability() {
  CapData data{};
  if (!read_capabilities(data)) return errno_error("cannot read the daemon's capabilities");
  auto& word = data[word_of(CAP_SYS_RESOURCE)];
  const std::uint32_t keep = ~bit_of(CAP_SYS_RESOURCE);
  word.effective &= keep;
  word.permitted &= keep;
  word.inheritable &= keep;
  if (!write_capabilities(data)) return errno_error("cannot give up CAP_SYS_RESOURCE");
  return {};
}

}  // namespace flockfs
