#include "tree/attribute_record.h"

#include "tree/time_stamp.h"

namespace flockfs {

AttributeRecord::Moment AttributeRecord::now() const {
  const std::uint64_t checks = checks_.load();
  return {stamp_now(), checks};
}

bool AttributeRecord::begin(Inode& inode, const Moment& before) {
  {
    MutexLock lock(mutex_of(inode));
    auto& first = inode.told_.first_ns;
    if (first == 0 || before.stamp_ns < first) first = before.stamp_ns;
  }
  return checks_.load() == before.checks;
}

void AttributeRecord::told(Inode& inode, const struct stat& st) {
  MutexLock lock(mutex_of(inode));
  inode.told_.ctime_ns = to_ns(st.st_ctim);
  inode.told_.size = st.st_size;
  inode.told_.mode = static_cast<std::uint16_t>(st.st_mode);  // all of it (inode(7))
  inode.told_.uid = st.st_uid;
  inode.told_.gid = st.st_gid;
}

bool AttributeRecord::current(Inode& inode, const struct stat& st) {
  ++checks_;
  if (inode.mount().remote) return false;  // another machine's clock
  MutexLock lock(mutex_of(inode));
  const auto& told = inode.told_;
  if (told.first_ns == 0) return true;
  const std::int64_t changed = to_ns(st.st_ctim);
  return changed < told.first_ns && changed == told.ctime_ns && st.st_size == told.size;
}

bool AttributeRecord::rights_as_told(Inode& inode, const struct stat& st) {
  MutexLock lock(mutex_of(inode));
  const auto& told = inode.told_;
  return told.mode == 0 || (told.mode == st.st_mode && told.uid == st.st_uid && told.gid == st.st_gid);
}

void AttributeRecord::reset(Inode& inode) {
  MutexLock lock(mutex_of(inode));
  inode.told_ = {};
}

}  // namespace flockfs
