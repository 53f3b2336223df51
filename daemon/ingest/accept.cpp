#include "daemon/ingest/accept.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace culprit::ingest {
namespace {

void keep_alive(int fd) {
  const int on = 1, after_s = 60, every_s = 20, times = 3;
  (void)::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &after_s, sizeof(after_s));  // fails on a Unix socket, whose end is always told
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &every_s, sizeof(every_s));
  (void)::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
}

}  // namespace

Fd Acceptor::accept(std::int64_t now_ns) {
  Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (fd) {
    keep_alive(fd.get());
    return fd;
  }
  const int error = errno;
  if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
    rest_until_ns_ = now_ns + kRestNs;
    ++source_->refused;
    source_->set_error(fmt::format("accept a connection: {}; again in a second", std::strerror(error)));
  }
  return {};
}

}  // namespace culprit::ingest
