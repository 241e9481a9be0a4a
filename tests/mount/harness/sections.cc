#include "harness/sections.h"

#include <sys/mman.h>

#include <cerrno>
#include <new>
#include <stdexcept>
#include <system_error>

namespace flockfs::test {
namespace {

constexpr std::uint32_t kWriter = 1U << 16;
// Inode numbers that one run may see: files that replace others have new ones. Pages that are not used cost nothing.
constexpr std::size_t kSections = 1U << 20;

}  // namespace

struct Sections::Shared {
  std::atomic<std::uint64_t> entered[2];
  Section sections[kSections];
};

Sections::Sections() {
  void* memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::system_error(errno, std::generic_category(), "mmap");
  shared_ = static_cast<Shared*>(memory);  // all zero, which is what its atomics start with
}

Sections::~Sections() { ::munmap(shared_, sizeof(Shared)); }

std::atomic<std::uint32_t>& Sections::at(ino_t file, Kind kind) {
  for (std::size_t probe = file * 0x9e3779b97f4a7c15ULL >> 44, tries = 0; tries < kSections; ++probe, ++tries) {
    Section& section = shared_->sections[probe % kSections];
    ino_t owner = 0;
    if (section.file.compare_exchange_strong(owner, file) || owner == file) {
      return section.inside[static_cast<std::size_t>(kind)];
    }
  }
  throw std::runtime_error("too many files");
}

bool Sections::enter(ino_t file, Kind kind, bool exclusive) {
  ++shared_->entered[exclusive ? 1 : 0];
  const std::uint32_t before = at(file, kind).fetch_add(exclusive ? kWriter : 1);
  return exclusive ? before == 0 : before < kWriter;
}

bool Sections::leave(ino_t file, Kind kind, bool exclusive) {
  const std::uint32_t before = at(file, kind).fetch_sub(exclusive ? kWriter : 1);
  return exclusive ? before == kWriter : before < kWriter;
}

std::uint64_t Sections::entered(bool exclusive) const { return shared_->entered[exclusive ? 1 : 0]; }

std::size_t Sections::inside() const {
  std::size_t count = 0;
  for (const Section& section : shared_->sections) {
    if (section.inside[0] != 0 || section.inside[1] != 0) ++count;
  }
  return count;
}

}  // namespace flockfs::test
