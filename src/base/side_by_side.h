#pragma once

#include <cstddef>
#include <functional>

namespace flockfs {

class BlockingPool;

// Calls work(i) for each i below `count`, in any order, on the calling thread and, if one can be had before the calling
// one is through, on one of the pool's beside it. Returns when all calls have returned, or throws then what one
// of them has thrown; those that had not begun before that are left out. For pieces that wait for nothing but a disk,
// and enough of them that waking a thread is little against them.
void side_by_side(BlockingPool& pool, std::size_t count, const std::function<void(std::size_t)>& work);

}  // namespace flockfs
