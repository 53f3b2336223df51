#include "daemon/ingest/grpc_session.h"

#include <fmt/format.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <map>

#include "daemon/base/handle.h"
#include "daemon/base/log.h"

namespace culprit::ingest {
namespace {

constexpr std::int32_t kStreamWindowBytes = 1 << 20;
constexpr std::int32_t kConnectionWindowBytes = 4 << 20;
constexpr char kAcceptedEncodings[] = "identity,gzip,deflate,zstd";

using SessionHandle = Handle<nghttp2_session, nghttp2_session_del>;
using CallbacksHandle = Handle<nghttp2_session_callbacks, nghttp2_session_callbacks_del>;
using OptionHandle = Handle<nghttp2_option, nghttp2_option_del>;

struct Call {
  std::string_view path, http_path;  // http_path: under which Receivers counts it
  Signal signal;
};
constexpr Call kCalls[] = {
    {"/opentelemetry.proto.collector.trace.v1.TraceService/Export", "/v1/traces", Signal::Traces},
    {"/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", "/v1/metrics", Signal::Metrics},
    {"/opentelemetry.proto.collector.logs.v1.LogsService/Export", "/v1/logs", Signal::Logs},
};

const Call* call_of(std::string_view path) {
  const auto found = std::ranges::find(kCalls, path, &Call::path);
  return found == std::end(kCalls) ? nullptr : found;
}

GrpcCode code_of(Code code) {
  switch (code) {
    case Code::Busy:
    case Code::Io: return GrpcCode::Unavailable;
    case Code::Exhausted: return GrpcCode::ResourceExhausted;
    case Code::Unsupported: return GrpcCode::Unimplemented;
    default: return GrpcCode::InvalidArgument;
  }
}

// One request and its answer.
struct Stream {
  std::string method, path, content_type, encoding, origin;
  std::size_t header_bytes = 0;
  std::string body;
  std::size_t counted = 0;     // of GrpcShared::arriving_bytes
  bool answered = false;       // what still comes is not kept
  std::string answer;          // the message
  std::size_t sent = 0;
};

nghttp2_nv header(std::string_view name, std::string_view value) {
  // nghttp2 copies both (no NO_COPY flag).
  return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())), reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE};
}

}  // namespace

struct GrpcSession::Impl {
  GrpcShared& shared;
  std::map<std::int32_t, Stream> streams;
  std::uint64_t answered = 0, given_up = 0;
  std::string wrong;      // why the connection is of no use any more
  std::string broken;     // the last frame that nghttp2 took for wrong; it may have ended only a stream
  SessionHandle session;  // last: its end calls on_stream_close

  explicit Impl(GrpcShared& with) : shared(with) {}

  Stream* find(std::int32_t id) {
    const auto found = streams.find(id);
    return found == streams.end() ? nullptr : &found->second;
  }
  void forget_body(Stream& stream) {
    shared.arriving_bytes -= std::exchange(stream.counted, 0);
    std::string().swap(stream.body);
  }

  int on_header(std::int32_t id, std::string_view name, std::string_view value);
  void on_headers_end(std::int32_t id);
  void on_data(std::int32_t id, std::string_view bytes);
  void on_request(std::int32_t id);
  void on_close(std::int32_t id);
  void refuse_http(std::int32_t id, Stream& stream, std::string_view status);
  void refuse(std::int32_t id, Stream& stream, GrpcCode code, std::string_view why);
  void answer(std::int32_t id, Stream& stream, std::string_view message);
  void on_sent_end(std::int32_t id);
  void mark_answered(Stream& stream);
  ssize_t read_answer(std::int32_t id, std::uint8_t* to, std::size_t room, std::uint32_t* flags);
  void count_bad(const Stream& stream, std::string why) const {
    if (const Call* call = call_of(stream.path)) shared.receivers.count_bad(std::string(call->http_path), std::move(why));
  }

