#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "harness/deadline.h"

namespace flockfs::test {

// The child's end of its conversation with the test. A word that does not come in time ends the child with a failure.
class Peer {
 public:
  explicit Peer(int fd) : fd_(fd) {}
  void say(std::string_view word);
  [[nodiscard]] std::string hear();
  // Waits for exactly this word.
  void await(std::string_view word);

 private:
  int fd_;
};

// A forked process that runs `body` and then ends; it dies with the test. All work on a mirror happens in children,
// never in the process of the test, so that a hang cannot hang the test: each call here that waits has a deadline, and
// aborts the connections of the test when that passes. The body may use gtest's assertions: any failure in it, or an
// exception, makes ends_well() false. Move-only; used by the test's only thread.
//
//   Child reader([&](Peer& test) {
//     UniqueFd fd(::open(path.c_str(), O_RDONLY));
//     ASSERT_TRUE(fd.valid());
//     test.say("open");
//     test.await("close");
//   });
//   ASSERT_TRUE(reader.says("open"));
//   ...
//   reader.say("close");
//   EXPECT_TRUE(reader.ends_well());
class Child {
 public:
  using Body = std::function<void(Peer&)>;

  explicit Child(const Body& body);
  Child(Child&&) = default;
  Child& operator=(Child&& other) noexcept;
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();  // kills and reaps what still runs

  [[nodiscard]] pid_t pid() const { return pid_; }

  void say(std::string_view word);
  // The next word of the child; nullopt when it ended or none came in time.
  [[nodiscard]] std::optional<std::string> hear(Millis time = kPatience);
  // The next word is this one.
  [[nodiscard]] ::testing::AssertionResult says(std::string_view word, Millis time = kPatience);
  // Nothing to hear for so long (unscaled; 0: now), and still running.
  [[nodiscard]] bool silent(Millis time = Millis(0));

  void signal(int number) const;
  // Ended without a failure.
  [[nodiscard]] ::testing::AssertionResult ends_well(Millis time = kPatience);
  [[nodiscard]] ::testing::AssertionResult killed_by(int signal, Millis time = kPatience);
  // The status of waitpid(2); nullopt (and the connections aborted) if it did not end in time.
  [[nodiscard]] std::optional<int> wait(Millis time = kPatience);
  // The same without aborting anything: to look whether it has ended.
  [[nodiscard]] std::optional<int> poll_status();

 private:
  void finish();

  pid_t pid_ = -1;
  UniqueFd socket_;
  std::optional<int> status_;
};

// "exit 3", "signal 9".
[[nodiscard]] std::string describe_status(int status);

// Runs the body in a child to its end; for straight-line work on the mirror.
[[nodiscard]] ::testing::AssertionResult in_child(const std::function<void()>& body, Millis time = kPatience);

}  // namespace flockfs::test
