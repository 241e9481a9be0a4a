#pragma once

#include <sys/types.h>

#include "base/result.h"
#include "base/unique_fd.h"
#include "tree/credentials.h"
#include "tree/make.h"

namespace flockfs {

// A regular file to be opened if its name is there and made if it is not, as open(2) with O_CREAT does.
struct WantedFile {
  int directory;  // O_PATH
  const char* name;
  int flags;      // the client's; never with O_EXCL
  mode_t mode;    // for a new one
  Caller caller;  // with supplementary groups: the kernel has not checked the rights to a file that turns up
  Links links = Links::kSameInode;
};

struct OpenedOrMade {
  UniqueFd fd;
  bool made = false;  // else it was there
};

// For a name that others make and remove all the time. `lock_new` locks the new file before it can be seen and is
// called once or, where the source has no O_TMPFILE, for every try; `lock_present` tries the lock of a file that is
// there: EAGAIN if it is taken. What is opened had the name a moment ago, and at first the name must still lead to it
// once it is locked (DESIGN 1.3); truncates it if asked. Waits for nobody, but may pause for some milliseconds
// altogether. EEXIST or EAGAIN if the name escaped every try; ENOENT if the directory is gone.
Result<OpenedOrMade> open_or_make(const WantedFile& wanted, const BeforeVisible& lock_new,
                                  const BeforeVisible& lock_present);

}  // namespace flockfs
