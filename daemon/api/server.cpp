#include "daemon/api/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <microhttpd.h>
#include <sys/socket.h>

#include <chrono>
#include <condition_variable>
#include <cstdarg>
#include <cstring>
#include <mutex>
#include <stop_token>
#include <thread>
#include <unordered_map>

#include "daemon/base/handle.h"
#include "daemon/base/log.h"

namespace culprit::api {
namespace {

using SteadyTime = std::chrono::steady_clock::time_point;
using ResponseHandle = Handle<MHD_Response, MHD_destroy_response>;
using DaemonHandle = Handle<MHD_Daemon, MHD_stop_daemon>;

// One request while it arrives.
struct Arriving {
  std::string target;
  std::string body;
  bool started = false;
  bool oversized = false;
};

struct Connection {
  int fd = -1;
  SteadyTime since;    // connected, last answer done, or request whole
  bool whole = false;  // the request has arrived
  bool ended = false;  // by the watch
};

std::string header(MHD_Connection* connection, const char* name) {
  const char* value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
  return value == nullptr ? "" : value;
}

}  // namespace

struct Server::Impl {
  // What libmicrohttpd hands back to us in each callback of one daemon.
  struct DoorOf {
    Impl* impl;
    Door door;
  };

  Listeners listeners;
  Backend* backend;
  ServerOptions options;
  DoorOf socket_door{this, Door::Socket};
  DoorOf loopback_door{this, Door::Loopback};

  mutable std::mutex mutex;  // guards stats and connections; never held over a request
  std::condition_variable_any wake;
  ServerStats stats;
  std::unordered_map<MHD_Connection*, Connection> connections;

  DaemonHandle socket_daemon;
  DaemonHandle loopback_daemon;
  std::jthread watch;

  Impl(Listeners opened, Backend& served, const ServerOptions& chosen)
      : listeners(std::move(opened)), backend(&served), options(chosen) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    watch = {};  // stops and joins first: it touches connections that the daemons own
    socket_daemon.reset();
    loopback_daemon.reset();
  }

  DaemonHandle serve(int listen_fd, unsigned threads, DoorOf& door);
  MHD_Result queue(MHD_Connection* connection, const Response& response);
  MHD_Result take(MHD_Connection* connection, Door door, const char* method, const char* version,
                  const char* data, std::size_t* size, Arriving& arriving);
  void end_overdue(const std::stop_token& stop);

  static void* on_target(void*, const char* uri, MHD_Connection*);
  static MHD_Result on_request(void* cls, MHD_Connection* connection, const char* url, const char* method,
                               const char* version, const char* data, std::size_t* size, void** state);
  static void on_completed(void* cls, MHD_Connection* connection, void** state, MHD_RequestTerminationCode);
  static void on_connection(void* cls, MHD_Connection* connection, void** state,
                            MHD_ConnectionNotificationCode code);
  static void on_log(void*, const char* format, va_list arguments) __attribute__((format(printf, 2, 0)));
};

// The raw target, before libmicrohttpd decodes it: parse_target does that, and is fuzzed. Called once a
// request, before anything else; what it returns is the request's state.
void* Server::Impl::on_target(void*, const char* uri, MHD_Connection*) {
  auto arriving = std::make_unique<Arriving>();
  arriving->target = uri;
  return arriving.release();  // freed in on_completed
}

MHD_Result Server::Impl::on_request(void* cls, MHD_Connection* connection, const char*, const char* method,
                                    const char* version, const char* data, std::size_t* size, void** state) {
  const auto* door = static_cast<DoorOf*>(cls);
  if (*state == nullptr) return MHD_NO;
  return door->impl->take(connection, door->door, method, version, data, size,
                          *static_cast<Arriving*>(*state));
}

