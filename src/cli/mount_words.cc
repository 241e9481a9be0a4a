#include "cli/mount_words.h"

#include <sys/mount.h>

#include <algorithm>
#include <array>

namespace flockfs {
namespace {

using Kind = MountWord::Kind;

// As mount(8) has it: "user" and its like imply these, unless a later word says otherwise.
constexpr unsigned long kUserMount = MS_NOEXEC | MS_NOSUID | MS_NODEV;
constexpr unsigned long kOwnerMount = MS_NOSUID | MS_NODEV;

constexpr std::array kWords{
    MountWord{"nodev", Kind::kFlags, MS_NODEV, 0, {}},
    MountWord{"dev", Kind::kFlags, 0, MS_NODEV, {}},
    MountWord{"nosuid", Kind::kFlags, MS_NOSUID, 0, {}},
    MountWord{"suid", Kind::kFlags, 0, MS_NOSUID, {}},
    MountWord{"noexec", Kind::kFlags, MS_NOEXEC, 0, {}},
    MountWord{"exec", Kind::kFlags, 0, MS_NOEXEC, {}},
    MountWord{"sync", Kind::kFlags, MS_SYNCHRONOUS, 0, {}},
    MountWord{"async", Kind::kFlags, 0, MS_SYNCHRONOUS, {}},
    MountWord{"dirsync", Kind::kFlags, MS_DIRSYNC, 0, {}},
    MountWord{"atime", Kind::kFlags, 0, MS_NOATIME, {}},
    MountWord{"nodiratime", Kind::kFlags, MS_NODIRATIME, 0, {}},
    MountWord{"diratime", Kind::kFlags, 0, MS_NODIRATIME, {}},
    MountWord{"relatime", Kind::kFlags, MS_RELATIME, 0, {}},
    MountWord{"norelatime", Kind::kFlags, 0, MS_RELATIME, {}},
    MountWord{"strictatime", Kind::kFlags, MS_STRICTATIME, 0, {}},
    MountWord{"nostrictatime", Kind::kFlags, 0, MS_STRICTATIME, {}},
    MountWord{"lazytime", Kind::kFlags, MS_LAZYTIME, 0, {}},
    MountWord{"nolazytime", Kind::kFlags, 0, MS_LAZYTIME, {}},
    MountWord{"nosymfollow", Kind::kFlags, MS_NOSYMFOLLOW, 0, {}},
    MountWord{"symfollow", Kind::kFlags, 0, MS_NOSYMFOLLOW, {}},
    MountWord{"silent", Kind::kFlags, MS_SILENT, 0, {}},
    MountWord{"loud", Kind::kFlags, 0, MS_SILENT, {}},

    MountWord{"defaults", Kind::kDropped, 0, 0, {}},
    // What a mirror has anyway, wherever the source has it.
    MountWord{"acl", Kind::kDropped, 0, 0, {}},
    MountWord{"user_xattr", Kind::kDropped, 0, 0, {}},
    MountWord{"auto", Kind::kDropped, 0, 0, {}},
    MountWord{"noauto", Kind::kDropped, 0, 0, {}},
    MountWord{"user", Kind::kDropped, kUserMount, 0, {}},
    MountWord{"users", Kind::kDropped, kUserMount, 0, {}},
    MountWord{"nouser", Kind::kDropped, 0, 0, {}},
    MountWord{"nousers", Kind::kDropped, 0, 0, {}},
    MountWord{"owner", Kind::kDropped, kOwnerMount, 0, {}},
    MountWord{"noowner", Kind::kDropped, 0, 0, {}},
    MountWord{"group", Kind::kDropped, kOwnerMount, 0, {}},
    MountWord{"nogroup", Kind::kDropped, 0, 0, {}},
    MountWord{"nofail", Kind::kDropped, 0, 0, {}},
    MountWord{"_netdev", Kind::kDropped, 0, 0, {}},
    MountWord{"comment", Kind::kDropped, 0, 0, {}},
    MountWord{"x-*", Kind::kDropped, 0, 0, {}},
    MountWord{"X-*", Kind::kDropped, 0, 0, {}},

    MountWord{"remount", Kind::kRefused, 0, 0, "a mirror cannot be remounted; unmount it and mount it again"},
    MountWord{"auto_unmount", Kind::kRefused, 0, 0,
              "after a crash a backup would find an empty directory and not an error"},
    MountWord{"io_uring", Kind::kRefused, 0, 0, "a few opens that wait for locks would freeze the whole mirror"},
};

bool matches(const MountWord& word, std::string_view name) {
  if (word.name.ends_with('*')) return name.starts_with(word.name.substr(0, word.name.size() - 1));
  return word.name == name;
}

}  // namespace

std::span<const MountWord> mount_words() { return kWords; }

const MountWord* find_mount_word(std::string_view name) {
  const auto* const found = std::ranges::find_if(kWords, [&](const MountWord& word) { return matches(word, name); });
  return found == kWords.end() ? nullptr : found;
}

}  // namespace flockfs
