#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"
#include "common.h"
#include "workloads.h"

namespace flockfs::bench {
namespace {

struct Slice {
  std::uint64_t first;
  std::uint64_t files;
};

// What the processes of open-read-close tell each other.
struct Board {
  std::atomic<std::uint64_t> ready;
  std::atomic<bool> go;
  std::atomic<std::uint64_t> files;
};

void write_all(int fd, const std::string& content, const std::string& name) {
  require(::write(fd, content.data(), content.size()) == static_cast<ssize_t>(content.size()), name);
}

// Returns how many files were read.
std::uint64_t read_slice(int root, const std::vector<std::string>& names, std::uint64_t limit_ms) {
  std::vector<char> buffer(std::size_t{64} * 1024);
  const Limit limit(limit_ms);
  std::uint64_t done = 0;
  for (const std::string& name : names) {
    const int fd = ::openat(root, name.c_str(), O_RDONLY | O_CLOEXEC);
    require(fd >= 0, name);
    require(::read(fd, buffer.data(), buffer.size()) >= 0, name);
    ::close(fd);
    if (limit.reached(++done)) break;
  }
  return done;
}

void process_slice(int root, Slice slice, std::uint64_t per_directory, std::uint64_t limit_ms, Board& board) {
  std::vector<std::string> names;
  names.reserve(slice.files);
  for (std::uint64_t i = 0; i < slice.files; ++i) names.push_back(file_name(slice.first + i, per_directory));
  ++board.ready;
  while (!board.go) std::this_thread::yield();
  board.files += read_slice(root, names, limit_ms);
}

}  // namespace

void make_tree(Arguments arguments) {
  const std::string root(arguments[0]);
  const std::uint64_t files = to_number(arguments[1]);
  const std::uint64_t per_directory = to_number(arguments[2]);
  const std::string content(to_number(arguments[3]), 'x');
  const UniqueFd root_fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  require(root_fd.valid(), root);
  const auto began = Clock::now();
  for (std::uint64_t i = 0; i < files; ++i) {
    const std::string directory = directory_name(i / per_directory);
    if (i % per_directory == 0) require(::mkdirat(root_fd.get(), directory.c_str(), 0755) == 0, directory);
    const std::string name = file_name(i, per_directory);
    const UniqueFd fd(::openat(root_fd.get(), name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    require(fd.valid(), name);
    if (!content.empty()) write_all(fd.get(), content, name);
  }
  Figures().add("files", files).add("seconds", seconds_since(began)).print();
}

void open_read_close(Arguments arguments) {
  const std::string root(arguments[0]);
  const std::uint64_t first = to_number(arguments[1]);
  const std::uint64_t files = to_number(arguments[2]);
  const std::uint64_t per_directory = to_number(arguments[3]);
  const std::uint64_t processes = to_number(arguments[4]);
  const std::uint64_t limit_ms = to_number(arguments[5]);
  const UniqueFd root_fd(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  require(root_fd.valid(), root);
  Board& board = *shared_array<Board>(1);
  std::vector<pid_t> children;
  for (std::uint64_t i = 0; i < processes; ++i) {
    const std::uint64_t begin = files * i / processes;
    const Slice slice{first + begin, files * (i + 1) / processes - begin};
    children.push_back(start_child([&] { process_slice(root_fd.get(), slice, per_directory, limit_ms, board); }));
  }
  while (board.ready < processes) std::this_thread::yield();
  const auto began = Clock::now();
  board.go = true;
  for (const pid_t child : children) expect_success(child);
  const double seconds = seconds_since(began);
  Figures().add("files", board.files.load()).add("seconds", seconds).print();
}

}  // namespace flockfs::bench
