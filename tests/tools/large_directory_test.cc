// A directory costs the daemon as much as it has entries, however large it is and however it is read. Counted, not
// timed.

#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>

#include "full_size.h"
#include "harness/file_systems.h"
#include "harness/mirror_test.h"
#include "harness/tracer.h"

namespace flockfs::test {
namespace {

using Dir = std::unique_ptr<DIR, int (*)(DIR*)>;

enum class Ground { kDisk, kOverlay };

std::string name_of(int number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "entry-%07d", number);
  return text.data();
}

// How often each name was shown, "." and ".." aside.
using Shown = std::unordered_map<std::string, int>;

void note(Shown& shown, const char* name) {
  if (std::strcmp(name, ".") != 0 && std::strcmp(name, "..") != 0) ++shown[name];
}

// Those that were there all the time are shown once, and none twice.
void expect_each_once(const Shown& shown, int count, const std::function<bool(int)>& stayed) {
  int twice = 0;
  int missing = 0;
  for (const auto& [name, times] : shown) twice += times > 1 ? 1 : 0;
  for (int i = 0; i < count; ++i) missing += stayed(i) && !shown.contains(name_of(i)) ? 1 : 0;
  EXPECT_EQ(twice, 0);
  EXPECT_EQ(missing, 0);
}

bool always(int /*number*/) { return true; }

Dir open_dir(const std::string& path) {
  Dir dir(::opendir(path.c_str()), ::closedir);
  if (!dir) throw std::runtime_error("opendir " + path + ": " + errno_name(errno));
  return dir;
}

void read_to_end(const Dir& dir, Shown& shown) {
  while (const dirent* entry = ::readdir(dir.get())) note(shown, entry->d_name);
}

// By getdents64(2) with a buffer for a few entries only: the kernel asks the daemon for more than fits and then again.
void list_in_small_pieces(const std::string& path, int count) {
  struct Head {
    std::uint64_t ino;
    std::int64_t off;
    std::uint16_t length;
    std::uint8_t type;
  };
  constexpr std::size_t kNameAt = 19;
  const UniqueFd fd = open_file(path, O_RDONLY | O_DIRECTORY);
  Shown shown;
  std::array<char, 1000> buffer{};
  for (;;) {
    const long got = ::syscall(SYS_getdents64, fd.get(), buffer.data(), buffer.size());
    ASSERT_GE(got, 0) << errno_name(errno);
    if (got == 0) break;
    for (long at = 0; at < got;) {
      Head head{};
      std::memcpy(&head, buffer.data() + at, kNameAt);
      note(shown, buffer.data() + at + kNameAt);
      at += head.length;
    }
  }
  expect_each_once(shown, count, always);
}

// Twice, and then again from each of so many places, for a few entries.
void list_and_seek(const std::string& path, int count, int places) {
  const Dir dir = open_dir(path);
  Shown shown;
  std::vector<std::pair<long, std::string>> later;
  const int step = std::max(1, count / places);
  long place = ::telldir(dir.get());
  for (int i = 0; const dirent* entry = ::readdir(dir.get()); ++i) {
    note(shown, entry->d_name);
    if (i % step == 0) later.emplace_back(place, entry->d_name);
    place = ::telldir(dir.get());
  }
  expect_each_once(shown, count, always);

  ::rewinddir(dir.get());
  Shown again;
  read_to_end(dir, again);
  EXPECT_EQ(again, shown);

  for (auto seek = later.rbegin(); seek != later.rend(); ++seek) {
    ::seekdir(dir.get(), seek->first);
    const dirent* entry = ::readdir(dir.get());
    ASSERT_NE(entry, nullptr);
    EXPECT_EQ(entry->d_name, seek->second);
  }
}

// A third is removed as it is shown, through the mirror; a third by the source, while the listing is under way.
void list_while_entries_go(const std::string& path, const std::string& in_source, int count) {
  const auto fate = [](int number) { return number % 3; };
  const Dir dir = open_dir(path);
  Shown shown;
  int next = 0;
  while (const dirent* entry = ::readdir(dir.get())) {
    note(shown, entry->d_name);
    int number = -1;
    if (std::sscanf(entry->d_name, "entry-%d", &number) != 1) continue;
    if (fate(number) == 1) {
      EXPECT_EQ(::unlink((path + "/" + entry->d_name).c_str()), 0) << errno_name(errno);
    }
    for (int i = 0; i < 2 && next < count; ++i, ++next) {
      if (fate(next) == 2) (void)::unlink((in_source + "/" + name_of(next)).c_str());
    }
  }
  expect_each_once(shown, count, [&](int number) { return fate(number) == 0; });
}

class LargeDirectoryTest : public MirrorTest, public ::testing::WithParamInterface<Ground> {
 protected:
  // Half of the entries in each layer of the overlay, so that they are merged.
  void make_directory(const std::string& name, int count) {
    if (GetParam() == Ground::kOverlay && !room_.empty()) {
      for (const int half : {0, 1}) make_entries(room_ + (half == 0 ? "/lower/" : "/upper/") + name, half, 2, count);
    } else {
      make_entries(source(name), 0, 1, count);
    }
  }
  void mount_source(const std::vector<int>& sizes) {
    if (GetParam() == Ground::kOverlay) {
      room_ = folder("room");
      ASSERT_EQ(mount_tmpfs(room_), 0);
      for (const char* name : {"/lower", "/upper", "/work"}) make_dir(room_ + name);
    }
    for (const int size : sizes) make_directory(std::to_string(size), size);
    if (GetParam() == Ground::kOverlay) {
      ASSERT_EQ(mount_overlay(room_ + "/lower", room_ + "/upper", room_ + "/work", source()), 0);
    }
    mount({.options = {"log_level=info"},
           .program = {.environment = {kTraceable}},
           .test_deadline = full_size() ? Millis(1'000'000) : MirrorSetup{}.test_deadline});
  }
  // Each but the first of a thousand is a further name of that: making many inodes takes long on some disks.
  static void make_entries(const std::string& path, int first, int step, int count) {
    make_dir(path);
    const UniqueFd dir = open_file(path, O_RDONLY | O_DIRECTORY);
    std::string linked;
    for (int i = first, made = 0; i < count; i += step, ++made) {
      if (made % 1000 == 0) {
        linked = name_of(i);
        write_file(path + "/" + linked, "");
      } else if (::linkat(dir.get(), linked.c_str(), dir.get(), name_of(i).c_str(), 0) != 0) {
        throw std::runtime_error("linkat in " + path + ": " + errno_name(errno));
      }
    }
  }

