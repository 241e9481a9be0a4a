#include "cli/config_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/unique_fd.h"

namespace flockfs {
namespace {

constexpr off_t kMostBytes = off_t{1} << 20U;
constexpr std::string_view kBlanks = " \t\r";

std::string_view trimmed(std::string_view text) {
  const std::size_t first = text.find_first_not_of(kBlanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlanks) - first + 1);
}

}  // namespace

std::vector<ConfigSetting> parse_config(std::string_view text) {
  std::vector<ConfigSetting> settings;
  for (unsigned number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    const std::string_view content = trimmed(line);
    if (content.empty() || content.front() == '#' || content.front() == ';') continue;
    const std::size_t equals = content.find('=');
    ListedOption option{std::string(trimmed(content.substr(0, equals))), std::nullopt};
    if (equals != std::string_view::npos) option.value = trimmed(content.substr(equals + 1));
    settings.push_back({number, std::move(option)});
  }
  return settings;
}

Result<std::vector<ConfigSetting>> read_config_file(const std::string& path) {
  const std::string named = "'" + path + "'";
  // Not to wait for the other end of a FIFO.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat st {};
  if (!fd || ::fstat(fd.get(), &st) != 0) return errno_error(named);
  if (!S_ISREG(st.st_mode)) return Error{0, named + " is no regular file"};
  if (st.st_uid != 0 && st.st_uid != ::geteuid()) return Error{0, named + " is somebody else's"};
  if ((st.st_mode & S_IWOTH) != 0 || ((st.st_mode & S_IWGRP) != 0 && st.st_gid != 0)) {
    return Error{0, named + ": others may write there"};
  }
  if (st.st_size > kMostBytes) return Error{EFBIG, named};
  std::string text(static_cast<std::size_t>(st.st_size), '\0');
  const ssize_t got = ::pread(fd.get(), text.data(), text.size(), 0);
  if (got < 0) return errno_error(named);
  text.resize(static_cast<std::size_t>(got));
  // A path would end there.
  if (text.find('\0') != std::string::npos) return Error{0, named + " is no text: it has a zero byte"};
  return parse_config(text);
}

}  // namespace flockfs
