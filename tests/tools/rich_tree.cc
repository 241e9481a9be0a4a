#include "rich_tree.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string_view>
#include <system_error>
#include <vector>

#include "harness/files.h"
#include "harness/program.h"
#include "harness/users.h"

namespace flockfs::test {
namespace {

constexpr off_t kPiece = 65536;

void require(long result, const std::string& what) {
  if (result < 0) throw std::system_error(errno, std::generic_category(), what);
}

// A file of 16 pieces, some of which have data.
void make_sparse(const std::string& path, const std::vector<int>& pieces_with_data) {
  write_file(path, "");
  const UniqueFd fd = open_file(path, O_WRONLY);
  require(::ftruncate(fd.get(), 16 * kPiece), path);
  for (const int piece : pieces_with_data) {
    const std::string data(kPiece, static_cast<char>('a' + piece));
    require(::pwrite(fd.get(), data.data(), data.size(), piece * kPiece), path);
  }
  require(::fsync(fd.get()), path);  // else its blocks are counted only later
}

void set_attribute(const std::string& path, const char* name, std::string_view value) {
  require(::lsetxattr(path.c_str(), name, value.data(), value.size(), 0), path + " " + name);
}

void set_times(const std::string& path, timespec access, timespec modification) {
  const std::array<timespec, 2> times{access, modification};
  require(::utimensat(AT_FDCWD, path.c_str(), times.data(), AT_SYMLINK_NOFOLLOW), path);
}

void make_names(const std::string& dir) {
  make_dir(dir);
  for (const std::string& name : {std::string(255, 'n'), std::string(255, '\xe4'), std::string("\xff\xfe not UTF-8"),
                                  std::string("new\nline"), std::string("\x01\x1b[31m\x7f"), std::string(" blank "),
                                  std::string("back\\slash"), std::string("-dash"), std::string("*?[]{}$`'\"")}) {
    write_file(dir + "/" + name, name);
  }
}

void make_nodes(const std::string& dir) {
  make_dir(dir);
  require(::mknod((dir + "/char").c_str(), S_IFCHR | 0620, makedev(4, 70)), "mknod");
  require(::mknod((dir + "/block").c_str(), S_IFBLK | 0660, makedev(259, 300)), "mknod");
  require(::mknod((dir + "/socket").c_str(), S_IFSOCK | 0755, 0), "mknod");
  require(::mkfifo((dir + "/fifo").c_str(), 0640), "mkfifo");
}

void make_modes_and_owners(const std::string& dir) {
  make_dir(dir);
  for (const mode_t mode : {04755, 02755, 06711, 01644, 0, 0400, 0777}) {
    const std::string path = dir + "/file" + std::to_string(mode);
    write_file(path, "contents");
    require(::chown(path.c_str(), mode == 04755 ? kStranger : 0, mode == 02755 ? kStrangerGroup : 0), path);
    require(::chmod(path.c_str(), mode), path);
  }
  make_dir(dir + "/sticky", 01777);
  make_dir(dir + "/setgid", 02770);
  make_dir(dir + "/none", 0);
  write_file(dir + "/largest ids", "contents");
  require(::chown((dir + "/largest ids").c_str(), 4294967294U, 2147483653U), dir);
}

void make_attributes(const std::string& dir, bool user_attributes) {
  make_dir(dir);
  write_file(dir + "/file", "contents");
  write_file(dir + "/capable", "contents", 0755);
  make_dir(dir + "/directory");
  require(::symlink("file", (dir + "/link").c_str()), dir);
  for (const std::string& path : {dir + "/file", dir + "/directory"}) {
    if (user_attributes) {
      set_attribute(path, "user.text", "value");
      set_attribute(path, "user.bytes", std::string("\0\n\xff", 3));
      set_attribute(path, "user.empty", "");
    }
    set_attribute(path, "security.flockfs", "security");
  }
  for (const std::string& path : {dir + "/file", dir + "/directory", dir + "/link"}) {
    set_attribute(path, "trusted.flockfs", "trusted");
  }
  set_attribute(dir + "/capable", "security.capability", net_raw_capability());
  write_file(dir + "/listed", "contents");
  make_dir(dir + "/inherits");
  for (const auto& [entries, name] :
       {std::pair{"u:12345:rw,g:4242:r,m::r", "/listed"}, {"u:12345:rwx,d:u:12345:rwx,d:g::-,d:o::-", "/inherits"}}) {
    const auto result = run_program({"setfacl", "-m", entries, dir + name});
    if (result.exit_code != 0) throw std::runtime_error("setfacl: " + result.err);
  }
  write_file(dir + "/inherits/heir", "contents");
}

void make_links(const std::string& dir) {
  make_dir(dir);
  write_file(dir + "/target", "contents");
  require(::symlink("target", (dir + "/relative").c_str()), dir);
  require(::symlink("../nowhere", (dir + "/dangling").c_str()), dir);
  require(::symlink(std::string(4000, 't').c_str(), (dir + "/long").c_str()), dir);
  require(::symlink("loop", (dir + "/loop").c_str()), dir);
  require(::lchown((dir + "/dangling").c_str(), kStranger, kStrangerGroup), dir);
  set_times(dir + "/dangling", {1'000'000'000, 5}, {1'000'000'001, 999'999'999});
  for (const char* name : {"/hard1", "/hard2"}) require(::link((dir + "/target").c_str(), (dir + name).c_str()), dir);
  require(::link((dir + "/long").c_str(), (dir + "/hard-linked symlink").c_str()), dir);
}

void make_times(const std::string& dir, bool all_times) {
  make_dir(dir);
  std::vector<timespec> times{{0, 0},
                              {-1, 1},
                              {-1'893'456'000, 999'999'999},  // 1910
                              {-2'147'483'647, 0},            // December 1901, where ext4 begins
                              {1'700'000'000, 1},
                              {2'147'483'648, 123'456'789},  // January 2038
                              {4'102'444'800, 999'999'999},  // 2100
                              {15'000'000'000, 100}};        // 2445; ext4 ends the year after
  if (all_times) times.insert(times.end(), {{-30'610'224'000, 1}, {253'402'300'799, 999'999'999}});  // 1000 and 9999
  for (const timespec& time : times) {
    const std::string path = dir + "/" + std::to_string(time.tv_sec);
    write_file(path, path);
    set_times(path, time, time);
  }
  make_dir(dir + "/old directory");
  set_times(dir + "/old directory", {86400, 7}, {-86400, 7});
  set_times(dir, {1'234'567'890, 1}, {1'234'567'890, 987'654'321});
}

void make_deep(std::string path) {
  make_dir(path);
  for (int depth = 0; depth < 40; ++depth) make_dir(path += "/" + std::string(50, 'd') + std::to_string(depth));
  write_file(path + "/bottom", "deep");
}

// Whether this file system has user.* attributes: tmpfs has them since Linux 6.6.
bool has_user_attributes(const std::string& dir) {
  if (::setxattr(dir.c_str(), "user.flockfs", "", 0, 0) != 0) return false;
  require(::removexattr(dir.c_str(), "user.flockfs"), dir);
  return true;
}

std::string escaped(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) {
    if (byte > ' ' && byte < 127 && byte != '\\') {
      text += byte;
    } else {
      text += "\\" + std::to_string(static_cast<unsigned char>(byte)) + ".";
    }
  }
  return text;
}

std::string time_of(const char* name, const timespec& time) {
  return std::string(" ") + name + "=" + std::to_string(time.tv_sec) + "." + std::to_string(time.tv_nsec);
}

std::string attributes_of(const std::string& path) {
  std::string names(65536, '\0');
  const ssize_t size = ::llistxattr(path.c_str(), names.data(), names.size());
  require(size, "listxattr " + path);
  std::istringstream list(names.substr(0, static_cast<std::size_t>(size)));
  std::vector<std::string> all;
  for (std::string name; std::getline(list, name, '\0');) {
    std::string value(65536, '\0');
    const ssize_t length = ::lgetxattr(path.c_str(), name.c_str(), value.data(), value.size());
    require(length, "getxattr " + path);
    all.push_back(" " + name + "=" + escaped(value.substr(0, static_cast<std::size_t>(length))));
  }
  std::sort(all.begin(), all.end());
  std::string text;
  for (const std::string& one : all) text += one;
  return text;
}

// Where data is, as lseek(2) tells, and a hash of all that can be read.
std::string contents_of(const std::string& path) {
  const UniqueFd fd = open_file(path, O_RDONLY);
  std::string text = " data=";
  for (off_t at = 0; (at = ::lseek(fd.get(), at, SEEK_DATA)) >= 0;) {
    const off_t hole = ::lseek(fd.get(), at, SEEK_HOLE);
    text += std::to_string(at) + "-" + std::to_string(hole) + ",";
    at = hole;
  }
  if (errno != ENXIO) throw std::system_error(errno, std::generic_category(), "SEEK_DATA " + path);
  return text + " hash=" + std::to_string(std::hash<std::string>()(read_all(fd.get())));
}

void describe(const std::string& dir, const std::string& name, std::string& text) {
  const std::string path = dir + "/" + name;
  const struct stat st = stat_of(path);
  std::ostringstream line;
  line << escaped(name) << std::oct << " mode=" << st.st_mode << std::dec << " ino=" << st.st_ino
       << " nlink=" << st.st_nlink << " uid=" << st.st_uid << " gid=" << st.st_gid << " rdev=" << st.st_rdev
       << " size=" << st.st_size << " blocks=" << st.st_blocks << time_of("atime", st.st_atim)
       << time_of("mtime", st.st_mtim) << time_of("ctime", st.st_ctim) << attributes_of(path);
  if (S_ISREG(st.st_mode)) line << contents_of(path);
  if (S_ISLNK(st.st_mode)) {
    std::string target(4096, '\0');
    const ssize_t size = ::readlink(path.c_str(), target.data(), target.size());
    require(size, "readlink " + path);
    line << " target=" << target.substr(0, static_cast<std::size_t>(size));
  }
  text += line.str() + "\n";
  if (!S_ISDIR(st.st_mode)) return;
  for (const std::string& below : list_dir(path)) describe(dir, name + "/" + below, text);
}

}  // namespace

void make_rich_tree(const std::string& dir, bool all_times) {
  make_dir(dir + "/sparse");
  make_sparse(dir + "/sparse/starts with a hole", {4, 5, 15});
  make_sparse(dir + "/sparse/hole in the middle", {0, 15});
  make_sparse(dir + "/sparse/ends with a hole", {0, 3});
  make_sparse(dir + "/sparse/nothing else", {});
  make_dir(dir + "/empty directory");
  write_file(dir + "/empty file", "");
  make_names(dir + "/names");
  make_nodes(dir + "/nodes");
  make_modes_and_owners(dir + "/modes");
  make_attributes(dir + "/attributes", has_user_attributes(dir));
  make_links(dir + "/links");
  make_deep(dir + "/deep");
  make_times(dir + "/times", all_times);
}

std::string describe_tree(const std::string& dir) {
  std::string text;
  describe(dir, ".", text);
  return text;
}

}  // namespace flockfs::test