  // Nothing may pass through C.
  template <typename Work>
  static int guarded(void* user, const Work& work) {
    try {
      return work(*static_cast<Impl*>(user));
    } catch (const std::exception& e) {
      log::error("OTLP over gRPC: {}; the connection is closed", e.what());
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
  }
};

void GrpcSession::Impl::mark_answered(Stream& stream) {
  stream.answered = true;
  ++answered;
  forget_body(stream);
}

// The answer went out before the request's end: the client is told not to go on (RFC 9113, 8.1). Not earlier: a reset
// overtakes what waits to be sent.
void GrpcSession::Impl::on_sent_end(std::int32_t id) {
  if (nghttp2_session_get_stream_remote_close(session.get(), id) == 0) (void)nghttp2_submit_rst_stream(session.get(), NGHTTP2_FLAG_NONE, id, NGHTTP2_NO_ERROR);
}

// No gRPC at all: as PROTOCOL-HTTP2.md says, an HTTP status.
void GrpcSession::Impl::refuse_http(std::int32_t id, Stream& stream, std::string_view status) {
  const nghttp2_nv headers[] = {header(":status", status)};
  (void)nghttp2_submit_response(session.get(), id, headers, std::size(headers), nullptr);
  mark_answered(stream);
}

void GrpcSession::Impl::refuse(std::int32_t id, Stream& stream, GrpcCode code, std::string_view why) {
  const std::string status = fmt::to_string(static_cast<int>(code)), text = grpc_text(why);
  std::string details;
  std::vector<nghttp2_nv> headers = {header(":status", "200"), header("content-type", "application/grpc"), header("grpc-status", status),
                                     header("grpc-message", text), header("grpc-accept-encoding", kAcceptedEncodings)};
  if (code == GrpcCode::Unavailable) {
    details = grpc_retry_details(code, why, kRetryAfterS);
    headers.push_back(header("grpc-status-details-bin", details));
  }
  (void)nghttp2_submit_response(session.get(), id, headers.data(), headers.size(), nullptr);
  mark_answered(stream);
}

void GrpcSession::Impl::answer(std::int32_t id, Stream& stream, std::string_view message) {
  mark_answered(stream);
  stream.answer = grpc_message(message);
  const nghttp2_nv headers[] = {header(":status", "200"), header("content-type", "application/grpc"), header("grpc-accept-encoding", kAcceptedEncodings)};
  nghttp2_data_provider provider{};
  provider.read_callback = [](nghttp2_session*, std::int32_t stream_id, std::uint8_t* to, std::size_t room, std::uint32_t* flags, nghttp2_data_source*, void* user) -> ssize_t {
    return static_cast<Impl*>(user)->read_answer(stream_id, to, room, flags);
  };
  (void)nghttp2_submit_response(session.get(), id, headers, std::size(headers), &provider);
}

ssize_t GrpcSession::Impl::read_answer(std::int32_t id, std::uint8_t* to, std::size_t room, std::uint32_t* flags) {
  Stream* stream = find(id);
  if (stream == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  const std::size_t size = std::min(room, stream->answer.size() - stream->sent);
  std::copy_n(stream->answer.data() + stream->sent, size, reinterpret_cast<char*>(to));
  stream->sent += size;
  if (stream->sent == stream->answer.size()) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    const nghttp2_nv trailers[] = {header("grpc-status", "0")};
    if (nghttp2_submit_trailer(session.get(), id, trailers, std::size(trailers)) != 0) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
  }
  return static_cast<ssize_t>(size);
}

int GrpcSession::Impl::on_header(std::int32_t id, std::string_view name, std::string_view value) {
  Stream* stream = find(id);
  if (stream == nullptr) return 0;
  stream->header_bytes += name.size() + value.size() + 32;  // as RFC 9113 counts them
  if (stream->header_bytes > shared.limits.header_bytes_max) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;  // resets the stream
  if (name == ":method") stream->method = value;
  if (name == ":path") stream->path = value;
  if (name == "content-type") stream->content_type = value;
  if (name == "grpc-encoding") stream->encoding = value;
  if (name == "origin") stream->origin = value;
  return 0;
}

void GrpcSession::Impl::on_headers_end(std::int32_t id) {
  Stream* stream = find(id);
  if (stream == nullptr || stream->answered) return;
  if (stream->method != "POST") return refuse_http(id, *stream, "405");
  const std::string_view type = stream->content_type;
  if (type != "application/grpc" && !type.starts_with("application/grpc+proto") && !type.starts_with("application/grpc;")) return refuse_http(id, *stream, "415");
  if (!stream->origin.empty()) return refuse(id, *stream, GrpcCode::PermissionDenied, "pages in a browser may not write here");
  if (call_of(stream->path) == nullptr) refuse(id, *stream, GrpcCode::Unimplemented, fmt::format("no such call '{}'", stream->path.substr(0, 128)));
}

void GrpcSession::Impl::on_data(std::int32_t id, std::string_view bytes) {
  Stream* stream = find(id);
  if (stream == nullptr || stream->answered) return;
  if (shared.arriving_bytes + bytes.size() > shared.limits.arriving_bytes_max) {
    if (const Call* call = call_of(stream->path)) shared.receivers.count_refused(std::string(call->http_path));
    return refuse(id, *stream, GrpcCode::Unavailable, "too much is arriving at once");
  }
  stream->body += bytes;
  stream->counted += bytes.size();
  shared.arriving_bytes += bytes.size();
  std::uint32_t size = 0;
  const bool told = grpc_message_size(stream->body, size);
  if ((told && size > kRequestBytesMax) || stream->body.size() > kRequestBytesMax + kGrpcPrefixBytes) {
    count_bad(*stream, fmt::format("a message of {} bytes", told ? size : stream->body.size()));
    refuse(id, *stream, GrpcCode::ResourceExhausted, fmt::format("a message has at most {} bytes", kRequestBytesMax));
  }
}

void GrpcSession::Impl::on_request(std::int32_t id) {
  Stream* stream = find(id);
  if (stream == nullptr || stream->answered) return;
  const Call* call = call_of(stream->path);
  if (call == nullptr) return;  // answered already
  const auto message = parse_grpc_message(stream->body);
  const bool packs = !stream->encoding.empty() && stream->encoding != "identity";
  if (!message || (message->packed && !packs)) {
    const std::string why = message ? "the message is packed, but grpc-encoding names nothing" : message.error().message;
    count_bad(*stream, why);
    return refuse(id, *stream, GrpcCode::Internal, why);
  }
  const auto taken = shared.receivers.take_otlp(call->signal, message->packed ? std::string_view(stream->encoding) : std::string_view(), message->bytes);
  if (!taken) return refuse(id, *stream, code_of(taken.error().code), taken.error().message);
  answer(id, *stream, otlp_response_protobuf(call->signal, *taken));
}

void GrpcSession::Impl::on_close(std::int32_t id) {
  Stream* stream = find(id);
  if (stream == nullptr) return;
  if (!stream->answered && ++given_up > shared.limits.given_up_max + answered) {
    wrong = fmt::format("{} requests were given up half-way", given_up);
    (void)nghttp2_session_terminate_session(session.get(), NGHTTP2_ENHANCE_YOUR_CALM);
  }
  forget_body(*stream);
  streams.erase(id);
}

GrpcSession::GrpcSession(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GrpcSession::~GrpcSession() {
  // nghttp2 does not tell of the streams that end with their session.
  for (auto& [id, stream] : impl_->streams) impl_->forget_body(stream);
}

Result<std::unique_ptr<GrpcSession>> GrpcSession::create(GrpcShared& shared) {
  auto impl = std::make_unique<Impl>(shared);
  nghttp2_session_callbacks* made_callbacks = nullptr;
  nghttp2_option* made_option = nullptr;
  const bool made = nghttp2_session_callbacks_new(&made_callbacks) == 0 && nghttp2_option_new(&made_option) == 0;
  const CallbacksHandle callbacks(made_callbacks);
  const OptionHandle option(made_option);
  if (!made) return fail(Code::Exhausted, "no memory for a connection");
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks.get(), [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
    return Impl::guarded(user, [&](Impl& self) {
      if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) self.streams.try_emplace(frame->hd.stream_id);
      return 0;
    });
  });
  nghttp2_session_callbacks_set_on_header_callback(callbacks.get(), [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size,
                                                                       const std::uint8_t* value, std::size_t value_size, std::uint8_t, void* user) {
    return Impl::guarded(user, [&](Impl& self) {
      if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;  // a client's trailers say nothing to us
      return self.on_header(frame->hd.stream_id, {reinterpret_cast<const char*>(name), name_size}, {reinterpret_cast<const char*>(value), value_size});
    });
  });
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks.get(), [](nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data, std::size_t size, void* user) {
    return Impl::guarded(user, [&](Impl& self) {
      self.on_data(id, {reinterpret_cast<const char*>(data), size});
      return 0;
    });
  });
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks.get(), [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
    return Impl::guarded(user, [&](Impl& self) {
      if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) self.on_headers_end(frame->hd.stream_id);
      const bool carries = frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA;
      if (carries && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) self.on_request(frame->hd.stream_id);
      return 0;
    });
  });
  nghttp2_session_callbacks_set_on_frame_send_callback(callbacks.get(), [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
    return Impl::guarded(user, [&](Impl& self) {
      if (frame->hd.type == NGHTTP2_HEADERS && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) self.on_sent_end(frame->hd.stream_id);
      return 0;
    });
  });
  nghttp2_session_callbacks_set_on_invalid_frame_recv_callback(callbacks.get(), [](nghttp2_session*, const nghttp2_frame* frame, int error, void* user) {
    return Impl::guarded(user, [&](Impl& self) {
      self.broken = fmt::format("frame of type {} in stream {}: {}", frame->hd.type, frame->hd.stream_id, nghttp2_strerror(error));
      return 0;
    });
  });
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks.get(), [](nghttp2_session*, std::int32_t id, std::uint32_t, void* user) {
    return Impl::guarded(user, [&](Impl& self) {
      self.on_close(id);
      return 0;
    });
  });
  nghttp2_option_set_no_closed_streams(option.get(), 1);  // they are of use to priorities only, and cost memory
  nghttp2_session* session = nullptr;
  if (nghttp2_session_server_new2(&session, callbacks.get(), impl.get(), option.get()) != 0) return fail(Code::Exhausted, "no memory for a connection");
  impl->session.reset(session);
  const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, shared.limits.streams_max},
                                             {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kStreamWindowBytes},
                                             {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<std::uint32_t>(shared.limits.header_bytes_max)}};
  if (nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, std::size(settings)) != 0 ||
      nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, kConnectionWindowBytes) != 0) {
    return fail(Code::Exhausted, "no memory for a connection");
  }
  return std::unique_ptr<GrpcSession>(new GrpcSession(std::move(impl)));
}

