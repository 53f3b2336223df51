// api_demo SOCKET PORT [DOCUMENTS]: serves the fixed documents until standard input ends. For tests of the
// page and the command line without a daemon.
#include <charconv>
#include <iostream>

#include "daemon/api/server.h"
#include "tests/api/fake_backend.h"
#include "ui/web/assets.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: api_demo SOCKET PORT [DOCUMENTS]\n";
    return 2;
  }
  std::uint16_t port = 0;
  const std::string_view text = argv[2];
  std::from_chars(text.data(), text.data() + text.size(), port);
  auto listeners = culprit::api::Listeners::open({.socket = argv[1], .port = port});
  if (!listeners) {
    std::cerr << listeners.error().message << "\n";
    return 1;
  }
  culprit::api::FakeBackend backend(argc > 3 ? argv[3] : CULPRIT_API_DOCUMENTS);
  culprit::api::ServerOptions options;
  options.page = culprit::web::assets();
  auto server = culprit::api::Server::start(std::move(*listeners), backend, options);
  if (!server) {
    std::cerr << server.error().message << "\n";
    return 1;
  }
  std::cout << *(*server)->port() << std::endl;
  std::cin.ignore(std::numeric_limits<std::streamsize>::max());
  return 0;
}
