#include "base/processors.h"

#include <sched.h>

namespace flockfs {

bool has_several_processors() {
  cpu_set_t mine;
  return ::sched_getaffinity(0, sizeof mine, &mine) != 0 || CPU_COUNT(&mine) > 1;
}

}  // namespace flockfs
