#pragma once

#include <string_view>

#include "base/result.h"

namespace flockfs {

// Tells the service manager that has started this process, if there is one that wants to know, how it is: "READY=1" and
// the like, by the protocol of sd_notify(3): one datagram to the unix socket that $NOTIFY_SOCKET names ("@" for the
// byte with which a name begins that is in no file system). Never waits.
Status tell_service_manager(std::string_view state);

}  // namespace flockfs
