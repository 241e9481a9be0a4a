#include "run/channel.h"

#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>

namespace flockfs {
namespace {

class ChannelTest : public ::testing::Test {
 protected:
  ChannelTest() {
    auto ends = make_channel();
    EXPECT_TRUE(ends.ok());
    std::tie(runner_, mirror_) = *std::move(ends);
  }
  std::optional<Message> receive() { return receive_message(runner_.get(), ended_); }

  UniqueFd runner_;
  UniqueFd mirror_;
  bool ended_ = false;
};

TEST_F(ChannelTest, MessagesComeAsTheyWereSent) {
  Message ready;
  ready.kind = Message::Kind::kReady;
  ready.device = 77;
  ready.passes_through = true;
  send_message(mirror_.get(), ready);
  WaitReporter reporter(mirror_.get());
  WaitSeen wait;
  wait.number = 5;
  wait.path = std::string("/a\0b", 4);
  wait.mode = LockMode::kExclusive;
  wait.process = 12;
  wait.file = {3, 4};
  wait.blocker = 13;
  reporter.began(wait);
  reporter.ended(5, std::chrono::milliseconds(8));

  auto message = receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, Message::Kind::kReady);
  EXPECT_EQ(message->device, 77u);
  EXPECT_TRUE(message->passes_through);
  message = receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, Message::Kind::kWaitBegan);
  EXPECT_EQ(message->wait.number, 5u);
  EXPECT_EQ(message->wait.path, wait.path);
  EXPECT_EQ(message->wait.mode, LockMode::kExclusive);
  EXPECT_EQ(message->wait.process, 12);
  EXPECT_EQ(message->wait.file, wait.file);
  EXPECT_EQ(message->wait.blocker, 13);
  message = receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, Message::Kind::kWaitEnded);
  EXPECT_EQ(message->wait.number, 5u);
  EXPECT_EQ(message->waited, std::chrono::milliseconds(8));
}

TEST_F(ChannelTest, TheEndOfTheOtherProcessIsSeen) {
  EXPECT_FALSE(receive());
  EXPECT_FALSE(ended_);
  mirror_.reset();
  EXPECT_FALSE(receive());
  EXPECT_TRUE(ended_);
}

TEST_F(ChannelTest, ARunnerThatDoesNotListenHoldsUpNobody) {
  WaitReporter reporter(mirror_.get());
  WaitSeen wait;
  wait.path = std::string(10000, 'x');
  for (int i = 0; i < 10000; ++i) reporter.began(wait);
  const auto message = receive();
  ASSERT_TRUE(message);
  EXPECT_EQ(message->wait.path, std::string(4096, 'x'));
}

}  // namespace
}  // namespace flockfs
