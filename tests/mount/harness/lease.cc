#include "harness/lease.h"

#include <fcntl.h>

#include <cerrno>
#include <csignal>
#include <fstream>

#include "harness/deadline.h"
#include "harness/files.h"

namespace flockfs::test {

Child lease_holder(const std::string& source_path) {
  return Child([=](Peer& test) {
    ::signal(SIGIO, SIG_IGN);
    UniqueFd fd = open_file(source_path, O_RDWR);
    // Whoever had the file open before may be on his way out.
    ASSERT_TRUE(eventually([&] { return ::fcntl(fd.get(), F_SETLEASE, F_WRLCK) == 0 || errno != EAGAIN; }));
    ASSERT_EQ(::fcntl(fd.get(), F_SETLEASE, F_WRLCK), 0) << errno_name(errno);
    test.say("leased");
    test.await("give way");
    EXPECT_EQ(::fcntl(fd.get(), F_SETLEASE, F_UNLCK), 0);
    test.say("given way");
  });
}

bool lease_is_breaking(const std::string& source_path) {
  const std::string inode = ":" + std::to_string(stat_of(source_path).st_ino) + " ";
  std::ifstream file("/proc/locks");
  for (std::string line; std::getline(file, line);) {
    if (line.find(" LEASE ") != std::string::npos && line.find(" BREAKING ") != std::string::npos &&
        line.find(inode) != std::string::npos) {
      return true;
    }
  }
  return false;
}

}  // namespace flockfs::test
