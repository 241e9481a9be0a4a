#include "mirror/request.h"

#include <sys/stat.h>

#include <algorithm>

namespace flockfs {

Caller Request::maker(mode_t mode) const {
  Caller made_by = caller();
  if (made_by.uid == 0 || (mode & S_ISGID) == 0) return made_by;
  const int count = fuse_req_getgroups(request_, 0, nullptr);
  if (count <= 0) return made_by;
  made_by.groups.resize(static_cast<std::size_t>(count));
  const int got = fuse_req_getgroups(request_, count, made_by.groups.data());
  made_by.groups.resize(static_cast<std::size_t>(std::clamp(got, 0, count)));
  return made_by;
}

}  // namespace flockfs
