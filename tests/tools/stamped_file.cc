#include "stamped_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/unique_fd.h"
#include "harness/deadline.h"

namespace flockfs::test {
namespace {

struct Stamp {
  std::uint64_t version = 0;
  std::uint64_t block = 0;
  std::uint64_t blocks = 0;
  std::uint64_t place = 0;  // of the stamp in the block
  friend bool operator==(const Stamp&, const Stamp&) = default;
};

constexpr std::size_t kStamps = kStampedBlock / sizeof(Stamp);
using Block = std::array<Stamp, kStamps>;

void check(bool good, const std::string& what) {
  if (!good) throw std::system_error(errno, std::generic_category(), what);
}

Block make_block(const StampedVersion& contents, std::uint64_t number) {
  Block block;
  for (std::size_t place = 0; place < kStamps; ++place) {
    block[place] = Stamp{contents.version, number, contents.blocks, place};
  }
  return block;
}

void write_blocks(int fd, const StampedVersion& contents, const std::string& path, bool slowly) {
  for (std::uint64_t number = 0; number < contents.blocks; ++number) {
    const Block block = make_block(contents, number);
    check(::write(fd, block.data(), sizeof(block)) == sizeof(block), "write " + path);
    if (slowly) ::usleep(100);  // nobody's data comes all at once
  }
}

std::string text(const Stamp& stamp) {
  return "version " + std::to_string(stamp.version) + ", block " + std::to_string(stamp.block) + " of " +
         std::to_string(stamp.blocks);
}

}  // namespace

void make_stamped_file(const std::string& path, const StampedVersion& contents) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  check(fd.valid(), "open " + path);
  write_blocks(fd.get(), contents, path, false);
}

void rewrite_stamped_file(const std::string& path, const StampedVersion& contents) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  check(fd.valid(), "open " + path);
  check(::flock(fd.get(), LOCK_EX) == 0, "flock " + path);
  write_blocks(fd.get(), contents, path, true);
  check(::ftruncate(fd.get(), static_cast<off_t>(contents.blocks * kStampedBlock)) == 0, "ftruncate " + path);
}

std::optional<std::string> flaw_of(std::string_view bytes) {
  if (bytes.empty() || bytes.size() % sizeof(Stamp) != 0) return std::to_string(bytes.size()) + " bytes";
  Stamp first;
  std::memcpy(&first, bytes.data(), sizeof(first));
  Stamp expected{first.version, 0, first.blocks, 0};
  for (std::size_t offset = 0; offset < bytes.size(); offset += sizeof(Stamp)) {
    Stamp found;
    std::memcpy(&found, bytes.data() + offset, sizeof(found));
    expected.block = offset / kStampedBlock;
    expected.place = offset % kStampedBlock / sizeof(Stamp);
    if (found != expected) return "at " + std::to_string(offset) + " " + text(found) + " instead of " + text(expected);
  }
  if (bytes.size() != first.blocks * kStampedBlock) {
    return std::to_string(bytes.size() / kStampedBlock) + " blocks of " + std::to_string(first.blocks);
  }
  return std::nullopt;
}

}  // namespace flockfs::test