Result<void> GrpcSession::receive(std::string_view bytes) {
  Impl& self = *impl_;
  const ssize_t taken = nghttp2_session_mem_recv(self.session.get(), reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  if (taken < 0) self.wrong = nghttp2_strerror(static_cast<int>(taken));
  // After a broken connection nghttp2 only says good-bye.
  if (self.wrong.empty() && !self.broken.empty() && nghttp2_session_want_read(self.session.get()) == 0) self.wrong = self.broken;
  if (!self.wrong.empty()) return fail(Code::Invalid, fmt::format("gRPC: {}", self.wrong));
  return {};
}

void GrpcSession::output(std::string& to) {
  while (to.size() <= impl_->shared.limits.waiting_bytes_max) {
    const std::uint8_t* data = nullptr;
    const ssize_t size = nghttp2_session_mem_send(impl_->session.get(), &data);
    if (size <= 0) {
      if (size < 0) impl_->wrong = nghttp2_strerror(static_cast<int>(size));
      return;
    }
    to.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size));
  }
}

void GrpcSession::go_away() {
  (void)nghttp2_submit_goaway(impl_->session.get(), NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(impl_->session.get()), NGHTTP2_NO_ERROR, nullptr, 0);
}

bool GrpcSession::is_over() const {
  return !impl_->wrong.empty() || (nghttp2_session_want_read(impl_->session.get()) == 0 && nghttp2_session_want_write(impl_->session.get()) == 0);
}

std::uint64_t GrpcSession::answered() const { return impl_->answered; }
std::size_t GrpcSession::open_streams() const { return impl_->streams.size(); }

}  // namespace culprit::ingest
