#include "tree/dir_stream.h"

#include <set>

#include "tree/temp_tree.h"

namespace flockfs {
namespace {

class Collector : public DirStream::Visitor {
 public:
  explicit Collector(std::size_t most) : most_(most) {}
  bool visit(const DirStream::Entry& entry) override {
    if (names.size() >= most_) return false;
    names.insert(std::string(entry.name));
    next = entry.next;
    return true;
  }
  std::multiset<std::string> names;
  std::int64_t next = 0;

 private:
  std::size_t most_;
};

class DirStreamTest : public TempTree {
 protected:
  DirStream stream() { return DirStream(UniqueFd(::open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC))); }
};

TEST_F(DirStreamTest, ShowsEachEntryOnceWhateverThePiecesItIsReadIn) {
  std::multiset<std::string> expected{".", ".."};
  for (int i = 0; i < 1500; ++i) {
    write("file-with-a-longer-name-" + std::to_string(i), "");
    expected.insert("file-with-a-longer-name-" + std::to_string(i));
  }
  DirStream dir = stream();
  std::multiset<std::string> seen;
  for (std::int64_t at = 0;;) {
    Collector piece(37);
    ASSERT_TRUE(dir.read(at, piece).ok());
    if (piece.names.empty()) break;
    seen.insert(piece.names.begin(), piece.names.end());
    at = piece.next;
  }
  EXPECT_EQ(seen, expected);
}

TEST_F(DirStreamTest, AnEntryThatFoundNoRoomIsShownAgain) {
  write("a", "");
  DirStream dir = stream();
  Collector none(0);
  ASSERT_TRUE(dir.read(0, none).ok());
  Collector all(100);
  ASSERT_TRUE(dir.read(0, all).ok());
  EXPECT_EQ(all.names.size(), 3U);
}

TEST_F(DirStreamTest, RewindingSeesWhatIsNew) {
  DirStream dir = stream();
  Collector before(100);
  ASSERT_TRUE(dir.read(0, before).ok());
  write("new", "");
  Collector after(100);
  ASSERT_TRUE(dir.read(0, after).ok());
  EXPECT_EQ(after.names.count("new"), 1U);
}

TEST_F(DirStreamTest, SeekingBackShowsTheRestAgain) {
  for (int i = 0; i < 20; ++i) write(std::to_string(i), "");
  DirStream dir = stream();
  Collector first(5);
  ASSERT_TRUE(dir.read(0, first).ok());
  Collector rest(100);
  ASSERT_TRUE(dir.read(first.next, rest).ok());
  Collector again(100);
  ASSERT_TRUE(dir.read(first.next, again).ok());
  EXPECT_EQ(rest.names, again.names);
  EXPECT_EQ(rest.names.size(), 17U);
}

// Where the source's own place in the directory is, no seek has moved it.
TEST_F(DirStreamTest, GoingBackWithinWhatTheLastReadShowedAsksTheSourceForNothing) {
  for (int i = 0; i < 3000; ++i) write("file-with-a-longer-name-" + std::to_string(i), "");
  DirStream dir = stream();
  Collector begin(100);
  ASSERT_TRUE(dir.read(0, begin).ok());
  Collector back(70);  // what the kernel has made use of
  Collector much(2000);
  ASSERT_TRUE(dir.read(begin.next, back).ok());
  ASSERT_TRUE(dir.read(begin.next, much).ok());
  const off_t place = ::lseek(dir.fd(), 0, SEEK_CUR);
  Collector one(1);
  ASSERT_TRUE(dir.read(begin.next, one).ok());
  EXPECT_EQ(::lseek(dir.fd(), 0, SEEK_CUR), place);
  Collector again(2000);
  ASSERT_TRUE(dir.read(begin.next, again).ok());
  EXPECT_EQ(again.names, much.names);
  Collector rest(1930);
  ASSERT_TRUE(dir.read(back.next, rest).ok());
  EXPECT_EQ(::lseek(dir.fd(), 0, SEEK_CUR), place);
  rest.names.insert(back.names.begin(), back.names.end());
  EXPECT_EQ(rest.names, much.names);
  Collector end(10000);
  ASSERT_TRUE(dir.read(much.next, end).ok());
  EXPECT_EQ(100 + much.names.size() + end.names.size(), 3002U);
}

TEST_F(DirStreamTest, GoingBackFurtherReadsTheSourceAgain) {
  for (int i = 0; i < 3000; ++i) write("file-with-a-longer-name-" + std::to_string(i), "");
  DirStream dir = stream();
  Collector begin(100);
  ASSERT_TRUE(dir.read(0, begin).ok());
  Collector first(2500);
  ASSERT_TRUE(dir.read(begin.next, first).ok());
  Collector second(100);
  ASSERT_TRUE(dir.read(first.next, second).ok());
  Collector again(2500);
  ASSERT_TRUE(dir.read(begin.next, again).ok());
  EXPECT_EQ(again.names, first.names);
}

TEST_F(DirStreamTest, AnErrorOfTheSourceIsPassedOn) {
  write("a", "");
  DirStream no_directory(UniqueFd(::open(at("a").c_str(), O_RDONLY | O_CLOEXEC)));
  Collector all(100);
  EXPECT_EQ(no_directory.read(0, all).error().code, ENOTDIR);
}

}  // namespace
}  // namespace flockfs
