#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "mirror/lock_file_identity.h"

namespace flockfs {

// The text of a record of lock files (LockFileRecord): a head that names SOURCE, and a line for each lock file. Lines
// are complete in themselves and their order means nothing, so that threads can append them without a word to each
// other, and a line that was cut short costs only itself. Pure. What is parsed is trusted in nothing but its form.

// A lock file as it is written down before it is made.
struct RecordedLockFile {
  LockFileIdentity identity;  // certain()
  std::string directory;      // relative to SOURCE, "" for SOURCE itself; no component is "." or ".." or empty
  std::string name;           // one component that ends in ".lock"
  friend bool operator==(const RecordedLockFile& one, const RecordedLockFile& other) {
    return same_object(one.identity, other.identity) && one.identity.owner == other.identity.owner &&
           one.directory == other.directory && one.name == other.name;
  }
};

inline constexpr std::string_view kLockSuffix = ".lock";

// The longest line that is written or read.
inline constexpr std::size_t kMostRecordLine = std::size_t{12} * 1024;

[[nodiscard]] std::string record_head(std::string_view source);
// The SOURCE that a record's first lines name; nullopt if this is no record.
[[nodiscard]] std::optional<std::string> parse_record_head(std::string_view text);

// One line, newlines around it; nullopt if it would be longer than kMostRecordLine or could not be read back.
[[nodiscard]] std::optional<std::string> record_line(const RecordedLockFile& file);
// One line, without its newline; nullopt for whatever else.
[[nodiscard]] std::optional<RecordedLockFile> parse_record_line(std::string_view line);

}  // namespace flockfs
