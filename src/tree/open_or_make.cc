#include "tree/open_or_make.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <thread>
#include <utility>

#include "tree/inode.h"

namespace flockfs {
namespace {

// No system call opens a file that is there and else gives a name to one that is locked already. So the two are tried
// in turn, and for all tries to fail the name has to come and to go again each time within some microseconds. The
// directory's lock in the kernel makes us take turns with whoever changes the name, and can keep us in step with him
// for long; so after some tries there are pauses, whose length the scheduler makes random. There is no certainty, but a
// try that does not insist on the name failed once in seven times at most (measured against one who does nothing else).
constexpr int kMostTries = 48;
constexpr int kTriesWithoutPause = 8;
constexpr auto kPause = std::chrono::microseconds(10);
// So many insist that the name still leads to the file once that is locked; then, as at every second try, what was
// there a moment ago is served (DESIGN 4.4).
constexpr int kStrictTries = 16;

// A new file that tries to get its name time and again.
class NewFile {
 public:
  NewFile(const WantedFile& wanted, const BeforeVisible& lock) : wanted_(wanted), lock_(lock) {}

  // EEXIST if the name is taken.
  Result<UniqueFd> take_name() {
    if (!fd_ && !by_rename_) {
      if (auto ready = prepare(); !ready) return ready.error();
    }
    if (by_rename_) {
      return make_file(wanted_.directory, wanted_.name, wanted_.flags, wanted_.mode, wanted_.caller, lock_,
                       wanted_.links);
    }
    if (auto named = name_file(fd_.get(), wanted_.directory, wanted_.name, wanted_.caller); !named) {
      return named.error();
    }
    return std::move(fd_);
  }

 private:
  Status prepare() {
    auto fd = make_unnamed(wanted_.directory, wanted_.flags, wanted_.mode, wanted_.caller);
    if (!fd) {
      by_rename_ = true;  // make_file() knows what else there is, and which error it is if nothing
      return {};
    }
    if (auto locked = lock_(fd->get()); !locked) return locked;
    fd_ = *std::move(fd);
    return {};
  }

  const WantedFile& wanted_;
  const BeforeVisible& lock_;
  UniqueFd fd_;  // locked, without a name
  bool by_rename_ = false;
};

// EAGAIN if it is locked or, if `strict`, the name leads to something else by then.
Result<UniqueFd> open_present(const WantedFile& wanted, const BeforeVisible& lock, bool strict) {
  auto fd = open_as_caller(wanted.directory, wanted.name, wanted.flags, wanted.caller);
  if (!fd) return fd.error();
  if (auto locked = lock(fd->get()); !locked) return locked.error();
  struct stat st {};
  struct stat there {};
  if (::fstat(fd->get(), &st) != 0) return errno_error();
  if (strict && (::fstatat(wanted.directory, wanted.name, &there, AT_SYMLINK_NOFOLLOW) != 0 || !same_file(st, there))) {
    return Error{EAGAIN, {}};
  }
  if ((wanted.flags & O_TRUNC) != 0) {
    const CallerScope scope(wanted.caller, CallerScope::Rights::kPlain);
    if (!scope.ok()) return Error{EPERM, {}};
    if (::ftruncate(fd->get(), 0) != 0) return errno_error();
  }
  return fd;
}

}  // namespace

Result<OpenedOrMade> open_or_make(const WantedFile& wanted, const BeforeVisible& lock_new,
                                  const BeforeVisible& lock_present) {
  NewFile fresh(wanted, lock_new);
  int error = 0;
  for (int tries = 0; tries < kMostTries; ++tries) {
    if (tries >= kTriesWithoutPause) std::this_thread::sleep_for(kPause);
    auto made = fresh.take_name();
    if (made) return OpenedOrMade{*std::move(made), true};
    if (made.error().code != EEXIST) return made.error();
    // At once: it has just been there.
    auto present = open_present(wanted, lock_present, tries < kStrictTries);
    if (present) return OpenedOrMade{*std::move(present), false};
    error = present.error().code == ENOENT ? EEXIST : present.error().code;
    if (error != EEXIST && error != EAGAIN) return present.error();
  }
  return Error{error, {}};
}

}  // namespace flockfs