MHD_Result Server::Impl::take(MHD_Connection* connection, Door door, const char* method, const char*,
                              const char* data, std::size_t* size, Arriving& arriving) {
  if (!arriving.started) {  // headers are complete
    arriving.started = true;
    return MHD_YES;
  }
  const bool import = door == Door::Socket && arriving.target.starts_with("/api/v1/import");
  const std::size_t body_bytes_max = import ? options.import_bytes_max : options.body_bytes_max;
  if (*size > 0) {
    if (arriving.body.size() + *size > body_bytes_max) {
      if (!arriving.oversized) {
        const std::lock_guard lock(mutex);
        ++stats.oversized;
      }
      // Reads on, keeping nothing, so that the sender sees the answer; the deadline ends an endless body.
      arriving.oversized = true;
      arriving.body.clear();
    }
    if (!arriving.oversized) arriving.body.append(data, *size);
    *size = 0;
    return MHD_YES;
  }
  {
    const std::lock_guard lock(mutex);
    if (const auto found = connections.find(connection); found != connections.end()) {
      found->second.whole = true;
      found->second.since = std::chrono::steady_clock::now();
    }
  }
  if (arriving.oversized) {
    return queue(connection,
                 error_response(413, "too_large",
                                fmt::format("the body is longer than {} bytes", body_bytes_max)));
  }
  const Request request{
      .door = door,
      .method = std::strcmp(method, MHD_HTTP_METHOD_HEAD) == 0 ? MHD_HTTP_METHOD_GET : method,
      .target = std::move(arriving.target),
      .body = std::move(arriving.body),
      .host = header(connection, MHD_HTTP_HEADER_HOST),
      .origin = header(connection, MHD_HTTP_HEADER_ORIGIN),
      .content_type = header(connection, MHD_HTTP_HEADER_CONTENT_TYPE),
      .fetch_site = header(connection, "Sec-Fetch-Site")};
  return queue(connection, handle(request, *backend, options.page));
}

MHD_Result Server::Impl::queue(MHD_Connection* connection, const Response& response) {
  const ResponseHandle handle_of(MHD_create_response_from_buffer(
      response.body.size(), const_cast<char*>(response.body.data()), MHD_RESPMEM_MUST_COPY));
  if (!handle_of) return MHD_NO;
  for (const auto& [name, value] : kResponseHeaders)
    (void)MHD_add_response_header(handle_of.get(), name, value);
  (void)MHD_add_response_header(handle_of.get(), MHD_HTTP_HEADER_CONTENT_TYPE, response.content_type.c_str());
  if (!response.allow.empty())
    (void)MHD_add_response_header(handle_of.get(), MHD_HTTP_HEADER_ALLOW, response.allow.c_str());
  const MHD_Result queued = MHD_queue_response(connection, response.status, handle_of.get());
  if (queued == MHD_YES) {
    const std::lock_guard lock(mutex);
    ++stats.requests;
    ++stats.by_status[response.status];
  }
  return queued;
}

void Server::Impl::on_completed(void* cls, MHD_Connection* connection, void** state,
                                MHD_RequestTerminationCode) {
  Impl& impl = *static_cast<DoorOf*>(cls)->impl;
  delete static_cast<Arriving*>(*state);
  *state = nullptr;
  const std::lock_guard lock(impl.mutex);
  if (const auto found = impl.connections.find(connection); found != impl.connections.end()) {
    found->second.whole = false;
    found->second.since = std::chrono::steady_clock::now();
  }
}

void Server::Impl::on_connection(void* cls, MHD_Connection* connection, void**,
                                 MHD_ConnectionNotificationCode code) {
  Impl& impl = *static_cast<DoorOf*>(cls)->impl;
  const std::lock_guard lock(impl.mutex);
  if (code == MHD_CONNECTION_NOTIFY_STARTED) {
    const MHD_ConnectionInfo* info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    ++impl.stats.connections;
    impl.connections[connection] = {.fd = info == nullptr ? -1 : info->connect_fd,
                                    .since = std::chrono::steady_clock::now()};
  } else {
    impl.connections.erase(connection);
  }
  impl.stats.connections_open = impl.connections.size();
}

void Server::Impl::on_log(void*, const char* format, va_list arguments) {
  if (!log::enabled(log::Level::Debug)) return;
  char text[512];
  (void)std::vsnprintf(text, sizeof(text), format, arguments);
  std::string_view line(text);
  while (line.ends_with('\n')) line.remove_suffix(1);
  log::debug("api: http: {}", line);
}

