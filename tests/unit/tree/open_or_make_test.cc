#include "tree/open_or_make.h"

#include <sys/file.h>

#include <thread>

#include "tree/temp_tree.h"

namespace flockfs {
namespace {

constexpr uid_t kUser = 12345;

// Runs in a thread of its own, with a umask of its own, as the workers do.
class OpenOrMakeTest : public TempTree {
 protected:
  Result<OpenedOrMade> open_or_make_f(int flags, const BeforeVisible& lock_new, const BeforeVisible& lock_present,
                                      const Caller& caller = {}) const {
    Result<OpenedOrMade> result = Error{};
    std::thread([&] {
      ASSERT_TRUE(own_umask().ok());
      result = open_or_make({source_->root_fd(), "f", flags, 0666, caller}, lock_new, lock_present);
    }).join();
    return result;
  }
  // As another would see it.
  [[nodiscard]] bool is_locked(const std::string& name) const {
    const UniqueFd fd(::open(at(name).c_str(), O_RDONLY | O_CLOEXEC));
    return ::flock(fd.get(), LOCK_SH | LOCK_NB) != 0;
  }
  [[nodiscard]] std::string contents(const std::string& name) const {
    std::string text;
    std::getline(std::ifstream(at(name)), text);
    return text;
  }
};

Status lock(int fd) { return ::flock(fd, LOCK_EX | LOCK_NB) == 0 ? Status{} : Status{errno_error()}; }
Status fail(int) { return Error{ENOLCK, {}}; }

TEST_F(OpenOrMakeTest, WhatIsThereIsLockedAndOpened) {
  write("f", "his");
  const auto opened = open_or_make_f(O_RDWR, lock, lock);
  ASSERT_TRUE(opened.ok());
  EXPECT_FALSE(opened->made);
  EXPECT_TRUE(is_locked("f"));
  EXPECT_EQ(contents("f"), "his");
}

TEST_F(OpenOrMakeTest, WhatIsThereIsCutOnlyUnderItsLock) {
  write("f", "his");
  const UniqueFd his(::open(at("f").c_str(), O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(::flock(his.get(), LOCK_SH), 0);
  const auto refused = open_or_make_f(O_WRONLY | O_TRUNC, lock, lock);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, EAGAIN);
  EXPECT_EQ(contents("f"), "his");
  ASSERT_EQ(::flock(his.get(), LOCK_UN), 0);
  ASSERT_TRUE(open_or_make_f(O_WRONLY | O_TRUNC, lock, lock).ok());
  EXPECT_EQ(contents("f"), "");
}

TEST_F(OpenOrMakeTest, WhatIsNotThereIsMadeLocked) {
  const auto made = open_or_make_f(O_RDONLY, lock, fail);
  ASSERT_TRUE(made.ok());
  EXPECT_TRUE(made->made);
  EXPECT_TRUE(is_locked("f"));
}

// The name goes to another file whenever the one that has it is being locked.
TEST_F(OpenOrMakeTest, AFileThatHasLostItsNameIsServedOnlyInTheEnd) {
  write("f", "0");
  int turns = 0;
  const auto replace = [&](int) {
    write("next", std::to_string(++turns));
    EXPECT_EQ(::rename(at("next").c_str(), at("f").c_str()), 0);
    return Status{};
  };
  const auto opened = open_or_make_f(O_RDONLY, lock, replace);
  ASSERT_TRUE(opened.ok());
  EXPECT_FALSE(opened->made);
  EXPECT_GT(turns, 10);
  EXPECT_EQ(contents("f"), std::to_string(turns)) << "nothing was made over it";
}

TEST_F(OpenOrMakeTest, AFileThatKeepsItsNameInTheEndIsTheOneThatIsServed) {
  write("f", "0");
  int turns = 0;
  const auto replace_twice = [&](int) {
    if (turns == 2) return Status{};
    write("next", std::to_string(++turns));
    EXPECT_EQ(::rename(at("next").c_str(), at("f").c_str()), 0);
    return Status{};
  };
  const auto opened = open_or_make_f(O_RDONLY, lock, replace_twice);
  ASSERT_TRUE(opened.ok());
  char byte = 0;
  ASSERT_EQ(::pread(opened->fd.get(), &byte, 1, 0), 1);
  EXPECT_EQ(byte, '2');
}

TEST_F(OpenOrMakeTest, WithoutADirectoryThereIsNothingToOpen) {
  const auto lost = [&](int fd) {
    ADD_FAILURE() << fd;
    return Status{};
  };
  ASSERT_EQ(::mkdir(at("d").c_str(), 0755), 0);
  const UniqueFd gone(::open(at("d").c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  ASSERT_EQ(::rmdir(at("d").c_str()), 0);
  std::thread([&] {
    ASSERT_TRUE(own_umask().ok());
    const auto result = open_or_make({gone.get(), "f", O_RDWR, 0666, Caller{}}, lost, lost);
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, ENOENT);
  }).join();
}

TEST_F(OpenOrMakeTest, TheCallersRightsCountForWhatIsThere) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  write("f", "secret");
  ASSERT_EQ(::chmod(at("f").c_str(), 0600), 0);
  const auto refused = open_or_make_f(O_RDONLY, lock, lock, Caller{kUser, kUser, 022, {}});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, EACCES);
}

}  // namespace
}  // namespace flockfs
