#include "daemon/ingest/http_server.h"

#include <fmt/format.h>
#include <microhttpd.h>

#include <atomic>
#include <charconv>

#include "daemon/base/handle.h"
#include "daemon/base/log.h"

namespace culprit::ingest {
namespace {

using ResponseHandle = Handle<MHD_Response, MHD_destroy_response>;
using DaemonHandle = Handle<MHD_Daemon, MHD_stop_daemon>;

// One request while it arrives.
struct Arriving {
  std::string body;
  bool started = false;
  unsigned refusal = 0;  // the status of a request that is not read further
  std::size_t counted = 0;
};

std::string header(MHD_Connection* connection, const char* name) {
  const char* value = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
  return value == nullptr ? "" : value;
}

}  // namespace

struct HttpServer::Impl {
  Receivers& receivers;
  Options options;
  Fd listener;
  std::atomic<std::size_t> arriving_bytes = 0;
  DaemonHandle daemon;

  Impl(Receivers& to, const Options& chosen, Fd fd) : receivers(to), options(chosen), listener(std::move(fd)) {}

  static MHD_Result on_request(void* cls, MHD_Connection* connection, const char* url, const char* method, const char*, const char* data, std::size_t* size, void** state);
  static void on_completed(void* cls, MHD_Connection*, void** state, MHD_RequestTerminationCode);
  MHD_Result take(MHD_Connection* connection, const char* url, const char* method, const char* data, std::size_t* size, Arriving& arriving);
  static MHD_Result queue(MHD_Connection* connection, const HttpAnswer& answer);
};

MHD_Result HttpServer::Impl::queue(MHD_Connection* connection, const HttpAnswer& answer) {
  const ResponseHandle response(MHD_create_response_from_buffer(answer.body.size(), const_cast<char*>(answer.body.data()), MHD_RESPMEM_MUST_COPY));
  if (!response) return MHD_NO;
  (void)MHD_add_response_header(response.get(), "Content-Type", answer.content_type.c_str());
  if (answer.retry_after_s > 0) (void)MHD_add_response_header(response.get(), "Retry-After", fmt::to_string(answer.retry_after_s).c_str());
  if (!answer.allow.empty()) (void)MHD_add_response_header(response.get(), "Allow", answer.allow.c_str());
  return MHD_queue_response(connection, answer.status, response.get());
}

MHD_Result HttpServer::Impl::take(MHD_Connection* connection, const char* url, const char* method, const char* data, std::size_t* size, Arriving& arriving) {
  if (!arriving.started) {  // headers are complete
    arriving.started = true;
    const std::string length = header(connection, "Content-Length");
    std::uint64_t bytes = 0;
    const auto [end, error] = std::from_chars(length.data(), length.data() + length.size(), bytes);
    if (!length.empty() && (error != std::errc() || bytes > kRequestBytesMax)) {
      // Answered before the body is sent: the connection ends with it.
      receivers.count_bad(url, fmt::format("a request of {} bytes", length));
      return queue(connection, {.status = 413, .body = fmt::format("a request has at most {} bytes\n", kRequestBytesMax)});
    }
    if (error == std::errc() && bytes > 0) arriving.body.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(bytes, 1U << 20U)));
    return MHD_YES;
  }
  if (*size > 0) {
    if (arriving.refusal == 0 && arriving.body.size() + *size > kRequestBytesMax) arriving.refusal = 413;
    if (arriving.refusal == 0 && arriving_bytes + *size > options.arriving_bytes_max) arriving.refusal = 429;
    if (arriving.refusal == 0) {
      arriving.body.append(data, *size);
      arriving.counted += *size;
      arriving_bytes += *size;
    } else if (!arriving.body.empty()) {
      std::string().swap(arriving.body);
    }
    *size = 0;
    return MHD_YES;
  }
  if (arriving.refusal == 413) {
    receivers.count_bad(url, fmt::format("a request of more than {} bytes", kRequestBytesMax));
    return queue(connection, {.status = 413, .body = fmt::format("a request has at most {} bytes\n", kRequestBytesMax)});
  }
  if (arriving.refusal == 429) {
    receivers.count_refused(url);
    return queue(connection, {.status = 429, .body = "too much is arriving at once\n", .retry_after_s = kRetryAfterS});
  }
  HttpRequest request;
  request.method = method;
  request.path = url;
  request.content_type = header(connection, "Content-Type");
  request.content_encoding = header(connection, "Content-Encoding");
  request.origin = header(connection, "Origin");
  request.body = arriving.body;
  return queue(connection, receivers.take(request));
}

MHD_Result HttpServer::Impl::on_request(void* cls, MHD_Connection* connection, const char* url, const char* method, const char*, const char* data, std::size_t* size, void** state) {
  auto* self = static_cast<Impl*>(cls);
  if (*state == nullptr) *state = new Arriving;  // freed in on_completed
  try {
    return self->take(connection, url, method, data, size, *static_cast<Arriving*>(*state));
  } catch (const std::exception& e) {  // memory; nothing may pass through C
    log::error("receive '{}': {}; the request is refused", url, e.what());
    return MHD_NO;
  }
}

void HttpServer::Impl::on_completed(void* cls, MHD_Connection*, void** state, MHD_RequestTerminationCode) {
  const std::unique_ptr<Arriving> arriving(static_cast<Arriving*>(std::exchange(*state, nullptr)));
  if (arriving) static_cast<Impl*>(cls)->arriving_bytes -= arriving->counted;
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;

Result<std::unique_ptr<HttpServer>> HttpServer::start(Fd listener, Receivers& receivers, const Options& options) {
  auto impl = std::make_unique<Impl>(receivers, options, std::move(listener));
  impl->daemon.reset(MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_SUPPRESS_DATE_NO_CLOCK, 0, nullptr, nullptr, &Impl::on_request, impl.get(),
                                      MHD_OPTION_LISTEN_SOCKET, impl->listener.get(), MHD_OPTION_NOTIFY_COMPLETED, &Impl::on_completed, impl.get(),
                                      MHD_OPTION_CONNECTION_LIMIT, options.connections_max, MHD_OPTION_CONNECTION_TIMEOUT, options.idle_s,
                                      MHD_OPTION_CONNECTION_MEMORY_LIMIT, static_cast<std::size_t>(64U << 10U), MHD_OPTION_CONNECTION_MEMORY_INCREMENT,
                                      static_cast<std::size_t>(16U << 10U), MHD_OPTION_END));
  if (!impl->daemon) return fail_errno(errno, "start the HTTP receiver");
  (void)impl->listener.release();  // the daemon closes it
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

}  // namespace culprit::ingest
