#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>

#include "daemon/ingest/http_server.h"

namespace culprit::ingest {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t size = 0;
  std::string unix_path;
};

Result<Address> parse_address(const std::string& text) {
  Address address;
  if (text.starts_with("unix:") || text.starts_with('/')) {
    address.unix_path = text.starts_with('/') ? text : text.substr(5);
    auto* to = reinterpret_cast<sockaddr_un*>(&address.storage);
    if (address.unix_path.empty() || address.unix_path.size() >= sizeof(to->sun_path)) return fail(Code::Invalid, fmt::format("listen '{}': a path of 1 to {} bytes", text, sizeof(to->sun_path) - 1));
    to->sun_family = AF_UNIX;
    address.unix_path.copy(to->sun_path, sizeof(to->sun_path) - 1);
    address.size = sizeof(sockaddr_un);
    return address;
  }
  const std::size_t colon = text.rfind(':');
  std::uint16_t port = 0;
  const std::string port_text = colon == std::string::npos ? text : text.substr(colon + 1);
  const auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (colon == std::string::npos || error != std::errc() || end != port_text.data() + port_text.size()) {
    return fail(Code::Invalid, fmt::format("listen '{}': ADDRESS:PORT, :PORT or unix:PATH", text));
  }
  std::string host = text.substr(0, colon);
  if (host == "localhost") host = "127.0.0.1";
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  auto* v4 = reinterpret_cast<sockaddr_in*>(&address.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&address.storage);
  if (host.empty() || host == "*") {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    v6->sin6_addr = in6addr_any;
    address.size = sizeof(*v6);
  } else if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    address.size = sizeof(*v4);
  } else if (::inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    address.size = sizeof(*v6);
  } else {
    return fail(Code::Invalid, fmt::format("listen '{}': '{}' is no IP address", text, host));
  }
  return address;
}

Result<Fd> open_socket(const std::string& text, int type) {
  ASSIGN(const Address address, parse_address(text));
  Fd fd(::socket(address.storage.ss_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, fmt::format("listen on '{}'", text));
  const int on = 1, off = 0;
  if (address.unix_path.empty()) {
    if (type == SOCK_STREAM) (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address.storage.ss_family == AF_INET6) (void)::setsockopt(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  } else {
    struct stat info {};
    // A socket that a run before this one left behind; anything else is somebody's.
    if (::lstat(address.unix_path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) {
      const Fd probe(::socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) == 0) return fail(Code::Busy, fmt::format("listen on '{}': another process has it", text));
      (void)::unlink(address.unix_path.c_str());
    }
  }
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.size) != 0) {
    if (errno == EADDRINUSE) return fail(Code::Busy, fmt::format("listen on '{}': another process has it", text));
    return fail_errno(errno, fmt::format("listen on '{}'", text));
  }
  if (!address.unix_path.empty()) (void)::chmod(address.unix_path.c_str(), 0666);
  return fd;
}

}  // namespace

Result<Fd> listen_stream(const std::string& address) {
  ASSIGN(Fd fd, open_socket(address, SOCK_STREAM));
  if (::listen(fd.get(), 256) != 0) return fail_errno(errno, fmt::format("listen on '{}'", address));
  return fd;
}

Result<Fd> bind_datagram(const std::string& address) {
  ASSIGN(Fd fd, open_socket(address, SOCK_DGRAM));
  const int bytes = 4 << 20;  // a burst while we write; the kernel may give less
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
  return fd;
}

Result<std::uint16_t> port_of(int fd) {
  sockaddr_storage storage{};
  socklen_t size = sizeof(storage);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) != 0) return fail_errno(errno, "port of a listener");
  if (storage.ss_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage)->sin_port);
  if (storage.ss_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage)->sin6_port);
  return std::uint16_t{0};
}

}  // namespace culprit::ingest
