// OTLP over gRPC: what a client sends is stored once or refused with the status that tells it what to do.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <zlib.h>

#include <atomic>
#include <map>

#include "daemon/base/handle.h"
#include "daemon/ingest/grpc_server.h"
#include "daemon/ingest/http_server.h"
#include "daemon/ingest/wire.h"
#include "tests/ingest/support.h"

namespace culprit::ingest {
namespace {

constexpr const char* kLogs = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

std::string logs(int records) {
  WireWriter scope;
  for (int i = 0; i < records; ++i) {
    WireWriter value, record;
    value.bytes(1, fmt::format("line {}", i));
    record.bytes(5, value.text());
    scope.bytes(2, record.text());
  }
  WireWriter resource, request;
  resource.bytes(2, scope.text());
  request.bytes(1, resource.text());
  return request.text();
}

std::string gzip(const std::string& text) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(text.size() + 128, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// A clock that another thread may read.
class SharedClock final : public Clock {
 public:
  std::int64_t now_ns() const override { return now_ns_; }
  std::int64_t wall_offset_ns() const override { return kOffset; }
  void advance(std::int64_t ns) { now_ns_ += ns; }

 private:
  std::atomic<std::int64_t> now_ns_ = kNow;
};

struct Answer {
  std::map<std::string, std::string> headers;  // and trailers
  std::string body;
  bool closed = false;
};

// nghttp2's client side, in memory.
class Client {
 public:
  Client() {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    const Handle<nghttp2_session_callbacks, nghttp2_session_callbacks_del> owner(callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name, std::size_t name_size, const std::uint8_t* value,
                                                                   std::size_t value_size, std::uint8_t, void* user) {
      self(user).answers[frame->hd.stream_id].headers[std::string(reinterpret_cast<const char*>(name), name_size)] = std::string(reinterpret_cast<const char*>(value), value_size);
      return 0;
    });
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, [](nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data, std::size_t size, void* user) {
      self(user).answers[id].body.append(reinterpret_cast<const char*>(data), size);
      return 0;
    });
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, [](nghttp2_session*, std::int32_t id, std::uint32_t, void* user) {
      self(user).answers[id].closed = true;
      return 0;
    });
    nghttp2_session* session = nullptr;
    nghttp2_session_client_new(&session, callbacks, this);
    session_.reset(session);
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, nullptr, 0);
  }

  // `body` is sent as it is; with `ends` false the request stays open.
  std::int32_t request(const std::string& path, std::string body, std::map<std::string, std::string> more = {}, bool ends = true) {
    std::map<std::string, std::string> all = {{":method", "POST"}, {":scheme", "http"}, {":authority", "x"}, {":path", path}, {"content-type", "application/grpc"}, {"te", "trailers"}};
    for (auto& [name, value] : more) all[name] = value;
    std::vector<nghttp2_nv> list;
    for (auto& [name, value] : all) {
      list.push_back({reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())), reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    }
    auto& sending = bodies_.emplace_back(std::make_unique<Sending>(Sending{std::move(body), 0, ends}));
    nghttp2_data_provider provider{};
    provider.source.ptr = sending.get();
    provider.read_callback = [](nghttp2_session*, std::int32_t, std::uint8_t* to, std::size_t room, std::uint32_t* flags, nghttp2_data_source* source, void*) -> ssize_t {
      auto& from = *static_cast<Sending*>(source->ptr);
      const std::size_t size = std::min(room, from.body.size() - from.at);
      if (size == 0 && !from.ends) return NGHTTP2_ERR_DEFERRED;
      std::copy_n(from.body.data() + from.at, size, reinterpret_cast<char*>(to));
      from.at += size;
      if (from.at == from.body.size() && from.ends) *flags |= NGHTTP2_DATA_FLAG_EOF;
      return static_cast<ssize_t>(size);
    };
    return nghttp2_submit_request(session_.get(), nullptr, list.data(), list.size(), &provider, nullptr);
  }
  void reset(std::int32_t id) { nghttp2_submit_rst_stream(session_.get(), NGHTTP2_FLAG_NONE, id, NGHTTP2_CANCEL); }

  std::string to_send() {
    std::string bytes;
    const std::uint8_t* data = nullptr;
    for (ssize_t size = 0; (size = nghttp2_session_mem_send(session_.get(), &data)) > 0;) bytes.append(reinterpret_cast<const char*>(data), static_cast<std::size_t>(size));
    return bytes;
  }
  void receive(const std::string& bytes) { EXPECT_EQ(nghttp2_session_mem_recv(session_.get(), reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size()), static_cast<ssize_t>(bytes.size())); }

  std::map<std::int32_t, Answer> answers;

 private:
  struct Sending {
    std::string body;
    std::size_t at = 0;
    bool ends = true;
  };
  static Client& self(void* user) { return *static_cast<Client*>(user); }
  std::vector<std::unique_ptr<Sending>> bodies_;
  Handle<nghttp2_session, nghttp2_session_del> session_;
};

