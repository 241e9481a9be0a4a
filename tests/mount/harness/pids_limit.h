#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

namespace flockfs::test {

// A limit for the number of threads of a process and its children, by a cgroup of its own, as TasksMax of systemd sets
// it. Ends with the object, which must not outlive the process unless that has ended. Used by the thread of the test.
class PidsLimit {
 public:
  // Null if no such cgroup can be made: no pids controller here, or not ours to write. Needs root.
  [[nodiscard]] static std::unique_ptr<PidsLimit> make();
  ~PidsLimit();
  PidsLimit(const PidsLimit&) = delete;
  PidsLimit& operator=(const PidsLimit&) = delete;

  // Throws if it cannot.
  void confine(pid_t process);
  // Threads that exist may be more: those stay. 0: none can be made.
  void set(int most);
  void lift();

 private:
  PidsLimit(std::string parent, std::string path) : parent_(std::move(parent)), path_(std::move(path)) {}

  const std::string parent_;
  const std::string path_;
};

}  // namespace flockfs::test
