#include "mirror/connection.h"

#include <cstdarg>
#include <cstdio>
#include <string>

#include "base/log.h"
#include "mirror/handlers.h"

namespace flockfs {
namespace {

constexpr unsigned kMostBytes = 1 << 20;
// RELEASE is a background request; with the kernel's 12 a burst of closes would be served 12 by 12.
constexpr unsigned kMostBackground = 4096;

__attribute__((format(printf, 2, 0))) void log_from_libfuse(fuse_log_level level, const char* format,
                                                            std::va_list arguments) {
  char text[512];
  const int length = std::vsnprintf(text, sizeof text, format, arguments);
  std::string message(text, std::min<std::size_t>(length < 0 ? 0 : static_cast<std::size_t>(length), sizeof text - 1));
  while (!message.empty() && message.back() == '\n') message.pop_back();
  // What libfuse finds worth an error is often an everyday answer (a passthrough file refused); ours tell what matters.
  const LogLevel ours = level <= FUSE_LOG_CRIT ? LogLevel::kError : LogLevel::kDebug;
  if (log_enabled(ours)) log_write(ours, LogLine("libfuse").quoted("message", message));
}

void init(void* data, fuse_conn_info* connection) {
  Core& core = *static_cast<Core*>(data);
  const auto want = [connection](std::uint64_t flag) { return fuse_set_feature_flag(connection, flag); };
  // Without it an unanswered LOOKUP blocks every other name of the directory. Not on by default here.
  want(FUSE_CAP_PARALLEL_DIROPS);
  // O_TRUNC arrives with OPEN, where it can wait for the lock; as a SETATTR it would come after the answer.
  want(FUSE_CAP_ATOMIC_O_TRUNC);
  want(FUSE_CAP_ASYNC_READ);
  want(FUSE_CAP_ASYNC_DIO);
  want(FUSE_CAP_AUTO_INVAL_DATA);
  want(FUSE_CAP_READDIRPLUS);
  want(FUSE_CAP_READDIRPLUS_AUTO);
  // The source decides on modes: it knows the directory's default ACL.
  want(FUSE_CAP_DONT_MASK);
  want(FUSE_CAP_POSIX_ACL);
  // Without it every write asks for security.capability first.
  want(FUSE_CAP_HANDLE_KILLPRIV_V2);
  // With writeback OPEN|O_TRUNC would hold the inode, and writes would come after the close that frees the lock.
  fuse_unset_feature_flag(connection, FUSE_CAP_WRITEBACK_CACHE);
  // Applications' own locks act on the source.
  want(FUSE_CAP_FLOCK_LOCKS);
  want(FUSE_CAP_POSIX_LOCKS);
  // A request is read into memory: the requests that wait outlive the pipe they would have come in.
  fuse_unset_feature_flag(connection, FUSE_CAP_SPLICE_READ);
  fuse_unset_feature_flag(connection, FUSE_CAP_SPLICE_WRITE);
  fuse_unset_feature_flag(connection, FUSE_CAP_SPLICE_MOVE);
#ifdef FUSE_CAP_OVER_IO_URING
  // A ring takes no more requests than it has places, and no INTERRUPT: waiting opens would fill it for good.
  fuse_unset_feature_flag(connection, FUSE_CAP_OVER_IO_URING);
#endif
  connection->max_write = kMostBytes;
  connection->max_readahead = kMostBytes;
  connection->max_background = kMostBackground;
  connection->congestion_threshold = kMostBackground * 3 / 4;
  connection->time_gran = 1;
  const SourceMount& root = core.source->root_mount();
  if (core.config.passthrough && !root.remote && !root.stacked && want(FUSE_CAP_PASSTHROUGH)) {
    connection->max_backing_stack_depth = 0;
  } else {
    core.backing.disable();
  }
}

fuse_lowlevel_ops operations() {
  fuse_lowlevel_ops ops{};
  ops.init = init;
  add_lookup_handlers(ops);
  add_attribute_handlers(ops);
  add_directory_handlers(ops);
  add_change_handlers(ops);
  add_file_handlers(ops);
  add_lock_handlers(ops);
  add_xattr_handlers(ops);
  add_flock_handlers(ops);
  add_ioctl_handlers(ops);
  return ops;
}

}  // namespace

Status Connection::open(UniqueFd device) {
  fuse_set_log_func(log_from_libfuse);
  static const fuse_lowlevel_ops kOperations = operations();
  char name[] = "flockfs";
  char* arguments[] = {name, nullptr};
  fuse_args args = FUSE_ARGS_INIT(1, arguments);
  core_.session = fuse_session_new(&args, &kOperations, sizeof kOperations, &core_);
  fuse_opt_free_args(&args);
  if (core_.session == nullptr) return Error{ENOMEM, "cannot set up libfuse"};
  // libfuse takes over a descriptor that is named so (fuse_session_mount(), since 3.3); mounting is our own affair.
  const std::string path = "/dev/fd/" + std::to_string(device.release());
  if (fuse_session_mount(core_.session, path.c_str()) != 0) return Error{EIO, "libfuse does not take " + path};
  return {};
}

Connection::~Connection() {
  if (core_.session == nullptr) return;
  fuse_session_destroy(core_.session);
  core_.session = nullptr;
}

}  // namespace flockfs