void Server::Impl::end_overdue(const std::stop_token& stop) {
  std::unique_lock lock(mutex);
  while (!stop.stop_requested()) {
    wake.wait_for(lock, stop, std::chrono::milliseconds(250), [] { return false; });
    const SteadyTime now = std::chrono::steady_clock::now();
    for (auto& [connection, state] : connections) {
      const unsigned limit_s = state.whole ? options.response_s : options.request_s;
      if (state.ended || state.fd < 0 || now - state.since < std::chrono::seconds(limit_s)) continue;
      // The descriptor stays libmicrohttpd's: it sees the end of file, closes, and tells on_connection, which
      // needs this mutex; so the descriptor is surely still this connection's.
      (void)::shutdown(state.fd, SHUT_RDWR);
      state.ended = true;
      ++stats.timed_out;
    }
  }
}

DaemonHandle Server::Impl::serve(int listen_fd, unsigned threads, DoorOf& door) {
  // libmicrohttpd closes the socket it listens on; ours stays with the listeners.
  const int own_fd = ::fcntl(listen_fd, F_DUPFD_CLOEXEC, 0);
  if (own_fd < 0) return nullptr;
  unsigned flags = MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_ERROR_LOG;
  std::vector<MHD_OptionItem> items = {
      {MHD_OPTION_EXTERNAL_LOGGER, reinterpret_cast<std::intptr_t>(&on_log), nullptr},
      {MHD_OPTION_LISTEN_SOCKET, own_fd, nullptr},
      {MHD_OPTION_CONNECTION_LIMIT, static_cast<std::intptr_t>(options.connections_max), nullptr},
      {MHD_OPTION_CONNECTION_TIMEOUT, static_cast<std::intptr_t>(options.idle_s), nullptr},
      {MHD_OPTION_CONNECTION_MEMORY_LIMIT, static_cast<std::intptr_t>(options.header_bytes_max), nullptr},
      {MHD_OPTION_NOTIFY_COMPLETED, reinterpret_cast<std::intptr_t>(&on_completed), &door},
      {MHD_OPTION_NOTIFY_CONNECTION, reinterpret_cast<std::intptr_t>(&on_connection), &door},
      {MHD_OPTION_URI_LOG_CALLBACK, reinterpret_cast<std::intptr_t>(&on_target), nullptr},
      {MHD_OPTION_STRICT_FOR_CLIENT, 1, nullptr},
  };
  if (threads > 1)
    items.push_back({MHD_OPTION_THREAD_POOL_SIZE, static_cast<std::intptr_t>(threads), nullptr});
  items.push_back({MHD_OPTION_END, 0, nullptr});
  return DaemonHandle(MHD_start_daemon(flags, 0, nullptr, nullptr, &on_request, &door, MHD_OPTION_ARRAY,
                                       items.data(), MHD_OPTION_END));
}

Result<std::unique_ptr<Server>> Server::start(Listeners listeners, Backend& backend,
                                              const ServerOptions& options) {
  auto impl = std::make_unique<Impl>(std::move(listeners), backend, options);
  impl->socket_daemon = impl->serve(impl->listeners.socket_fd(), kServeThreads - 1, impl->socket_door);
  if (!impl->socket_daemon)
    return fail(
        Code::Io,
        "serve the API on its socket: libmicrohttpd did not start (threads or descriptors exhausted?)");
  if (impl->listeners.tcp_fd() >= 0) {
    impl->loopback_daemon = impl->serve(impl->listeners.tcp_fd(), 1, impl->loopback_door);
    if (!impl->loopback_daemon)
      return fail(
          Code::Io,
          "serve the page on loopback: libmicrohttpd did not start (threads or descriptors exhausted?)");
  }
  impl->watch = std::jthread([raw = impl.get()](const std::stop_token& stop) { raw->end_overdue(stop); });
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

const std::filesystem::path& Server::socket_path() const { return impl_->listeners.socket_path(); }
std::optional<std::uint16_t> Server::port() const { return impl_->listeners.port(); }

ServerStats Server::stats() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->stats;
}

}  // namespace culprit::api
