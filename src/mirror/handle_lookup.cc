#include <malloc.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/blocking_pool.h"
#include "mirror/handlers.h"
#include "mirror/open_pipeline.h"

namespace flockfs {
namespace {

void lookup(fuse_req_t native, fuse_ino_t parent, const char* name) {
  serve(native, [&](Core& core, Request& request) { answer_entry(core, request, core.inode(parent), name); });
}

// The kernel has dropped its caches: what the inodes took up goes back to the system, and not while anybody waits.
void give_back_memory(Core& core) {
  if (core.inodes.has_shrunk()) (void)core.pool->run([] { (void)::malloc_trim(0); });
}

void forget(fuse_req_t native, fuse_ino_t node, std::uint64_t count) {
  serve(native, [&](Core& core, Request& request) {
    core.inodes.forget(core.inode(node), count);
    give_back_memory(core);
    request.none();
  });
}

void forget_multi(fuse_req_t native, std::size_t count, fuse_forget_data* forgets) {
  serve(native, [&](Core& core, Request& request) {
    for (std::size_t i = 0; i < count; ++i) core.inodes.forget(core.inode(forgets[i].ino), forgets[i].nlookup);
    give_back_memory(core);
    request.none();
  });
}

}  // namespace

void tell(Core& core, const AttributeRecord::Moment& before, Inode& inode, struct stat& st) {
  if (!core.attributes.begin(inode, before)) {
    if (auto again = core.look_at(inode)) st = again->st;
  }
  core.attributes.told(inode, st);
}

// By a directory's time of modification the kernel sees, where a listing begins anew (rewinddir(3)), that what it has
// cached of it is out of date (fs/fuse/readdir.c, fuse_readdir_cached): never for longer than by default.
double attributes_last(const Core& core, const struct stat& st) {
  constexpr double kOfDirectory = 1.0;
  const double configured = core.config.attr_timeout.count();
  return S_ISDIR(st.st_mode) ? std::min(configured, kOfDirectory) : configured;
}

fuse_entry_param entry_of(const Core& core, const Found& found) {
  fuse_entry_param entry{};
  entry.ino = core.node(*found.inode);
  entry.generation = found.inode->generation();
  entry.attr = found.st;
  entry.attr_timeout = attributes_last(core, found.st);
  entry.entry_timeout = core.config.entry_timeout.count();
  return entry;
}

void answer_entry(Core& core, Request& request, const InodePtr& parent, const char* name) {
  const AttributeRecord::Moment before = core.attributes.now();
  auto found = core.opens->lookup(request.tid(), parent, name);
  if (!found) {
    request.error(found.error().code);
    return;
  }
  tell(core, before, *found->inode, found->st);
  if (request.entry(entry_of(core, *found)) != 0) core.inodes.forget(found->inode, 1);
}

void add_lookup_handlers(fuse_lowlevel_ops& ops) {
  ops.lookup = lookup;
  ops.forget = forget;
  ops.forget_multi = forget_multi;
}

}  // namespace flockfs
