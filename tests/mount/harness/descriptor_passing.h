#pragma once

#include "base/unique_fd.h"

namespace flockfs::test {

// Two connected sockets over which processes of a test hand each other descriptors.
class SocketPair {
 public:
  SocketPair();
  [[nodiscard]] int first() const { return first_.get(); }
  [[nodiscard]] int second() const { return second_.get(); }
  void close();

 private:
  UniqueFd first_;
  UniqueFd second_;
};

[[nodiscard]] bool send_descriptor(int socket, int fd);
// Invalid if none comes within the usual patience.
[[nodiscard]] UniqueFd receive_descriptor(int socket);

}  // namespace flockfs::test
