#include "mirror/process_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "mirror/core.h"
#include "mirror/mappings.h"

namespace flockfs {
namespace {

// All of a file of /proc; empty if it cannot be read.
std::string read_all_of(int directory, const char* path) {
  const UniqueFd fd(::openat(directory, path, O_RDONLY | O_CLOEXEC));
  std::string text;
  std::array<char, 4096> bytes{};
  for (;;) {
    const ssize_t got = fd ? ::read(fd.get(), bytes.data(), bytes.size()) : 0;
    if (got <= 0) return text;
    text.append(bytes.data(), static_cast<std::size_t>(got));
  }
}

template <typename Number>
bool parse_number(std::string_view text, Number& number, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  return error == std::errc{} && end != text.data();
}

// The number behind "key:\t" at the start of a line.
bool field(std::string_view text, std::string_view key, std::uint64_t& value, int base = 10) {
  for (std::size_t at = text.find(key); at != std::string_view::npos; at = text.find(key, at + 1)) {
    if (at == 0 || text[at - 1] == '\n') return parse_number(text.substr(at + key.size()), value, base);
  }
  return false;
}

// The mounts that are the mirror, as the process sees them; "36 35 0:52 / /mnt …".
std::set<std::uint64_t> mounts_of_mirror(int process, dev_t mirror) {
  const std::string device = " " + std::to_string(major(mirror)) + ":" + std::to_string(minor(mirror)) + " ";
  const std::string text = read_all_of(process, "mountinfo");
  std::set<std::uint64_t> mounts;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    std::uint64_t number = 0;
    const std::size_t second = line.find(' ');
    const std::size_t third = second == std::string_view::npos ? second : line.find(' ', second + 1);
    if (third == std::string_view::npos || !line.substr(third).starts_with(device)) continue;
    if (parse_number(line, number)) mounts.insert(number);
  }
  return mounts;
}

using Directory = std::unique_ptr<DIR, int (*)(DIR*)>;

// Descriptors of one process that are looked at: nothing is known of whoever has more.
constexpr std::size_t kMostDescriptors = 65536;

// Of what fdinfo shows of one descriptor.
struct Descriptor {
  std::uint64_t ino = 0;
  std::uint64_t mount = 0;
  bool path_only = false;
};

std::optional<Descriptor> parse_fdinfo(std::string_view text) {
  Descriptor descriptor;
  std::uint64_t flags = 0;
  if (!field(text, "ino:\t", descriptor.ino) || !field(text, "mnt_id:\t", descriptor.mount)) return std::nullopt;
  if (!field(text, "flags:\t", flags, 8)) return std::nullopt;
  descriptor.path_only = (flags & O_PATH) != 0;
  return descriptor;
}

// The kernel's order of a process's open file descriptions (kcmp(2)). What it does not tell apart counts as one.
struct BeforeInKernel {
  pid_t process;
  bool operator()(int one, int other) const {
    return ::syscall(SYS_kcmp, process, process, KCMP_FILE, one, other) == 1;
  }
};

// The open file descriptions of a file among the descriptors of a process. nullopt if the process cannot be seen.
std::optional<std::size_t> descriptions_of(int base, pid_t process, dev_t mirror, ino_t shown_ino) {
  const int listing = ::openat(base, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (listing < 0) return std::nullopt;
  const Directory directory(::fdopendir(listing), &::closedir);
  if (!directory) {
    ::close(listing);
    return std::nullopt;
  }
  std::set<std::uint64_t> mounts;
  std::set<int, BeforeInKernel> found(BeforeInKernel{process});
  std::size_t seen = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    int number = 0;
    if (!parse_number(entry->d_name, number)) continue;
    if (++seen > kMostDescriptors) return std::nullopt;
    const auto descriptor = parse_fdinfo(read_all_of(listing, entry->d_name));
    if (!descriptor || descriptor->ino != shown_ino || descriptor->path_only) continue;
    if (mounts.empty()) mounts = mounts_of_mirror(base, mirror);
    // A mount that the process does not see (detached, another namespace's) may be the mirror as well.
    if (mounts.empty()) return std::nullopt;
    if (!mounts.contains(descriptor->mount)) continue;
    found.insert(number);
  }
  return found.size();
}

bool maps(int base, dev_t mirror, ino_t shown_ino) {
  const std::string text = read_all_of(base, "maps");
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    if (parse_maps_line(line) == MappedFile{mirror, shown_ino}) return true;
  }
  return false;
}

UniqueFd open_process(pid_t process) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d", process);
  return UniqueFd(process <= 0 ? -1 : ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

// Opens of this process that hold no lock: a descriptor of one of these is no part of anybody's.
std::size_t ProcHolderProbe::unlocked_opens(pid_t process, const FileId& file) const {
  const MirrorConfig& config = core_.config;
  if (config.on_timeout == Otherwise::kFail && config.on_unsupported == Otherwise::kFail &&
      core_.filter.selects_everything()) {
    return 0;
  }
  return core_.files
      .pick([&](const OpenFile& open) {
        return !open.locked() && open.opener == process && open.inode->dev() == file.dev &&
               open.inode->ino() == file.ino;
      })
      .size();
}

std::optional<Holding> ProcHolderProbe::holding(pid_t process, const FileId& file) {
  const UniqueFd base = open_process(process);
  if (!base) return std::nullopt;
  const ino_t shown = core_.source->shown_ino(file.dev, file.ino);
  const auto descriptions = descriptions_of(base.get(), process, core_.device, shown);
  if (!descriptions) return std::nullopt;
  return Holding{*descriptions - std::min(*descriptions, unlocked_opens(process, file)),
                 maps(base.get(), core_.device, shown)};
}

std::optional<std::size_t> ProcHolderProbe::threads(pid_t process) {
  const UniqueFd base = open_process(process);
  std::uint64_t count = 0;
  if (!base || !field(read_all_of(base.get(), "status"), "Threads:\t", count)) return std::nullopt;
  return count;
}

}  // namespace flockfs
