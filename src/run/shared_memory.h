#pragma once

#include <sys/mman.h>

#include <cerrno>
#include <memory>
#include <new>
#include <type_traits>

#include "base/result.h"

namespace flockfs {

// A T in memory that this process shares with those that it forks from now on. T is atomics only.
template <typename T>
class SharedMemory {
 public:
  static Result<SharedMemory> make() {
    static_assert(std::is_trivially_destructible_v<T>);
    void* const memory = ::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return errno_error("cannot share memory");
    return SharedMemory(new (memory) T);
  }

  [[nodiscard]] T* get() const { return value_.get(); }
  T* operator->() const { return value_.get(); }

 private:
  struct Unmap {
    void operator()(T* value) const { ::munmap(value, sizeof(T)); }
  };
  explicit SharedMemory(T* value) : value_(value) {}

  std::unique_ptr<T, Unmap> value_;
};

}  // namespace flockfs