class GrpcTest : public testing::Test {
 protected:
  GrpcTest() : intake_({.events_max = 100, .bytes_max = 1U << 20U}, [this](Batch&& batch) {
    held_.push_back(std::move(batch));
    return true;
  }) {
    shared_.limits.arriving_bytes_max = 20U << 20U;
    shared_.limits.given_up_max = 5;
    auto session = GrpcSession::create(shared_);
    EXPECT_TRUE(session);
    session_ = std::move(*session);
  }

  // Until neither side has more to say. False once the server side says that the connection is of no use.
  bool talk(std::size_t piece = 16U << 10U) {
    while (true) {
      const std::string out = client_.to_send();
      for (std::size_t at = 0; at < out.size(); at += piece) {
        if (!session_->receive(std::string_view(out).substr(at, piece))) return false;
        std::string back;
        session_->output(back);
        client_.receive(back);
      }
      std::string back;
      session_->output(back);
      client_.receive(back);
      if (out.empty() && back.empty()) return true;
    }
  }
  Answer ask(const std::string& path, std::string body, std::map<std::string, std::string> more = {}) {
    const std::int32_t id = client_.request(path, std::move(body), std::move(more));
    EXPECT_TRUE(talk());
    EXPECT_TRUE(client_.answers[id].closed);
    return client_.answers[id];
  }
  SourceStats stats(std::string_view name) {
    for (const SourcePtr& source : receivers_.sources()) {
      if (source->name() == name) return source->stats();
    }
    return {};
  }

  SharedClock clock_;
  Intake intake_;
  std::vector<Batch> held_;  // behind it: batches settle with it as they end
  Receivers receivers_{{clock_, fake_resolver(), intake_}};
  GrpcShared shared_{receivers_};
  std::unique_ptr<GrpcSession> session_;
  Client client_;
};

TEST_F(GrpcTest, EachCallIsStoredOnce) {
  const Answer plain = ask(kLogs, grpc_message(logs(3)));
  EXPECT_EQ(plain.headers.at(":status"), "200");
  EXPECT_EQ(plain.headers.at("content-type"), "application/grpc");
  EXPECT_EQ(plain.headers.at("grpc-status"), "0");
  EXPECT_EQ(plain.body, grpc_message(""));
  std::string packed = grpc_message(gzip(logs(4)));
  packed[0] = 1;
  EXPECT_EQ(ask(kLogs, packed, {{"grpc-encoding", "gzip"}}).headers.at("grpc-status"), "0");
  EXPECT_EQ(ask("/opentelemetry.proto.collector.trace.v1.TraceService/Export", grpc_message("")).headers.at("grpc-status"), "0");
  EXPECT_EQ(ask("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export", grpc_message(""), {{"content-type", "application/grpc+proto"}}).headers.at("grpc-status"), "0");
  EXPECT_EQ(stats("otlp-logs").produced, 7U);
  EXPECT_EQ(stats("otlp-traces").requests, 1U);
  EXPECT_EQ(stats("otlp-metrics").requests, 1U);
  ASSERT_EQ(held_.size(), 2U);
  EXPECT_EQ(held_[1].events[3].body, "line 3");
  EXPECT_EQ(session_->answered(), 4U);
  EXPECT_EQ(session_->open_streams(), 0U);
  EXPECT_EQ(shared_.arriving_bytes, 0U);
}

