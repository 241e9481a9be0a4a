#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace flockfs {

class Mirror;

// Answers whoever connects to a mirror's socket with its status, as status_report() makes it, and closes. Only root and
// the user of this process get one. A thread of its own asks and answers, for a few clients at a time; one that does
// not read is cut off after some seconds, and holds up at most others who ask.
class StatusServer {
 public:
  using Answer = std::function<std::string()>;

  // Where the sockets are. To be opened before the mirror is mounted, which may cover the path.
  static Result<UniqueFd> open_directory();

  // Makes the socket, removes those of daemons that were killed, and starts the thread, so: after the last fork, and
  // after log_open(). `answer` is called by that thread, under no mutex.
  static Result<std::unique_ptr<StatusServer>> start(UniqueFd directory, dev_t device, Answer answer);

  // The same for a mirror, which outlives it. `directory` as open_directory() gave it. Where there can be no status the
  // mirror works all the same: then the log says so, once, and this returns null.
  static std::unique_ptr<StatusServer> serve(Result<UniqueFd> directory, Mirror& mirror);

  // The same where nothing may be left behind, however this process ends: the socket has its name in no file system.
  // Only this user may ask then, and root as this user.
  static std::unique_ptr<StatusServer> serve_without_trace(Mirror& mirror);

  // Removes the socket and ends the thread.
  ~StatusServer();
  StatusServer(const StatusServer&) = delete;
  StatusServer& operator=(const StatusServer&) = delete;

 private:
  struct Client {
    UniqueFd socket;
    std::shared_ptr<const std::string> text;
    std::size_t sent = 0;
    TimePoint until;
  };

  StatusServer(UniqueFd directory, std::string name, UniqueFd listener, UniqueFd end, Answer answer);
  static Result<std::unique_ptr<StatusServer>> listen(UniqueFd directory, dev_t device, Answer answer);
  static Answer report_of(Mirror& mirror);
  Status start_thread();
  void run();
  void take_clients();
  [[nodiscard]] std::shared_ptr<const std::string> make_answer() const;
  static bool is_done(Client& client);

  // Constant while the thread runs.
  const UniqueFd directory_;  // none: the socket is abstract
  const std::string name_;
  const UniqueFd listener_;
  const UniqueFd end_;  // eventfd
  const Answer answer_;
  std::thread thread_;

  // The thread's own.
  std::vector<Client> clients_;
  TimePoint next_accept_ = TimePoint::min();  // no descriptor was to be had
};

}  // namespace flockfs
