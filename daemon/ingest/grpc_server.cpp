#include "daemon/ingest/grpc_server.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <map>
#include <thread>

#include "daemon/ingest/accept.h"
#include "daemon/ingest/source_thread.h"

namespace culprit::ingest {
namespace {

constexpr int kPollMs = 1'000;
constexpr std::size_t kReadBytes = 128U << 10U;

struct Connection {
  Fd fd;
  std::unique_ptr<GrpcSession> session;
  std::string waiting;     // to be sent
  std::size_t sent = 0;    // of it
  bool closing = false;    // once all is sent
  std::uint64_t answered = 0;
  std::int64_t busy_ns = 0;  // when a request was answered last
};

}  // namespace

struct GrpcServer::Impl {
  GrpcShared shared;
  Options options;
  Acceptor acceptor;
  SourcePtr state;
  const Clock& clock;
  Fd wake;
  std::map<int, Connection> connections;
  std::string buffer = std::string(kReadBytes, '\0');
  std::jthread thread;  // last: ends before what it uses

  Impl(Receivers& receivers, const Options& chosen, Fd fd, SourcePtr counted, const Clock& time)
      : shared{receivers, chosen.limits}, options(chosen), acceptor(std::move(fd), counted), state(std::move(counted)), clock(time), wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

  void accept_one();
  bool read_from(Connection& connection);
  bool write_to(Connection& connection);
  bool serve(Connection& connection, short events, std::int64_t now_ns);
  void loop(const std::stop_token& stop);
};

void GrpcServer::Impl::accept_one() {
  Fd fd = acceptor.accept(clock.now_ns());
  if (!fd) return;
  if (connections.size() >= options.connections_max) {
    ++state->refused;
    state->set_error(fmt::format("more than {} connections", options.connections_max));
    return;
  }
  const int on = 1;
  (void)::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
  auto session = GrpcSession::create(shared);
  if (!session) {
    ++state->refused;
    state->set_error(session.error().message);
    return;
  }
  ++state->requests;
  const int number = fd.get();
  Connection& connection = connections[number];
  connection.fd = std::move(fd);
  connection.session = std::move(*session);
  connection.busy_ns = clock.now_ns();
}

// False when nothing more will come.
bool GrpcServer::Impl::read_from(Connection& connection) {
  const ssize_t got = ::recv(connection.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  if (got == 0) return false;
  state->bytes += static_cast<std::uint64_t>(got);
  if (auto done = connection.session->receive(std::string_view(buffer.data(), static_cast<std::size_t>(got))); !done) {
    ++state->malformed;
    state->set_error(done.error().message);
    connection.closing = true;
  }
  return true;
}

// False when the other side is gone.
bool GrpcServer::Impl::write_to(Connection& connection) {
  connection.session->output(connection.waiting);
  while (connection.sent < connection.waiting.size()) {
    const ssize_t put = ::send(connection.fd.get(), connection.waiting.data() + connection.sent, connection.waiting.size() - connection.sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0) return errno == EAGAIN || errno == EINTR;
    connection.sent += static_cast<std::size_t>(put);
    if (connection.sent < connection.waiting.size()) continue;
    connection.waiting.clear();
    connection.sent = 0;
    connection.session->output(connection.waiting);
  }
  connection.waiting.clear();
  connection.sent = 0;
  return true;
}

bool GrpcServer::Impl::serve(Connection& connection, short events, std::int64_t now_ns) {
  bool open = true;
  if ((events & (POLLIN | POLLHUP | POLLERR)) != 0 && !connection.closing) open = read_from(connection);
  if (connection.session->answered() != connection.answered) {
    connection.answered = connection.session->answered();
    connection.busy_ns = now_ns;
  }
  if (open && !connection.closing && now_ns - connection.busy_ns > options.idle_ns) {
    connection.session->go_away();
    connection.closing = true;
  }
  if (!write_to(connection) || !open) return false;
  const bool all_sent = connection.waiting.empty();
  // A client that neither reads nor goes: no longer than one that is idle.
  if (connection.closing && now_ns - connection.busy_ns > 2 * options.idle_ns) return false;
  return !(all_sent && (connection.closing || connection.session->is_over()));
}

void GrpcServer::Impl::loop(const std::stop_token& stop) {
  const std::stop_callback awake(stop, [this] {
    const std::uint64_t one = 1;
    (void)!::write(wake.get(), &one, sizeof(one));
  });
  std::vector<pollfd> waits;
  while (!stop.stop_requested()) {
    waits.assign({{wake.get(), POLLIN, 0}, {acceptor.poll_fd(clock.now_ns()), POLLIN, 0}});
    for (const auto& [fd, connection] : connections) {
      // Who does not read what we said is not listened to.
      const bool full = connection.waiting.size() > options.limits.waiting_bytes_max;
      const int events = (full || connection.closing ? 0 : POLLIN) | (connection.waiting.empty() ? 0 : POLLOUT);
      waits.push_back({fd, static_cast<short>(events), 0});
    }
    if (::poll(waits.data(), waits.size(), kPollMs) < 0 && errno != EINTR) continue;
    if (waits[1].revents != 0) accept_one();
    const std::int64_t now_ns = clock.now_ns();
    for (std::size_t i = 2; i < waits.size(); ++i) {
      const auto found = connections.find(waits[i].fd);
      if (waits[i].revents == 0 && now_ns - found->second.busy_ns <= options.idle_ns) continue;
      if (!serve(found->second, waits[i].revents, now_ns)) connections.erase(found);
    }
  }
  for (auto& [fd, connection] : connections) {
    connection.session->go_away();
    (void)write_to(connection);
  }
}

GrpcServer::GrpcServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GrpcServer::~GrpcServer() = default;

Result<std::unique_ptr<GrpcServer>> GrpcServer::start(Fd listener, Receivers& receivers, SourcePtr state, const Clock& clock, const Options& options) {
  auto impl = std::make_unique<Impl>(receivers, options, std::move(listener), std::move(state), clock);
  if (!impl->wake) return fail_errno(errno, "start the gRPC receiver");
  Impl* self = impl.get();
  impl->thread = start_source_thread("otlp-grpc", "OTLP over gRPC", {impl->state}, [self](const std::stop_token& stop) { self->loop(stop); });
  return std::unique_ptr<GrpcServer>(new GrpcServer(std::move(impl)));
}

}  // namespace culprit::ingest