TEST_F(GrpcTest, WhatIsWrongHasItsStatus) {
  std::string packed = grpc_message("no gzip at all");
  packed[0] = 1;
  std::string flag = grpc_message("");
  flag[0] = 7;
  const struct { const char* name; std::string path, body; std::map<std::string, std::string> headers; const char* status; const char* text; } cases[] = {
      {"not OTLP", kLogs, grpc_message("\xff\xff"), {}, "3", "offset"},
      {"not gzip", kLogs, packed, {{"grpc-encoding", "gzip"}}, "3", "gzip"},
      {"packed, but how", kLogs, packed, {}, "13", "grpc-encoding"},
      {"unknown encoding", kLogs, packed, {{"grpc-encoding", "br"}}, "12", "br"},
      {"no message", kLogs, "", {}, "13", "offset 0"},
      {"half a prefix", kLogs, "\1\2", {}, "13", "offset 0"},
      {"cut short", kLogs, grpc_message(logs(1)).substr(0, 9), {}, "13", "offset 9"},
      {"two messages", kLogs, grpc_message("") + grpc_message(""), {}, "13", "offset 5"},
      {"unknown flag", kLogs, flag, {}, "13", "flag 7"},
      {"unknown call", "/opentelemetry.proto.collector.logs.v1.LogsService/Import", grpc_message(""), {}, "12", "Import"},
      {"a page", kLogs, grpc_message(""), {{"origin", "https://evil.example"}}, "7", "browser"},
      {"too much at once", kLogs, grpc_message(logs(101)), {}, "8", "at most"},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.name);
    const Answer answer = ask(c.path, c.body, c.headers);
    EXPECT_EQ(answer.headers.at(":status"), "200");
    EXPECT_EQ(answer.headers.at("grpc-status"), c.status);
    EXPECT_THAT(answer.headers.at("grpc-message"), testing::HasSubstr(c.text));
    EXPECT_FALSE(answer.headers.contains("grpc-status-details-bin"));  // would only fail again
    EXPECT_EQ(answer.body, "");
  }
  EXPECT_EQ(ask(kLogs, "", {{":method", "GET"}}).headers.at(":status"), "405");
  EXPECT_EQ(ask(kLogs, "", {{"content-type", "application/json"}}).headers.at(":status"), "415");
  EXPECT_EQ(stats("otlp-logs").malformed, 9U);
  EXPECT_EQ(stats("otlp-logs").produced, 0U);
  EXPECT_EQ(ask(kLogs, grpc_message(logs(1))).headers.at("grpc-status"), "0");  // the connection lives on
  EXPECT_EQ(shared_.arriving_bytes, 0U);
}

// Without room nothing is taken, and the client is told when to come again.
TEST_F(GrpcTest, PressureNamesATime) {
  EXPECT_EQ(ask(kLogs, grpc_message(logs(60))).headers.at("grpc-status"), "0");
  const Answer busy = ask(kLogs, grpc_message(logs(60)));
  EXPECT_EQ(busy.headers.at("grpc-status"), "14");
  // google.rpc.Status{14, message, Any{type, RetryInfo{Duration{1 s}}}}
  EXPECT_EQ(busy.headers.at("grpc-status-details-bin"), "CA4SJzYwIGV2ZW50cyB3YWl0IHRvIGJlIHN0b3JlZDsgY29tZSBhZ2FpbhowCih0eXBlLmdvb2dsZWFwaXMuY29tL2dvb2dsZS5ycGMuUmV0cnlJbmZvEgQKAggB");
  EXPECT_EQ(stats("otlp-logs").refused, 1U);
  EXPECT_EQ(stats("otlp-logs").produced, 60U);
  held_[0].settle(true);
  EXPECT_EQ(ask(kLogs, grpc_message(logs(60))).headers.at("grpc-status"), "0");
}

TEST_F(GrpcTest, LimitsHold) {
  std::string huge(kGrpcPrefixBytes, '\0');
  huge[1] = 0x7f;  // 2 GiB are announced: refused before they come
  const std::int32_t announced = client_.request(kLogs, huge, {}, false);
  ASSERT_TRUE(talk());
  EXPECT_EQ(client_.answers[announced].headers["grpc-status"], "8");
  EXPECT_TRUE(client_.answers[announced].closed);
  // More than may arrive at once: the second waits its turn.
  const std::string large = grpc_message(std::string(15U << 20U, ' '));
  const std::int32_t first = client_.request(kLogs, large.substr(0, 14U << 20U), {}, false), second = client_.request(kLogs, large.substr(0, 14U << 20U), {}, false);
  ASSERT_TRUE(talk());
  EXPECT_EQ((client_.answers[first].headers.contains("grpc-status") ? 1 : 0) + (client_.answers[second].headers.contains("grpc-status") ? 1 : 0), 1);
  const std::int32_t refused = client_.answers[first].closed ? first : second;
  EXPECT_EQ(client_.answers[refused].headers["grpc-status"], "14");
  EXPECT_TRUE(client_.answers[refused].headers.contains("grpc-status-details-bin"));
  EXPECT_LE(shared_.arriving_bytes, shared_.limits.arriving_bytes_max);
  EXPECT_EQ(stats("otlp-logs").refused, 1U);
  EXPECT_EQ(stats("otlp-logs").malformed, 1U);  // the one of 2 GiB
  // Headers beyond the limit end their request only.
  const std::int32_t wide = client_.request(kLogs, grpc_message(""), {{"x", std::string(shared_.limits.header_bytes_max, 'x')}});
  ASSERT_TRUE(talk());
  EXPECT_TRUE(client_.answers[wide].closed);
  EXPECT_FALSE(client_.answers[wide].headers.contains("grpc-status"));
  session_.reset();
  EXPECT_EQ(shared_.arriving_bytes, 0U);
}