  // What the daemon has asked the kernel for while `work` ran in a child.
  std::map<std::string, int> calls_of(const std::function<void()>& work) {
    Tracer tracer(mirror().daemon(), {"-e", "trace=getdents64,lseek,openat,open,open_by_handle_at"},
                  tree() / ("trace" + std::to_string(++traces_)));
    EXPECT_TRUE(in_child(work, kPatience * 8));
    std::istringstream lines(tracer.stop());
    std::map<std::string, int> calls;
    for (std::string line; std::getline(lines, line);) {
      // The second half of a call that another thread's came between.
      if (line.find(" resumed>") != std::string::npos) continue;
      for (const char* name : {"getdents64", "lseek", "open"}) {
        if (line.find(std::string(" ") + name) != std::string::npos) ++calls[name];
      }
    }
    EXPECT_GT(calls["getdents64"], 0);
    return calls;
  }
  // Twice the entries may cost twice as much, and a few calls more.
  static void expect_linear(std::map<std::string, int> once, std::map<std::string, int> twice) {
    for (const char* name : {"getdents64", "lseek", "open"}) {
      EXPECT_LE(twice[name], 2 * once[name] + 20) << name << ": " << once[name] << ", then " << twice[name];
    }
  }

 private:
  std::string room_;
  int traces_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Tools, LargeDirectoryTest, ::testing::Values(Ground::kDisk, Ground::kOverlay),
                         [](const ::testing::TestParamInfo<Ground>& ground) {
                           return ground.param == Ground::kDisk ? "Disk" : "Overlay";
                         });

constexpr int kOnce = 1000;
constexpr int kTwice = 2 * kOnce;

TEST_P(LargeDirectoryTest, SmallPiecesAreListedWithoutGoingBackInTheSource) {
  mount_source({kOnce, kTwice});
  std::map<int, std::map<std::string, int>> calls;
  for (const int size : {kOnce, kTwice}) {
    calls[size] = calls_of([&] { list_in_small_pieces(mnt(std::to_string(size)), size); });
    // A seek takes overlayfs as long as it goes far, so even one for each piece would be too many.
    EXPECT_LE(calls[size]["lseek"], 5) << size;
    EXPECT_LE(calls[size]["getdents64"], size / 100) << size;
  }
  expect_linear(calls[kOnce], calls[kTwice]);
}

TEST_P(LargeDirectoryTest, RewindingAndSeekingCostWhatIsRead) {
  mount_source({kOnce, kTwice});
  std::map<int, std::map<std::string, int>> calls;
  for (const int size : {kOnce, kTwice}) {
    calls[size] = calls_of([&] { list_and_seek(mnt(std::to_string(size)), size, size / 50); });
  }
  expect_linear(calls[kOnce], calls[kTwice]);
}

TEST_P(LargeDirectoryTest, RemovingMeanwhileCostsNoMore) {
  mount_source({kOnce, kTwice});
  std::map<int, std::map<std::string, int>> calls;
  for (const int size : {kOnce, kTwice}) {
    const std::string name = std::to_string(size);
    calls[size] = calls_of([&] { list_while_entries_go(mnt(name), source(name), size); });
  }
  expect_linear(calls[kOnce], calls[kTwice]);
}

TEST_P(LargeDirectoryTest, MillionEntries) {
  const std::vector<int> sizes = full_size() ? std::vector{500'000, 1'000'000} : std::vector{5'000, 10'000};
  mount_source(sizes);
  const Millis time = full_size() ? Millis(200'000) : kPatience * 8;
  const auto timed = [&](const std::function<void()>& work) {
    const Stopwatch watch;
    EXPECT_TRUE(in_child(work, time));
    return static_cast<long long>(watch.elapsed().count());
  };
  for (const int size : sizes) {
    const std::string path = mnt(std::to_string(size));
    const long long pieces = timed([&] { list_in_small_pieces(path, size); });
    const long long seeks = timed([&] { list_and_seek(path, size, 100); });
    const long long gone = timed([&] { list_while_entries_go(path, source(std::to_string(size)), size); });
    std::printf("%d entries: %lld ms in small pieces, %lld ms twice and from 100 places, %lld ms while entries go\n",
                size, pieces, seeks, gone);
  }
}

}  // namespace
}  // namespace flockfs::test
