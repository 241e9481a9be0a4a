#include "mirror/request.h"

#include <sys/stat.h>

#include <algorithm>

#include "mirror/clients.h"

namespace flockfs {

Caller Request::maker(mode_t mode) const {
  Caller made_by = caller();
  if (made_by.uid != 0 && (mode & S_ISGID) != 0) add_groups(made_by);
  return made_by;
}

Caller Request::maker_unasked() const {
  Caller made_by = caller();
  made_by.umask = umask_of(tid());
  if (made_by.uid != 0) add_groups(made_by);
  return made_by;
}

void Request::add_groups(Caller& made_by) const {
  const int count = fuse_req_getgroups(request_, 0, nullptr);
  if (count <= 0) return;
  made_by.groups.resize(static_cast<std::size_t>(count));
  const int got = fuse_req_getgroups(request_, count, made_by.groups.data());
  made_by.groups.resize(static_cast<std::size_t>(std::clamp(got, 0, count)));
}

}  // namespace flockfs
