// An embedding endpoint on loopback that answers what a test wants.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "daemon/base/fd.h"

namespace culprit::embed::test {

// Answers each request with what `answer` makes of its body; one connection at a time.
class FakeServer {
 public:
  explicit FakeServer(std::function<std::string(const std::string& body)> answer) : answer_(std::move(answer)), listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(listener_.get(), 8) != 0 || ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
      ADD_FAILURE() << "no loopback listener";
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::jthread([this] { serve(); });
  }
  ~FakeServer() {
    ::shutdown(listener_.get(), SHUT_RDWR);  // wakes accept
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_) + "/v1/embeddings"; }
  std::uint16_t port() const { return port_; }
  std::atomic<int> requests{0};
  std::string last_head;  // read after the answer was received

 private:
  void serve() {
    while (true) {
      const Fd connection(::accept(listener_.get(), nullptr, nullptr));
      if (!connection) return;
      std::string bytes;
      char buffer[4096];
      std::size_t need = std::string::npos;
      while (bytes.size() < need) {
        const ssize_t got = ::recv(connection.get(), buffer, sizeof(buffer), 0);
        if (got <= 0) break;
        bytes.append(buffer, static_cast<std::size_t>(got));
        const auto end = bytes.find("\r\n\r\n");
        const auto length = bytes.find("Content-Length: ");
        if (end != std::string::npos && length != std::string::npos) need = end + 4 + std::stoul(bytes.substr(length + 16));
      }
      if (bytes.size() < need) continue;
      const auto end = bytes.find("\r\n\r\n");
      last_head = bytes.substr(0, end);
      ++requests;
      const std::string reply = answer_(bytes.substr(end + 4));
      ::send(connection.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
    }
  }

  std::function<std::string(const std::string&)> answer_;
  Fd listener_;
  std::uint16_t port_ = 0;
  std::jthread thread_;
};

inline std::string http(std::string_view body, std::string_view status = "200 OK") {
  return "HTTP/1.1 " + std::string(status) + "\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

}  // namespace culprit::embed::test
