// Processes on both sides that open, lock, map, truncate, replace and hand on the same few files at random, get killed
// and lose patience. All the while nobody may be in an exclusive section together with others, nor see a file half
// written; in the end nothing is held, nothing waits, and the daemon is as small as it was.
//
// FLOCKFS_SOAK_MINUTES: how long, both ways of I/O together; else ten seconds. FLOCKFS_SOAK_SEED: repeats what each
// process of a run chose to do; when things happen is the machine's choice.

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "harness/mirror_test.h"
#include "harness/record_lock.h"
#include "harness/sections.h"

namespace flockfs::test {
namespace {

constexpr int kFiles = 4;
constexpr int kOnTheMirror = 5;
constexpr int kOnTheSource = 3;

std::string name_of(unsigned number) { return "f" + std::to_string(number); }

// While it exists, SIGALRM comes again and again after a time, so that no call can wait for much longer.
class Patience {
 public:
  explicit Patience(Millis time) {
    const auto micros = std::chrono::microseconds(time).count();
    set({{0, 20'000}, {micros / 1'000'000, micros % 1'000'000}});
  }
  ~Patience() { set({}); }
  Patience(const Patience&) = delete;
  Patience& operator=(const Patience&) = delete;

 private:
  static void set(const itimerval& timer) { ::setitimer(ITIMER_REAL, &timer, nullptr); }
};

// One of the processes. Whatever is wrong ends it with a failure.
class Actor {
 public:
  // `truncates`: it calls truncate(2) by path, too, which without passthrough has a limit of the kernel's own (README).
  Actor(Sections& sections, std::string directory, bool on_mirror, bool truncates, unsigned seed, int index)
      : sections_(sections),
        directory_(std::move(directory)),
        on_mirror_(on_mirror),
        truncates_(truncates),
        index_(index),
        random_(seed + static_cast<unsigned>(index) * 7919) {}

  void run(Millis time) {
    struct sigaction alarm {};
    alarm.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &alarm, nullptr);
    const Stopwatch watch;
    for (; watch.elapsed() < time && !::testing::Test::HasFailure(); ++turn_) {
      if (on_mirror_) {
        act_on_the_mirror();
      } else {
        act_on_the_source();
      }
    }
  }

 private:
  // Below `bound`.
  unsigned dice(unsigned bound) { return static_cast<unsigned>(random_() % bound); }
  [[nodiscard]] std::string path() { return directory_ + "/" + name_of(dice(kFiles)); }
  [[nodiscard]] Millis patience() { return Millis(dice(10) == 0 ? 1 + dice(20) : 2000); }

  void wrong(const std::string& what) { ADD_FAILURE() << "process " << index_ << ", turn " << turn_ << ": " << what; }
  void check(bool good, const char* what) {
    if (!good) wrong(what);
  }

  // On the mirror: the open is the lock, of both kinds.
  void act_on_the_mirror() {
    switch (dice(24)) {
      case 0:
        return truncates_ ? truncate_by_path() : open_and_use();
      case 1:
        return replace();
      case 2:
        return kill_somebody();
      case 3:
        return lock_by_call();
      case 4:
        (void)::unlink(path().c_str());
        return;
      default:
        return open_and_use();
    }
  }

  int random_flags() {
    constexpr std::array kFlags{O_RDONLY,
                                O_RDONLY,
                                O_RDONLY,
                                O_RDWR,
                                O_WRONLY,
                                O_RDWR | O_TRUNC,
                                O_WRONLY | O_APPEND,
                                O_RDWR | O_CREAT,
                                O_RDWR | O_CREAT | O_EXCL,
                                O_RDONLY | O_CREAT};
    const int flags = kFlags[dice(kFlags.size())];
    return flags | (dice(6) == 0 ? O_NONBLOCK : 0) | O_CLOEXEC;
  }

  // ESTALE: the name led elsewhere when the file was locked, and at the kernel's second and last try it had been
  // removed and made again. Seen once in a hundred runs of five seconds.
  bool may_fail(int flags, int error) {
    if (error == ESTALE) return ++stale_ <= 1 + turn_ / 500;
    return error == EINTR || (error == EAGAIN && (flags & O_NONBLOCK) != 0) ||
           (error == ENOENT && (flags & O_CREAT) == 0) || (error == EEXIST && (flags & O_EXCL) != 0);
  }

  UniqueFd open_some(int flags) {
    const Patience limit(patience());
    UniqueFd fd(::open(path().c_str(), flags, 0644));
    if (!fd && !may_fail(flags, errno)) wrong("open with flags " + std::to_string(flags) + ": " + errno_name(errno));
    return fd;
  }

  void open_and_use() {
    const int flags = random_flags();
    UniqueFd fd = open_some(flags);
    if (!fd) return;
    const bool writes = (flags & O_ACCMODE) != O_RDONLY;
    const ino_t file = enter_both(fd.get(), writes);
    if ((flags & O_ACCMODE) != O_WRONLY) check_contents(fd.get());
    if (writes && dice(2) == 0) write_contents(fd.get());
    switch (dice(8)) {
      case 0:
        return hand_to_copy(std::move(fd), file, writes);
      case 1:
        return hand_to_child(std::move(fd), file, writes);
      case 2:
        if ((flags & O_ACCMODE) != O_WRONLY) return hand_to_mapping(std::move(fd), file, writes);
        break;
      default:
        break;
    }
    leave_both(file, writes);
  }

  ino_t enter_both(int fd, bool writes) {
    struct stat st {};
    check(::fstat(fd, &st) == 0, "fstat");
    check(sections_.enter(st.st_ino, Sections::Kind::kFlock, writes), "not alone when it came (flock)");
    check(sections_.enter(st.st_ino, Sections::Kind::kRecord, writes), "not alone when it came (record lock)");
    return st.st_ino;
  }
  void leave_both(ino_t file, bool writes) {
    check(sections_.leave(file, Sections::Kind::kFlock, writes), "not alone when it left (flock)");
    check(sections_.leave(file, Sections::Kind::kRecord, writes), "not alone when it left (record lock)");
  }

  void hand_to_copy(UniqueFd fd, ino_t file, bool writes) {
    const UniqueFd copy(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    fd.reset();
    ::usleep(dice(2000));
    leave_both(file, writes);
  }

  void hand_to_child(UniqueFd fd, ino_t file, bool writes) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::usleep(dice(2000));
      leave_both(file, writes);
      ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
    fd.reset();
    int status = 0;
    ::waitpid(child, &status, 0);
    check(status == 0, "its child has seen it, above");
  }

  // The lock outlives the descriptor.
  void hand_to_mapping(UniqueFd fd, ino_t file, bool writes) {
    struct stat st {};
    check(::fstat(fd.get(), &st) == 0, "fstat");
    const auto size = static_cast<std::size_t>(st.st_size);
    void* memory = size == 0 ? MAP_FAILED : ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
    if (memory == MAP_FAILED) return leave_both(file, writes);
    fd.reset();
    ::usleep(dice(2000));
    check(is_whole(std::string(static_cast<const char*>(memory), size)), "a mapping is half written");
    leave_both(file, writes);
    ::munmap(memory, size);
  }

  void truncate_by_path() {
    const Patience limit(patience());
    if (::truncate(path().c_str(), dice(5000)) == 0) return;
    if (errno != EAGAIN && errno != EINTR && errno != ENOENT) wrong("truncate: " + errno_name(errno));
  }

  // As editors do it. What is longer than it was is filled with zeros, so the new one is written, not truncated.
  void replace() {
    const std::string aside = directory_ + "/aside" + std::to_string(index_);
    {
      const UniqueFd fd(::open(aside.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
      if (!fd) return wrong("creating " + aside + ": " + errno_name(errno));
      write_contents(fd.get());
    }
    check(::rename(aside.c_str(), path().c_str()) == 0, "rename");
  }

  // One who waits, or holds, or is about to.
  void kill_somebody() {
    const int flags = random_flags();
    const std::string file = path();
    const pid_t victim = ::fork();
    if (victim == 0) {
      const int fd = ::open(file.c_str(), flags, 0644);
      char byte = 0;
      if (fd >= 0 && dice(2) == 0) (void)!::read(fd, &byte, 1);
      for (;;) ::pause();
    }
    ::usleep(dice(5000));
    ::kill(victim, SIGKILL);
    ::waitpid(victim, nullptr, 0);
  }

  // Locks that a client takes itself, beside the one of its open: they must neither harm nor remain.
  void lock_by_call() {
    const UniqueFd fd = open_some(O_RDWR | O_CREAT | O_CLOEXEC);
    if (!fd) return;
    const Patience limit(patience());
    const bool waits = dice(2) == 0;
    (void)::flock(fd.get(), (dice(2) == 0 ? LOCK_SH : LOCK_EX) | (waits ? 0 : LOCK_NB));
    (void)set_record(fd.get(), dice(2) == 0 ? F_RDLCK : F_WRLCK, dice(2) == 0 ? RecordLock::kPosix : RecordLock::kOfd,
                     waits);
    const ino_t file = enter_both(fd.get(), true);
    if (dice(2) == 0) (void)::flock(fd.get(), LOCK_UN);
    write_contents(fd.get());
    leave_both(file, true);
  }

  // On the source: the lock is a call, of one kind; writers take both.
  void act_on_the_source() {
    if (dice(20) == 0) return replace_locked();
    const UniqueFd fd(::open(path().c_str(), O_RDWR | O_CLOEXEC));
    if (!fd) return check(errno == ENOENT, "open on the source");
    struct stat st {};
    check(::fstat(fd.get(), &st) == 0, "fstat");
    const unsigned kinds = 1 + dice(3);
    const bool exclusive = kinds == 3 || dice(2) == 0;
    const RecordLock record = dice(2) == 0 ? RecordLock::kPosix : RecordLock::kOfd;
    if (!lock(fd.get(), kinds, exclusive, record)) return;
    for (const auto kind : {Sections::Kind::kFlock, Sections::Kind::kRecord}) {
      if ((kinds >> static_cast<unsigned>(kind) & 1U) != 0) {
        check(sections_.enter(st.st_ino, kind, exclusive), "not alone when it came (source)");
      }
    }
    check_contents(fd.get());
    if (kinds == 3 && dice(2) == 0) write_contents(fd.get());
    if (dice(10) == 0) ::usleep(dice(3000));
    for (const auto kind : {Sections::Kind::kFlock, Sections::Kind::kRecord}) {
      if ((kinds >> static_cast<unsigned>(kind) & 1U) != 0) {
        check(sections_.leave(st.st_ino, kind, exclusive), "not alone when it left (source)");
      }
    }
  }

  // Those who want both must not wait for one while they hold the other: the others might have it the other way round.
  bool lock(int fd, unsigned kinds, bool exclusive, RecordLock record) {
    const auto type = static_cast<short>(exclusive ? F_WRLCK : F_RDLCK);
    const int how = exclusive ? LOCK_EX : LOCK_SH;
    const Patience limit(patience());
    if (kinds == 2) return set_record(fd, type, record, true) == 0;
    for (int tries = 0;; ++tries) {
      if (::flock(fd, how) != 0) return false;
      if (kinds == 1 || set_record(fd, type, record) == 0) return true;
      ::flock(fd, LOCK_UN);
      if (tries == 50) return false;
      ::usleep(dice(1000));
    }
  }

  void replace_locked() {
    const std::string aside = directory_ + "/aside" + std::to_string(index_);
    const UniqueFd fd(::open(aside.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd) return wrong("creating " + aside);
    write_contents(fd.get());
    check(::rename(aside.c_str(), path().c_str()) == 0, "rename on the source");
  }

  // What is in the files: one letter, over and over.
  void write_contents(int fd) {
    const std::string text(1 + dice(9000), static_cast<char>('a' + dice(26)));
    check(::ftruncate(fd, 0) == 0 && ::lseek(fd, 0, SEEK_SET) == 0, "ftruncate");
    for (std::size_t done = 0; done < text.size();) {
      const std::size_t part = std::min<std::size_t>(text.size() - done, 1 + dice(4000));
      if (::write(fd, text.data() + done, part) != static_cast<ssize_t>(part)) return wrong("write");
      done += part;
      if (dice(4) == 0) ::sched_yield();
    }
  }

  void check_contents(int fd) {
    struct stat before {};
    struct stat after {};
    check(::fstat(fd, &before) == 0, "fstat");
    const std::string text = read_all(fd);
    check(::fstat(fd, &after) == 0, "fstat");
    if (before.st_size != after.st_size || text.size() != static_cast<std::size_t>(before.st_size)) {
      wrong("the size has changed under a lock: " + std::to_string(before.st_size) + ", read " +
            std::to_string(text.size()) + ", then " + std::to_string(after.st_size));
    }
    check(is_whole(text), "a file is half written");
  }

  // A truncation that made it longer has put zeros at its end.
  static bool is_whole(std::string text) {
    text.resize(text.find_last_not_of('\0') + 1);
    return text.empty() || text.find_first_not_of(text.front()) == std::string::npos;
  }

  Sections& sections_;
  const std::string directory_;
  const bool on_mirror_;
  const bool truncates_;
  const int index_;
  std::mt19937_64 random_;
  int turn_ = 0;
  int stale_ = 0;
};

class SoakTest : public PassthroughTest {
 protected:
  static Millis duration() {
    const char* minutes = std::getenv("FLOCKFS_SOAK_MINUTES");
    return minutes == nullptr ? Millis(5000) : Millis(static_cast<int>(std::strtod(minutes, nullptr) * 60'000 / 2));
  }
  static unsigned seed() {
    const char* seed = std::getenv("FLOCKFS_SOAK_SEED");
    return seed == nullptr ? std::random_device()() : static_cast<unsigned>(std::strtoul(seed, nullptr, 10));
  }
};
INSTANTIATE_TEST_SUITE_P(Mount, SoakTest, BothPassthroughs(), passthrough_name);

TEST_P(SoakTest, NobodyIsInsideWithAnotherAndNothingRemains) {
  for (unsigned i = 0; i < kFiles; ++i) write_file(source(name_of(i)), "a");
  mount({.options = {"lock=flock+ofd", "nonblock=try", "log_level=warning"},
         .test_deadline = duration() + Millis(100'000)});
  EXPECT_TRUE(in_child([&] {
    for (unsigned i = 0; i < kFiles; ++i) EXPECT_EQ(open_error(mnt(name_of(i)), O_RDWR), 0);
  }));
  const int threads = mirror().threads();
  const int descriptors = mirror().descriptors();
  const bool truncates = GetParam() == Passthrough::kAuto;
  const unsigned chosen = seed();
  std::printf("soak: FLOCKFS_SOAK_SEED=%u\n", chosen);
  std::fflush(stdout);
  Sections sections;
  std::vector<Child> actors;
  for (int index = 0; index < kOnTheMirror + kOnTheSource; ++index) {
    const bool on_mirror = index < kOnTheMirror;
    const auto side = on_mirror ? mnt() : source();
    actors.emplace_back([&](Peer&) { Actor(sections, side, on_mirror, truncates, chosen, index).run(duration()); });
  }
  for (Child& actor : actors) EXPECT_TRUE(actor.ends_well(duration() + kPatience * 4));
  std::printf("soak: %llu times inside alone, %llu times with others\n",
              static_cast<unsigned long long>(sections.entered(true)),
              static_cast<unsigned long long>(sections.entered(false)));
  EXPECT_GT(sections.entered(true), 100u);
  EXPECT_GT(sections.entered(false), 100u);
  EXPECT_EQ(sections.inside(), 0u);

  for (const std::string& name : list_dir(source())) {
    EXPECT_TRUE(becomes_free(source(name)));
    EXPECT_TRUE(record_becomes(source(name), LockSeen::kFree));
  }
  expect_as_small_as(threads, descriptors, "f0");
}

}  // namespace
}  // namespace flockfs::test
