// Listeners: the sockets of the API, opened while the daemon still has the rights to do so.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "daemon/base/fd.h"
#include "daemon/base/result.h"

namespace culprit::api {

struct ListenOptions {
  std::filesystem::path socket = {};         // Unix socket; its folder is created if missing; mode 0660
  std::string group = {};                    // owning group of the socket; empty = that of the process
  std::optional<std::uint16_t> port = 7117;  // on 127.0.0.1; nothing = no page; 0 = any free port
};

class Listeners {
 public:
  // A socket file that no process answers on is replaced. Errors: Busy (a live daemon has the socket, or the
  // port is taken), Denied, Invalid (path too long, no socket there, unknown group), Io; each says what to
  // change.
  static Result<Listeners> open(const ListenOptions& options);

  Listeners(Listeners&&) = default;
  Listeners& operator=(Listeners&&) = default;
  ~Listeners();  // removes the socket file if it is still ours

  const std::filesystem::path& socket_path() const { return path_; }
  std::optional<std::uint16_t> port() const { return port_; }  // the real one
  int socket_fd() const { return socket_.get(); }
  int tcp_fd() const { return tcp_.get(); }  // -1 if none

 private:
  Listeners() = default;

  std::filesystem::path path_;
  std::uint64_t inode_ = 0;
  std::optional<std::uint16_t> port_;
  Fd socket_;
  Fd tcp_;
};

}  // namespace culprit::api
