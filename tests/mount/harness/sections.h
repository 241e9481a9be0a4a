#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace flockfs::test {

// Who is inside which critical section, in memory that all children of the test share: a second opinion on locks. A
// file, known by its inode number, has one section for each kind of lock. Whoever gets a lock enters, and leaves before
// giving it back; nobody may be inside together with one who has it for itself. Lock-free; used by any process that was
// forked after the construction, but not by one that may be killed inside.
class Sections {
 public:
  enum class Kind : std::uint8_t { kFlock, kRecord };

  Sections();
  ~Sections();
  Sections(const Sections&) = delete;
  Sections& operator=(const Sections&) = delete;

  // False: somebody is inside who excludes this one. It is inside all the same.
  [[nodiscard]] bool enter(ino_t file, Kind kind, bool exclusive);
  // False: somebody has come who should have been kept out.
  [[nodiscard]] bool leave(ino_t file, Kind kind, bool exclusive);

  // How often all have entered, for themselves and shared; and how many are inside now.
  [[nodiscard]] std::uint64_t entered(bool exclusive) const;
  [[nodiscard]] std::size_t inside() const;

 private:
  struct Section {
    std::atomic<ino_t> file;
    std::atomic<std::uint32_t> inside[2];  // by kind: readers, and writers in the upper half
  };
  struct Shared;

  std::atomic<std::uint32_t>& at(ino_t file, Kind kind);

  Shared* shared_;
};

}  // namespace flockfs::test
