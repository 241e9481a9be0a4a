#include "run/channel.h"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <climits>
#include <cstring>

namespace flockfs {
namespace {

// What is told in numbers; the text follows.
struct Header {
  Message::Kind kind;
  LockMode mode;
  bool passes_through;
  pid_t process;
  pid_t blocker;
  dev_t device;
  FileId file;
  std::uint64_t number;
  std::int64_t waited_ns;
};

constexpr std::size_t kMostText = PATH_MAX;
// For a runner that is stopped for a while.
constexpr int kBufferBytes = 4 << 20;

}  // namespace

Result<std::pair<UniqueFd, UniqueFd>> make_channel() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return errno_error("cannot make a socket");
  }
  (void)::setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof kBufferBytes);
  return std::pair(UniqueFd(ends[0]), UniqueFd(ends[1]));
}

void send_message(int channel, const Message& message) {
  Header header{};
  header.kind = message.kind;
  header.mode = message.wait.mode;
  header.passes_through = message.passes_through;
  header.process = message.wait.process;
  header.blocker = message.wait.blocker;
  header.device = message.device;
  header.file = message.wait.file;
  header.number = message.wait.number;
  header.waited_ns = message.waited.count();
  std::string text = message.kind == Message::Kind::kFailed ? message.text : message.wait.path;
  text.resize(std::min(text.size(), kMostText));
  std::array<iovec, 2> parts{iovec{&header, sizeof header}, iovec{text.data(), text.size()}};
  msghdr packet{};
  packet.msg_iov = parts.data();
  packet.msg_iovlen = parts.size();
  const bool may_block = message.kind == Message::Kind::kReady || message.kind == Message::Kind::kFailed;
  (void)::sendmsg(channel, &packet, MSG_NOSIGNAL | (may_block ? 0 : MSG_DONTWAIT));
}

std::optional<Message> receive_message(int channel, bool& ended) {
  Header header{};
  std::array<char, kMostText> text{};
  std::array<iovec, 2> parts{iovec{&header, sizeof header}, iovec{text.data(), text.size()}};
  msghdr packet{};
  packet.msg_iov = parts.data();
  packet.msg_iovlen = parts.size();
  const ssize_t got = ::recvmsg(channel, &packet, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return std::nullopt;
  if (got < static_cast<ssize_t>(sizeof header)) {
    ended = true;
    return std::nullopt;
  }
  Message message;
  message.kind = header.kind;
  message.device = header.device;
  message.passes_through = header.passes_through;
  const std::string received(text.data(), static_cast<std::size_t>(got) - sizeof header);
  (message.kind == Message::Kind::kFailed ? message.text : message.wait.path) = received;
  message.wait.mode = header.mode;
  message.wait.process = header.process;
  message.wait.blocker = header.blocker;
  message.wait.file = header.file;
  message.wait.number = header.number;
  message.waited = Duration(header.waited_ns);
  return message;
}

void WaitReporter::began(const WaitSeen& wait) {
  Message message;
  message.kind = Message::Kind::kWaitBegan;
  message.wait = wait;
  send_message(channel_, message);
}

void WaitReporter::ended(std::uint64_t number, Duration waited) {
  Message message;
  message.kind = Message::Kind::kWaitEnded;
  message.wait.number = number;
  message.waited = waited;
  send_message(channel_, message);
}

}  // namespace flockfs
