#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "full_size.h"
#include "harness/mirror_test.h"

// Two processes of sqlite3 on one database, one of them in the mirror: SQLite's own fcntl(2) locks are all that keeps
// them from each other's way.
namespace flockfs::test {
namespace {

class SqliteTest : public PassthroughTest {
 protected:
  void SetUp() override {
    if (find_program("sqlite3").empty()) GTEST_SKIP() << "no sqlite3 here";
    make_dir(source("db"));
    transactions_ = full_size() ? 1000 : 100;
    script_ = folder("scripts") + "/increment";
    std::ofstream script(script_);
    // A transaction that reads before it writes: without locks updates get lost.
    for (int i = 0; i < transactions_; ++i) {
      script << "BEGIN IMMEDIATE;\nUPDATE counter SET value = (SELECT value FROM counter) + 1;\n"
             << "INSERT INTO log(value) SELECT value FROM counter;\nCOMMIT;\n";
    }
  }

  [[nodiscard]] static ProgramResult sqlite(const std::string& database, const std::string& command) {
    return run_program({"sqlite3", "-bail", "-cmd", ".timeout 60000", database, command}, {}, Millis(30000));
  }

  void count_together(const std::string& journal, const std::string& one, const std::string& other) {
    const ProgramResult made = sqlite(source("db/data"), "PRAGMA journal_mode=" + journal +
                                                             "; CREATE TABLE counter(value INTEGER); INSERT INTO "
                                                             "counter VALUES(0); CREATE TABLE log(value INTEGER);");
    ASSERT_EQ(made.exit_code, 0) << made;
    // Whoever closes a database in WAL mode last takes the journal away; let that happen while the other works, too.
    const auto start = [&](const std::string& database) {
      return std::vector<std::string>{"sqlite3", "-bail", "-cmd", ".timeout 60000", database, ".read " + script_};
    };
    Program first(start(one));
    Program second(start(other));
    EXPECT_EQ(first.exit_code(Millis(250000)), 0) << first.err();
    EXPECT_EQ(second.exit_code(Millis(250000)), 0) << second.err();
    const std::string expected = std::to_string(2 * transactions_) + "\n";
    const ProgramResult counted = sqlite(source("db/data"), "SELECT value FROM counter");
    EXPECT_EQ(counted.out, expected) << counted;
    EXPECT_EQ(sqlite(source("db/data"), "SELECT count(DISTINCT value) FROM log").out, expected);
    EXPECT_EQ(sqlite(source("db/data"), "PRAGMA integrity_check").out, "ok\n");
  }

  int transactions_ = 0;
  std::string script_;
};
INSTANTIATE_TEST_SUITE_P(Tools, SqliteTest, BothPassthroughs(), passthrough_name);

TEST_P(SqliteTest, MirrorAndSourceLoseNoUpdateWithARollbackJournal) {
  mount({.options = {"exclude=db"}, .test_deadline = Millis(500000)});
  count_together("DELETE", mnt("db/data"), source("db/data"));
}

// The index of the journal is memory that both sides share: without passthrough the mirror's is a copy.
TEST_P(SqliteTest, MirrorAndSourceLoseNoUpdateWithAWriteAheadLog) {
  mount({.options = {"exclude=db"}, .test_deadline = Millis(500000)});
  const auto mounted = log().wait_for({.event = "mounted"});
  ASSERT_TRUE(mounted.has_value());
  if (mounted->get("passthrough") != "on") {
    GTEST_SKIP() << "no passthrough";
  }
  count_together("WAL", mnt("db/data"), source("db/data"));
}

TEST_P(SqliteTest, TwoInTheMirrorLoseNoUpdate) {
  mount({.options = {"exclude=db"}, .test_deadline = Millis(500000)});
  count_together("DELETE", mnt("db/data"), mnt("db/data"));
}

TEST_P(SqliteTest, TwoInTheMirrorLoseNoUpdateWithAWriteAheadLog) {
  mount({.options = {"exclude=db"}, .test_deadline = Millis(500000)});
  count_together("WAL", mnt("db/data"), mnt("db/data"));
}

// Locked at open as well: the one in the mirror has the flock, which SQLite on the source does not ask for.
TEST_P(SqliteTest, LockOfTheOpenIsInNobodysWay) {
  mount({.test_deadline = Millis(500000)});
  count_together("DELETE", mnt("db/data"), source("db/data"));
}

}  // namespace
}  // namespace flockfs::test
