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
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <utility>
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

// The descriptors of a process that are of files of the mirror (or of one of them, unless that is 0), by the file's
// number. nullopt if the process cannot be seen.
std::optional<std::map<FileNumber, std::vector<int>>> descriptors_of(int base, dev_t mirror, FileNumber only) {
  const int listing = ::openat(base, "fdinfo", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (listing < 0) return std::nullopt;
  const Directory directory(::fdopendir(listing), &::closedir);
  if (!directory) {
    ::close(listing);
    return std::nullopt;
  }
  std::map<FileNumber, std::vector<int>> found;
  std::set<std::uint64_t> mounts;
  bool mounts_read = false;
  std::size_t seen = 0;
  while (const dirent* entry = ::readdir(directory.get())) {
    int number = 0;
    if (!parse_number(entry->d_name, number)) continue;
    if (++seen > kMostDescriptors) return std::nullopt;
    const auto descriptor = parse_fdinfo(read_all_of(listing, entry->d_name));
    if (!descriptor || descriptor->path_only || (only != 0 && descriptor->ino != only)) continue;
    if (!std::exchange(mounts_read, true)) mounts = mounts_of_mirror(base, mirror);
    // A mount that the process does not see (detached, another namespace's) may be the mirror as well.
    if (mounts.empty()) return std::nullopt;
    if (mounts.contains(descriptor->mount)) found[descriptor->ino].push_back(number);
  }
  return found;
}

std::set<FileNumber> mapped_by(int base, dev_t mirror) {
  const std::string text = read_all_of(base, "maps");
  std::set<FileNumber> found;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const MappedFile mapped = parse_maps_line(line);
    if (mapped.first == mirror) found.insert(mapped.second);
  }
  return found;
}

UniqueFd open_process(pid_t process) {
  char path[32];
  std::snprintf(path, sizeof path, "/proc/%d", process);
  return UniqueFd(process <= 0 ? -1 : ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

}  // namespace

// Opens that hold no lock: a descriptor of one of these is no part of anybody's.
void ProcHolderProbe::leave_out_unlocked(pid_t process, std::map<FileNumber, Holding>& holdings) const {
  const MirrorConfig& config = core_.config;
  if (config.on_timeout == Otherwise::kFail && config.on_unsupported == Otherwise::kFail &&
      core_.filter.selects_everything()) {
    return;
  }
  struct Unlocked {
    FileId file;
    pid_t opener;
  };
  std::vector<Unlocked> all;
  if (holdings.empty()) return;
  (void)core_.files.pick([&all](const OpenFile& open) {
    if (!open.locked()) all.push_back({{open.inode->dev(), open.inode->ino()}, open.opener});
    return false;
  });
  for (const auto& [file, opener] : all) {
    const auto holding = holdings.find(core_.source->shown_ino(file.dev, file.ino));
    if (holding == holdings.end()) continue;
    std::size_t& descriptions = holding->second.descriptions;
    if (opener != process) holding->second.in_doubt = true;
    if (opener == process && descriptions > 0) --descriptions;
  }
  // Whether a mapping is of an open with a lock is not to be seen, and the open may have been closed.
  for (auto& [number, holding] : holdings) holding.in_doubt |= holding.mapped;
}

std::optional<std::map<FileNumber, Holding>> ProcHolderProbe::look(pid_t process, FileNumber only) const {
  const UniqueFd base = open_process(process);
  if (!base) return std::nullopt;
  const auto descriptors = descriptors_of(base.get(), core_.device, only);
  if (!descriptors) return std::nullopt;
  std::map<FileNumber, Holding> found;
  for (const auto& [number, all] : *descriptors) {
    found[number].descriptions = std::set<int, BeforeInKernel>(all.begin(), all.end(), BeforeInKernel{process}).size();
  }
  for (const FileNumber number : mapped_by(base.get(), core_.device)) found[number].mapped = true;
  leave_out_unlocked(process, found);
  return found;
}

std::optional<Holding> ProcHolderProbe::holding(pid_t process, const FileId& file) {
  const FileNumber number = number_of(file);
  const auto found = look(process, number);
  if (!found) return std::nullopt;
  const auto holding = found->find(number);
  return holding == found->end() ? Holding{} : holding->second;
}

std::optional<std::map<FileNumber, Holding>> ProcHolderProbe::holdings(pid_t process) { return look(process, 0); }

FileNumber ProcHolderProbe::number_of(const FileId& file) { return core_.source->shown_ino(file.dev, file.ino); }

std::optional<ProcessState> ProcHolderProbe::state(pid_t process) {
  const UniqueFd base = open_process(process);
  const std::string status = base ? read_all_of(base.get(), "status") : std::string{};
  std::uint64_t threads = 0;
  std::uint64_t caught = 0;
  if (!field(status, "Threads:\t", threads) || !field(status, "SigCgt:\t", caught, 16)) return std::nullopt;
  return ProcessState{threads, (caught >> (SIGALRM - 1) & 1) != 0};
}

}  // namespace flockfs