// Requests that are opened and reset, again and again, end the connection.
TEST_F(GrpcTest, AFloodOfResetsEndsTheConnection) {
  bool open = true;
  int sent = 0;
  for (; open && sent < 100; ++sent) {
    const std::int32_t id = client_.request(kLogs, "\0", {}, false);
    open = talk();
    client_.reset(id);
    open = open && talk();
  }
  EXPECT_FALSE(open);
  EXPECT_LE(sent, 10);
}

// Any bytes: an error, never a crash; the counters stay whole.
TEST_F(GrpcTest, HostileBytes) {
  EXPECT_FALSE(session_->receive("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(session_->is_over());
  client_.request(kLogs, grpc_message(logs(3)));
  const std::string good = client_.to_send();
  for (std::size_t at = 24; at < good.size(); ++at) {  // each byte after the preface, changed
    std::string bytes = good;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x5a);
    auto session = GrpcSession::create(shared_);
    ASSERT_TRUE(session);
    for (std::size_t from = 0; from < bytes.size() && (*session)->receive(std::string_view(bytes).substr(from, 7)); from += 7) {
      std::string out;
      (*session)->output(out);
    }
    session->reset();
    ASSERT_EQ(shared_.arriving_bytes, 0U) << at;
  }
}

TEST_F(GrpcTest, ServerBoundsItsConnections) {
  auto listener = listen_stream("127.0.0.1:0");
  ASSERT_TRUE(listener);
  const auto port = port_of(listener->get());
  ASSERT_TRUE(port);
  const auto state = std::make_shared<SourceState>("otlp-grpc", "listener", "");
  auto server = GrpcServer::start(std::move(*listener), receivers_, state, clock_, {.connections_max = 2, .idle_ns = 10 * kNsPerSecond});
  ASSERT_TRUE(server);
  const auto dial = [&] {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(*port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0);
    return fd;
  };
  // Until the other side closes.
  const auto read_all = [](const Fd& fd) {
    std::string all(1U << 16U, '\0');
    std::size_t have = 0;
    for (ssize_t got = 0; (got = ::recv(fd.get(), all.data() + have, all.size() - have, 0)) > 0;) have += static_cast<std::size_t>(got);
    all.resize(have);
    return all;
  };
  const Fd wrong = dial();
  ASSERT_GT(::send(wrong.get(), "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 0);
  (void)read_all(wrong);
  EXPECT_EQ(state->stats().malformed, 1U);
  const Fd good = dial(), idle = dial();
  client_.request(kLogs, grpc_message(logs(2)));
  std::string out = client_.to_send();
  ASSERT_EQ(::send(good.get(), out.data(), out.size(), MSG_NOSIGNAL), static_cast<ssize_t>(out.size()));
  while (!client_.answers[1].closed) {
    std::string bytes(4096, '\0');
    const ssize_t got = ::recv(good.get(), bytes.data(), bytes.size(), 0);
    ASSERT_GT(got, 0);
    bytes.resize(static_cast<std::size_t>(got));
    client_.receive(bytes);
  }
  EXPECT_EQ(client_.answers[1].headers["grpc-status"], "0");
  const Fd third = dial();
  EXPECT_EQ(read_all(third), "");
  EXPECT_EQ(state->stats().refused, 1U);
  clock_.advance(11 * kNsPerSecond);  // both others are idle for too long: a GOAWAY frame (type 7), then the end
  EXPECT_THAT(read_all(idle), testing::HasSubstr(std::string("\0\0\x08\x07", 4)));
  (void)read_all(good);
  server->reset();
}

}  // namespace
}  // namespace culprit::ingest
