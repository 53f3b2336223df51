#include "daemon/api/listen.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>
#include <system_error>

namespace culprit::api {
namespace {

constexpr int kBacklog = 64;

std::unexpected<Error> socket_error(int error, std::string_view what, const std::filesystem::path& path) {
  return fail_errno(error, fmt::format("API socket '{}': {}", path.string(), what));
}

// What stands at `path` already: nothing may be lost by removing it, or an error says why not.
Result<void> remove_stale(const std::filesystem::path& path, const sockaddr_un& address) {
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) {
    return errno == ENOENT ? Result<void>{} : socket_error(errno, "look at it", path);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return fail(
        Code::Invalid,
        fmt::format(
            "API socket '{}': a file that is no socket stands there; move it away or pass another --socket",
            path.string()));
  }
  const Fd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!probe) return socket_error(errno, "create", path);
  const bool connected =
      ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0;
  if (connected || errno == EAGAIN) {
    return fail(
        Code::Busy,
        fmt::format("API socket '{}': another culpritd answers there; stop it, or pass another --socket",
                    path.string()));
  }
  if (errno != ECONNREFUSED && errno != ENOENT) return socket_error(errno, "ask who listens", path);
  if (::unlink(path.c_str()) != 0 && errno != ENOENT)
    return socket_error(errno, "remove the stale one", path);
  return {};
}

Result<Fd> open_unix(const ListenOptions& options) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = options.socket.string();
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(Code::Invalid, fmt::format("API socket '{}': a path has 1 to {} bytes; pass another --socket",
                                           path, sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  gid_t group = static_cast<gid_t>(-1);
  if (!options.group.empty()) {
    const struct group* entry = ::getgrnam(options.group.c_str());  // at start, one thread
    if (entry == nullptr)
      return fail(Code::Invalid, fmt::format("API socket '{}': no group '{}'", path, options.group));
    group = entry->gr_gid;
  }
  if (options.socket.has_parent_path()) {
    std::error_code error;
    std::filesystem::create_directories(options.socket.parent_path(), error);
    if (error) return socket_error(error.value(), "create its folder", options.socket);
  }
  TRY(remove_stale(options.socket, address));
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return socket_error(errno, "create", options.socket);
  // The file is born with the mode of the descriptor (less the umask), so there is no moment at which all may
  // open it.
  if (::fchmod(fd.get(), 0660) != 0) return socket_error(errno, "set mode", options.socket);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    return socket_error(errno, "bind", options.socket);
  }
  if (group != static_cast<gid_t>(-1) && ::chown(path.c_str(), static_cast<uid_t>(-1), group) != 0) {
    return socket_error(errno, fmt::format("give to group '{}'", options.group), options.socket);
  }
  if (::chmod(path.c_str(), 0660) != 0) return socket_error(errno, "set mode", options.socket);
  if (::listen(fd.get(), kBacklog) != 0) return socket_error(errno, "listen", options.socket);
  return fd;
}

Result<Fd> open_tcp(std::uint16_t port) {
  const auto what = [port] { return fmt::format("page on 127.0.0.1:{}", port); };
  Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno(errno, what());
  const int on = 1;
  (void)::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 ||
      ::listen(fd.get(), kBacklog) != 0) {
    if (errno == EADDRINUSE) {
      return fail(
          Code::Busy,
          fmt::format(
              "port {} on 127.0.0.1 is taken by another program; pass another --port (0 for no page), "
              "or see who has it: ss -ltnp 'sport = :{}'",
              port, port));
    }
    if (errno == EACCES)
      return fail(Code::Denied,
                  fmt::format("port {} on 127.0.0.1 needs rights; pass a --port above 1023", port));
    return fail_errno(errno, what());
  }
  return fd;
}

Result<std::uint16_t> port_of(const Fd& fd) {
  sockaddr_in address{};
  socklen_t length = sizeof(address);
  if (::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
    return fail_errno(errno, "page: getsockname");
  return ntohs(address.sin_port);
}

}  // namespace

Result<Listeners> Listeners::open(const ListenOptions& options) {
  Listeners result;
  if (options.port) {
    ASSIGN(result.tcp_, open_tcp(*options.port));
    ASSIGN(result.port_, port_of(result.tcp_));
  }
  ASSIGN(result.socket_, open_unix(options));
  result.path_ = options.socket;
  struct stat status{};
  if (::lstat(options.socket.c_str(), &status) == 0) result.inode_ = status.st_ino;
  return result;
}

Listeners::~Listeners() {
  struct stat status{};
  // Without the right to remove it (after privileges were dropped) the file stays; the next start replaces
  // it.
  if (socket_ && ::lstat(path_.c_str(), &status) == 0 && status.st_ino == inode_)
    (void)::unlink(path_.c_str());
}

}  // namespace culprit::api
