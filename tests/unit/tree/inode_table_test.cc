#include "tree/inode_table.h"

#include <gmock/gmock.h>

#include <thread>

#include "tree/temp_tree.h"

namespace flockfs {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAre;

using InodeTableTest = TempTree;

TEST_F(InodeTableTest, OneObjectIsOneInodeHoweverOftenItIsLookedUp) {
  write("a", "x");
  EXPECT_EQ(look("a").inode, look("a").inode);
  EXPECT_EQ(table_->size(), 2U);  // with SOURCE itself
}

TEST_F(InodeTableTest, HardLinksAreOneInodeWithAllItsPaths) {
  write("a", "x");
  ASSERT_EQ(::link(at("a").c_str(), at("b").c_str()), 0);
  const InodePtr inode = look("a").inode;
  EXPECT_EQ(look("b").inode, inode);
  EXPECT_THAT(table_->paths(*inode), UnorderedElementsAre(at("a"), at("b")));
}

TEST_F(InodeTableTest, AnInodeIsDroppedWithItsLastLookup) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  look("a");
  look("a");
  table_->forget(inode, 2);
  EXPECT_EQ(table_->size(), 2U);
  table_->forget(inode, 1);
  EXPECT_EQ(table_->size(), 1U);
}

TEST_F(InodeTableTest, ForgettingMoreThanWasLookedUpIsNotBelieved) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  table_->forget(inode, 1000);
  EXPECT_EQ(table_->size(), 1U);
  table_->forget(inode, 1);
  EXPECT_EQ(look("a").inode->ino(), inode->ino());
}

TEST_F(InodeTableTest, TheRootIsNeverForgotten) {
  table_->forget(table_->root(), 1000);
  EXPECT_EQ(table_->size(), 1U);
}

TEST_F(InodeTableTest, AFileThatTakesANumberOverIsAnotherInode) {
  write("a", "x");
  const InodePtr first = look("a").inode;
  ASSERT_EQ(::unlink(at("a").c_str()), 0);
  for (int i = 0; i < 64; ++i) {  // ext4 gives the number out again soon
    write("b" + std::to_string(i), "y");
    EXPECT_NE(look("b" + std::to_string(i)).inode, first);
  }
}

TEST_F(InodeTableTest, AGoneFileCannotBeOpenedAsAnother) {
  write("a", "x");
  const InodePtr inode = look("a").inode;
  ASSERT_EQ(::unlink(at("a").c_str()), 0);
  write("b", "y");
  auto fd = inode->open(O_RDONLY);
  if (fd.ok()) {  // where a descriptor keeps the object: it is still itself
    struct stat st {};
    ASSERT_EQ(::fstat(fd->get(), &st), 0);
    EXPECT_EQ(st.st_nlink, 0U);
  } else {
    EXPECT_EQ(fd.error().code, ESTALE);
  }
}

TEST_F(InodeTableTest, ASymlinkIsNeverFollowed) {
  ASSERT_EQ(::symlink("/etc/passwd", at("s").c_str()), 0);
  const Found found = look("s");
  EXPECT_TRUE(found.inode->is_symlink());
  EXPECT_EQ(found.inode->open(O_RDONLY).error().code, ENXIO);
}

TEST_F(InodeTableTest, AFifoIsNeverOpened) {
  ASSERT_EQ(::mkfifo(at("f").c_str(), 0600), 0);
  EXPECT_EQ(look("f").inode->open(O_RDONLY | O_NONBLOCK).error().code, ENXIO);
}

TEST_F(InodeTableTest, ADirectoryMovedAwayHasOnePath) {
  ASSERT_EQ(::mkdir(at("d").c_str(), 0700), 0);
  write("d/a", "x");
  const InodePtr directory = look("d").inode;
  const InodePtr file = look(directory, "a").inode;
  ASSERT_EQ(::rename(at("d").c_str(), at("e").c_str()), 0);
  table_->remove_name(directory, table_->root(), "d");
  table_->add_name(directory, table_->root(), "e");
  EXPECT_THAT(table_->paths(*file), ElementsAre(at("e/a")));
  EXPECT_EQ(table_->path_in(*directory, "b"), at("e/b"));
}

TEST_F(InodeTableTest, DirectoriesThatSwappedPlacesBehindUsHaveAPathOfSomeLength) {
  ASSERT_EQ(::mkdir(at("a").c_str(), 0700), 0);
  ASSERT_EQ(::mkdir(at("a/b").c_str(), 0700), 0);
  const InodePtr outer = look("a").inode;
  const InodePtr inner = look(outer, "b").inode;
  table_->add_name(outer, inner, "loop");  // as after mv a/b b; mv a b/loop by the source
  EXPECT_LT(table_->path(*inner).size(), 1U << 20);
}

TEST_F(InodeTableTest, AFileWithoutANameSaysSo) {
  auto fd = UniqueFd(::open(dir_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_TRUE(fd);
  auto found = table_->adopt(std::move(fd), table_->root(), "");
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(table_->names(*found->inode).empty());
  EXPECT_EQ(table_->path(*found->inode), dir_ + " (deleted)");
}

// What the table holds is closed with the descriptor that it was given: the file lives by the table alone.
TEST_F(InodeTableTest, AFileThatHasNoNameYetIsKeptInBeing) {
  UniqueFd fd(::openat(source_->root_fd(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  ASSERT_TRUE(fd.valid());
  auto found = table_->adopt(std::move(fd), table_->root(), "");
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found->inode->open(O_RDONLY).ok());
  EXPECT_TRUE(found->inode->path_fd().ok());
}

TEST_F(InodeTableTest, AFileThatGotANameIsKeptNoLonger) {
  if (!source_->root_mount().reopens) GTEST_SKIP() << "no handles here: every file is kept";
  UniqueFd fd(::openat(source_->root_fd(), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  auto found = table_->adopt(std::move(fd), table_->root(), "");
  ASSERT_TRUE(found.ok());
  {
    auto path = found->inode->path_fd();
    const int made = ::linkat(AT_FDCWD, ProcFdPath(path->get()).c_str(), source_->root_fd(), "a", AT_SYMLINK_FOLLOW);
    ASSERT_EQ(made, 0);
  }
  EXPECT_EQ(look("a").inode, found->inode);
  ASSERT_EQ(::unlink(at("a").c_str()), 0);
  EXPECT_EQ(found->inode->open(O_RDONLY).error().code, ESTALE);
}

TEST_F(InodeTableTest, FindCountsNoLookup) {
  write("a", "x");
  const UniqueFd fd(::openat(source_->root_fd(), "a", O_PATH | O_CLOEXEC));
  EXPECT_EQ(table_->find(fd.get(), table_->root()), nullptr);
  const InodePtr inode = look("a").inode;
  EXPECT_EQ(table_->find(fd.get(), table_->root()), inode);
  table_->forget(inode, 1);
  EXPECT_EQ(table_->find(fd.get(), table_->root()), nullptr);
}

TEST_F(InodeTableTest, LookupsAndForgetsByManyThreadsComeOutEven) {
  for (int i = 0; i < 16; ++i) write("f" + std::to_string(i), "x");
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 2000; ++i) {
        auto found = table_->lookup(table_->root(), ("f" + std::to_string(i % 16)).c_str());
        ASSERT_TRUE(found.ok());
        table_->forget(found->inode, 1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(table_->size(), 1U);
}

}  // namespace
}  // namespace flockfs
