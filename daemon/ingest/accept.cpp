#include "daemon/ingest/accept.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace culprit::ingest {

Fd Acceptor::accept(std::int64_t now_ns) {
  Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (fd) return fd;
  const int error = errno;
  if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
    rest_until_ns_ = now_ns + kRestNs;
    ++source_->refused;
    source_->set_error(fmt::format("accept a connection: {}; again in a second", std::strerror(error)));
  }
  return {};
}

}  // namespace culprit::ingest
