#include "tree/kept_fds.h"

#include <gmock/gmock.h>

#include <cerrno>
#include <map>
#include <thread>

#include "tree/identity.h"
#include "tree/temp_tree.h"

namespace flockfs {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

// Inodes that no handle finds again, on whatever file system, with the names that a test gives them.
class KeptFdsTest : public TempTree {
 protected:
  static constexpr std::size_t kMost = 3;

  void SetUp() override {
    TempTree::SetUp();
    kept_ = std::make_unique<KeptFds>(*source_, kMost, [this](const Inode& inode) {
      const auto names = names_.find(&inode);
      return names == names_.end() ? std::vector<InodeName>{} : names->second;
    });
  }
  void TearDown() override {
    root_fd_.reset();
    root_.reset();
    names_.clear();
    inodes_.clear();
    kept_.reset();
    TempTree::TearDown();
  }

  [[nodiscard]] UniqueFd reach(const std::string& name) const {
    UniqueFd fd(::openat(source_->root_fd(), name.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
    EXPECT_TRUE(fd.valid()) << name;
    return fd;
  }
  // Of what is there now; without a name.
  InodePtr inode_of(const std::string& path) {
    const UniqueFd fd = reach(path);
    const SourceMount& mount = source_->root_mount();
    const auto looked = look_at(fd.get());
    EXPECT_TRUE(looked.ok());
    const std::string identity = identity_of(mount, identifying_handle(mount, fd.get()), looked->st);
    inodes_.emplace_back(new Inode(mount, *kept_, identity, false, looked->st));
    return inodes_.back();
  }
  // SOURCE itself, which is always within reach.
  InodePtr root() {
    if (!root_) {
      root_ = inode_of(".");
      root_fd_ = kept_->keep(*root_, reach("."));
    }
    return root_;
  }
  InodePtr file(const std::string& name) {
    write(name, name);
    const InodePtr inode = inode_of(name);
    names_[inode.get()] = {{root(), name}};
    return inode;
  }
  void expect_found(const InodePtr& inode) {
    auto fd = kept_->get(*inode);
    ASSERT_TRUE(fd.ok()) << fd.error().message();
    EXPECT_TRUE(inode->is(fd->get()));
  }
  void expect_stale(const InodePtr& inode) {
    auto fd = kept_->get(*inode);
    ASSERT_FALSE(fd.ok());
    EXPECT_EQ(fd.error().code, ESTALE);
  }

  std::map<const Inode*, std::vector<InodeName>> names_;
  std::unique_ptr<KeptFds> kept_;

 private:
  std::vector<InodePtr> inodes_;  // as the kernel's lookups would hold them
  InodePtr root_;
  std::optional<PathFd> root_fd_;
};

TEST_F(KeptFdsTest, WhatIsKeptIsAtHand) {
  const InodePtr inode = file("a");
  UniqueFd fd = reach("a");
  const int number = fd.get();
  EXPECT_EQ(kept_->keep(*inode, std::move(fd)).get(), number);
  ASSERT_TRUE(kept_->at_hand(*inode).has_value());
  EXPECT_EQ(kept_->at_hand(*inode)->get(), number);
  EXPECT_EQ(kept_->get(*inode)->get(), number);
}

TEST_F(KeptFdsTest, WhatIsNotKeptIsFoundByItsNameAndThenAtHand) {
  const InodePtr inode = file("a");
  EXPECT_FALSE(kept_->at_hand(*inode).has_value());
  expect_found(inode);
  EXPECT_TRUE(kept_->at_hand(*inode).has_value());
}

TEST_F(KeptFdsTest, NoMoreAreKeptThanAskedForAndTheLeastRecentlyUsedGoes) {
  std::vector<InodePtr> inodes;
  std::vector<int> numbers;
  for (std::size_t i = 0; i <= kMost; ++i) inodes.push_back(file("f" + std::to_string(i)));
  std::vector<UniqueFd> fds;
  for (std::size_t i = 0; i <= kMost; ++i) fds.push_back(reach("f" + std::to_string(i)));
  for (const UniqueFd& fd : fds) numbers.push_back(fd.get());
  for (std::size_t i = 0; i < kMost; ++i) (void)kept_->keep(*inodes[i], std::move(fds[i]));
  EXPECT_TRUE(kept_->at_hand(*inodes[0]).has_value());  // used just now
  (void)kept_->keep(*inodes[kMost], std::move(fds[kMost]));
  EXPECT_FALSE(is_open(numbers[1]));
  EXPECT_FALSE(kept_->at_hand(*inodes[1]).has_value());
  for (const std::size_t i : {std::size_t{0}, std::size_t{2}, kMost}) {
    EXPECT_TRUE(is_open(numbers[i])) << i;
    EXPECT_TRUE(kept_->at_hand(*inodes[i]).has_value()) << i;
  }
}

TEST_F(KeptFdsTest, WhoeverHoldsOneKeepsItOpenAndIsNotGivenAnother) {
  const InodePtr inode = file("a");
  std::optional<PathFd> held = kept_->keep(*inode, reach("a"));
  const int number = held->get();
  for (std::size_t i = 0; i < 2 * kMost; ++i) expect_found(file("f" + std::to_string(i)));
  EXPECT_TRUE(is_open(number));
  EXPECT_EQ(kept_->at_hand(*inode)->get(), number) << "there is one already";
  for (std::size_t i = 0; i < 2 * kMost; ++i) expect_found(file("g" + std::to_string(i)));
  held.reset();
  EXPECT_FALSE(kept_->at_hand(*inode).has_value());
  expect_found(inode);
}

TEST_F(KeptFdsTest, SecondDescriptorOfOneObjectIsClosed) {
  const InodePtr inode = file("a");
  UniqueFd first = reach("a");
  UniqueFd second = reach("a");
  const int numbers[] = {first.get(), second.get()};
  (void)kept_->keep(*inode, std::move(first));
  EXPECT_EQ(kept_->keep(*inode, std::move(second)).get(), numbers[0]);
  EXPECT_TRUE(is_open(numbers[0]));
  EXPECT_FALSE(is_open(numbers[1]));
}

TEST_F(KeptFdsTest, WhatIsDroppedIsClosedUnlessSomebodyHoldsIt) {
  const InodePtr one = file("a");
  const InodePtr other = file("b");
  UniqueFd fd = reach("a");
  const int number = fd.get();
  (void)kept_->keep(*one, std::move(fd));
  const PathFd held = kept_->keep(*other, reach("b"));
  kept_->drop(*one);
  kept_->drop(*one);
  kept_->drop(*other);
  EXPECT_FALSE(is_open(number));
  EXPECT_TRUE(is_open(held.get()));
  EXPECT_FALSE(kept_->at_hand(*other).has_value()) << "its place may be another inode's by now";
}

TEST_F(KeptFdsTest, AnyOfItsNamesLeadsToIt) {
  const InodePtr inode = file("a");
  ASSERT_EQ(::link(at("a").c_str(), at("b").c_str()), 0);
  names_[inode.get()] = {{root(), "b"}, {root(), "a"}};
  ASSERT_EQ(::unlink(at("a").c_str()), 0);
  expect_found(inode);
}

TEST_F(KeptFdsTest, WhatHasNoNameAnyMoreIsStale) {
  const InodePtr gone = file("a");
  ASSERT_EQ(::unlink(at("a").c_str()), 0);
  expect_stale(gone);
  const InodePtr nameless = file("b");
  names_.erase(nameless.get());
  expect_stale(nameless);
}

TEST_F(KeptFdsTest, AnotherFileOfItsNameIsNotIt) {
  const InodePtr inode = file("a");
  const InodePtr other = file("b");
  ASSERT_EQ(::rename(at("a").c_str(), at("c").c_str()), 0);
  ASSERT_EQ(::rename(at("b").c_str(), at("a").c_str()), 0);
  expect_stale(inode);
  EXPECT_FALSE(kept_->at_hand(*inode).has_value());
  names_[other.get()] = {{root(), "a"}};
  expect_found(other);
}

// From the nearest directory that is at hand, which here is SOURCE itself.
TEST_F(KeptFdsTest, WayDownLeadsThroughDirectoriesThatAreNotKept) {
  ASSERT_EQ(::mkdir(at("d").c_str(), 0700), 0);
  ASSERT_EQ(::mkdir(at("d/e").c_str(), 0700), 0);
  write("d/e/f", "x");
  const InodePtr outer = inode_of("d");
  const InodePtr inner = inode_of("d/e");
  const InodePtr inode = inode_of("d/e/f");
  names_[outer.get()] = {{root(), "d"}};
  names_[inner.get()] = {{outer, "e"}};
  names_[inode.get()] = {{inner, "f"}};
  expect_found(inode);
  EXPECT_FALSE(kept_->at_hand(*outer).has_value());
  EXPECT_FALSE(kept_->at_hand(*inner).has_value());

  kept_->drop(*inode);
  ASSERT_EQ(::rename(at("d").c_str(), at("moved").c_str()), 0);
  expect_stale(inode);
  names_[outer.get()] = {{root(), "moved"}};
  expect_found(inode);
}

TEST_F(KeptFdsTest, SymlinkInPlaceOfADirectoryIsNotFollowed) {
  ASSERT_EQ(::mkdir(at("d").c_str(), 0700), 0);
  write("d/f", "x");
  const InodePtr directory = inode_of("d");
  const InodePtr inode = inode_of("d/f");
  names_[directory.get()] = {{root(), "d"}};
  names_[inode.get()] = {{directory, "f"}};
  ASSERT_EQ(::rename(at("d").c_str(), at("e").c_str()), 0);
  ASSERT_EQ(::symlink("e", at("d").c_str()), 0);
  expect_stale(inode);
}

TEST_F(KeptFdsTest, DirectoriesThatHoldEachOtherByTheirNamesLeadNowhere) {
  ASSERT_EQ(::mkdir(at("d").c_str(), 0700), 0);
  ASSERT_EQ(::mkdir(at("d/e").c_str(), 0700), 0);
  const InodePtr outer = inode_of("d");
  const InodePtr inner = inode_of("d/e");
  names_[outer.get()] = {{inner, "loop"}};
  names_[inner.get()] = {{outer, "e"}};
  expect_stale(inner);
}

TEST_F(KeptFdsTest, ManyThreadsAlwaysGetTheRightOne) {
  std::vector<InodePtr> inodes;
  for (std::size_t i = 0; i < 3 * kMost; ++i) inodes.push_back(file("f" + std::to_string(i)));
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (std::size_t i = 0; i < 1000; ++i) {
        const InodePtr& inode = inodes[(i * (2 * t + 1)) % inodes.size()];
        auto fd = kept_->get(*inode);
        ASSERT_TRUE(fd.ok());
        ASSERT_TRUE(inode->is(fd->get()));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace flockfs
