#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <string>
#include <utility>
#include <vector>

#include "full_size.h"
#include "harness/mirror_test.h"

// The case that flockfs was made for: backups of Graphite's whisper files while carbon-cache, told to lock what it
// writes (WHISPER_LOCK_WRITES), updates them.
namespace flockfs::test {
namespace {

constexpr int kMetrics = 8;
constexpr int kSeconds = 300;     // rewritten in each update
constexpr int kPlainMost = 1000;  // copies of the plain source, until one is torn
constexpr Millis kStart{30000};   // for carbon to come up and make its files

sockaddr_in loopback(int port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<std::uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// Ports of 127.0.0.1 that nobody has, different ones.
std::vector<int> free_ports(int count) {
  std::vector<int> ports;
  std::vector<UniqueFd> sockets;
  for (int number = 0; number < count; ++number) {
    sockaddr_in address = loopback(0);
    socklen_t size = sizeof(address);
    sockets.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int fd = sockets.back().get();
    EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), size), 0);
    EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
    ports.push_back(ntohs(address.sin_port));
  }
  return ports;
}

bool listens(int port) {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port);
  return ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
}

std::string script(const std::string& name) { return FLOCKFS_TOOLS_DIR "/" + name; }

class GraphiteTest : public MirrorTest {
 protected:
  GraphiteTest() : home_(folder("carbon")), ports_(free_ports(3)) {
    write_file(home_ + "/storage-schemas.conf", "[all]\npattern = .*\nretentions = 1s:10m,5s:2h,10s:1d\n");
    write_file(home_ + "/storage-aggregation.conf",
               "[all]\npattern = .*\nxFilesFactor = 0\naggregationMethod = average\n");
    write_file(home_ + "/carbon.conf",
               "[cache]\nSTORAGE_DIR = " + home_ + "\nCONF_DIR = " + home_ + "\nLOG_DIR = " + home_ +
                   "\nPID_DIR = " + home_ + "\nLOCAL_DATA_DIR = " + source() +
                   "\nLINE_RECEIVER_INTERFACE = 127.0.0.1\nLINE_RECEIVER_PORT = " + std::to_string(ports_[0]) +
                   "\nPICKLE_RECEIVER_INTERFACE = 127.0.0.1\nPICKLE_RECEIVER_PORT = " + std::to_string(ports_[1]) +
                   "\nCACHE_QUERY_INTERFACE = 127.0.0.1\nCACHE_QUERY_PORT = " + std::to_string(ports_[2]) +
                   "\nENABLE_UDP_LISTENER = False\nENABLE_TAGS = False\nENABLE_LOGROTATION = False\n"
                   "MAX_UPDATES_PER_SECOND = inf\nMAX_CREATES_PER_MINUTE = inf\nCARBON_METRIC_INTERVAL = 0\n"
                   "WHISPER_LOCK_WRITES = True\n");
  }

  void start_carbon() {
    carbon_ = std::make_unique<Program>(
        std::vector<std::string>{"/usr/bin/carbon-cache", "--config=" + home_ + "/carbon.conf",
                                 "--pidfile=" + home_ + "/pid", "--logdir=" + home_, "--nodaemon", "start"});
    ASSERT_TRUE(eventually([&] { return listens(ports_[0]); }, kStart)) << carbon_->out() << carbon_->err();
    feeder_ = std::make_unique<Program>(std::vector<std::string>{"/usr/bin/python3", script("carbon_feed.py"),
                                                                 std::to_string(ports_[0]), std::to_string(kMetrics),
                                                                 std::to_string(kSeconds)});
    ASSERT_TRUE(eventually([&] { return all_made(); }, kStart)) << carbon_->out() << carbon_->err() << feeder_->err();
  }

  // Each file is there, has its size and its first points. (While whisper makes a file it is visible before it is
  // locked.)
  [[nodiscard]] bool all_made() const {
    const std::string said = checked(source()).out;
    return said.find(std::to_string(kMetrics) + " files") != std::string::npos &&
           said.find("instead of") == std::string::npos && said.find("cannot read") == std::string::npos &&
           said.find(" 0 points") == std::string::npos;
  }

  [[nodiscard]] static ProgramResult checked(const std::string& copies) {
    // Not the very oldest of the points sent: those are still arriving in the first round.
    return run_program({"/usr/bin/python3", script("whisper_check.py"), copies, std::to_string(kSeconds - 20)}, {},
                       Millis(60000));
  }

  // Copies everything below `from` so many times, by turns with tar and with rsync.
  [[nodiscard]] std::string copies_of(const std::string& from, const std::string& name, int count, int tar_may_say) {
    const std::string all = folder(name);
    for (int number = 0; number < count; ++number) {
      const std::string to = all + "/" + std::to_string(number);
      make_dir(to);
      if (number % 2 == 0) {
        const ProgramResult tar = run_program({"tar", "-cf", to + "/tar", "-C", from, "."}, {}, Millis(30000));
        EXPECT_GE(tar.exit_code, 0);
        EXPECT_LE(tar.exit_code, tar_may_say) << tar.err;
        EXPECT_EQ(run_program({"tar", "-xf", to + "/tar", "-C", to}).exit_code, 0);
      } else {
        const ProgramResult rsync = run_program({"rsync", "-a", from + "/", to}, {}, Millis(30000));
        EXPECT_EQ(rsync.exit_code, 0) << rsync.err;
      }
    }
    return all;
  }

 private:
  std::string home_;
  std::vector<int> ports_;
  std::unique_ptr<Program> carbon_;
  std::unique_ptr<Program> feeder_;
};

TEST_F(GraphiteTest, CopiesOfTheMirrorOpenAndAgreeWithThemselves) {
  ASSERT_NO_FATAL_FAILURE(start_carbon());
  mount();
  const int count = full_size() ? 200 : 40;
  // Until they have met carbon: before, they prove nothing.
  for (int batch = 0; log().count({.event = "wait"}) == 0; ++batch) {
    ASSERT_LT(batch, 10) << "the copies never met carbon";
    const ProgramResult result = checked(copies_of(mnt(), "copies" + std::to_string(batch), count, 0));
    ASSERT_EQ(result.exit_code, 0) << result;
    ASSERT_EQ(result.out.find(std::to_string(count * kMetrics) + " files"), 0U) << result;
  }
}

TEST_F(GraphiteTest, CopiesOfThePlainSourceDoNot) {
  ASSERT_NO_FATAL_FAILURE(start_carbon());
  for (int done = 0; done < kPlainMost; done += 20) {
    if (checked(copies_of(source(), "copies" + std::to_string(done), 20, 1)).exit_code != 0) return;
  }
  FAIL() << kPlainMost << " copies of the plain source agree: the test of the mirror proves nothing";
}

}  // namespace
}  // namespace flockfs::test
