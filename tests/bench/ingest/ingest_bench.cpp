// From a socket to the store: OTLP over HTTP or gRPC as fast as one client sends it. The receiver runs on one thread (libmicrohttpd's,
// or ours over libnghttp2), which decodes and hands the batch to a thread that appends to the embedded store; both are timed by their CPU.
// ingest_bench json|protobuf|grpc spans|logs SECONDS -> one line: records/s, receiver CPU share, store CPU share, worst health check ms
#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <time.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include "daemon/base/handle.h"
#include "daemon/concurrent/channel.h"
#include "daemon/ingest/grpc_message.h"
#include "daemon/ingest/grpc_server.h"
#include "daemon/ingest/http_server.h"
#include "daemon/ingest/wire.h"
#include "daemon/stream/embedded_store.h"

namespace culprit::ingest {
namespace {

constexpr int kRecords = 1000;  // of one request

class Nobody final : public Resolver {
 public:
  std::string service_of_pid(std::uint32_t) const override { return {}; }
  std::string service_of_container(std::string_view) const override { return {}; }
  std::string service_of_port(std::uint16_t) const override { return {}; }
  std::string_view host_name() const override { return "bench"; }
};

std::string attribute(std::string_view key, std::string_view text) {
  WireWriter value, pair;
  value.bytes(1, text);
  pair.bytes(1, key);
  pair.bytes(2, value.text());
  return pair.text();
}

constexpr std::pair<const char*, const char*> kAttributes[] = {
    {"http.request.method", "GET"}, {"http.route", "/orders/{id}"}, {"http.response.status_code", "200"}, {"server.address", "order.shop.svc"},
    {"network.peer.address", "10.1.0.4"}, {"user_agent.original", "curl/8.5.0"}};

std::string protobuf(bool spans, std::int64_t wall) {
  WireWriter scope, resource, resources, whole;
  for (int i = 0; i < kRecords; ++i) {
    WireWriter record;
    const std::string trace = fmt::format("{:016d}", i + 1), id = fmt::format("{:08d}", i + 1);
    if (spans) {
      record.bytes(1, trace);
      record.bytes(2, id);
      record.bytes(4, id);
      record.bytes(5, "GET /orders/{id}");
      record.number(6, 2);
      record.fixed64(7, static_cast<std::uint64_t>(wall - 1000000));
      record.fixed64(8, static_cast<std::uint64_t>(wall));
      for (const auto& [key, value] : kAttributes) record.bytes(9, attribute(key, value));
    } else {
      WireWriter body;
      body.bytes(1, fmt::format("order {} was placed by customer {}", i, i * 7919));
      record.fixed64(1, static_cast<std::uint64_t>(wall));
      record.number(2, 9);
      record.bytes(5, body.text());
      for (const auto& [key, value] : kAttributes) record.bytes(6, attribute(key, value));
      record.bytes(9, trace);
      record.bytes(10, id);
    }
    scope.bytes(2, record.text());
  }
  resource.bytes(1, attribute("service.name", "order"));
  resources.bytes(1, resource.text());
  resources.bytes(2, scope.text());
  whole.bytes(1, resources.text());
  return whole.text();
}

std::string json(bool spans, std::int64_t wall) {
  std::string attributes;
  for (const auto& [key, value] : kAttributes) attributes += fmt::format("{}{{\"key\":\"{}\",\"value\":{{\"stringValue\":\"{}\"}}}}", attributes.empty() ? "" : ",", key, value);
  std::string list;
  for (int i = 0; i < kRecords; ++i) {
    if (i > 0) list += ',';
    if (spans) {
      list += fmt::format(R"({{"traceId":"{:032x}","spanId":"{:016x}","parentSpanId":"{:016x}","name":"GET /orders/{{id}}","kind":2,"startTimeUnixNano":"{}","endTimeUnixNano":"{}","attributes":[{}]}})", i + 1, i + 1, i + 1, wall - 1000000, wall, attributes);
    } else {
      list += fmt::format(R"({{"timeUnixNano":"{}","severityNumber":9,"body":{{"stringValue":"order {} was placed by customer {}"}},"traceId":"{:032x}","spanId":"{:016x}","attributes":[{}]}})", wall, i, i * 7919, i + 1, i + 1, attributes);
    }
  }
  return fmt::format(R"({{"{}":[{{"resource":{{"attributes":[{{"key":"service.name","value":{{"stringValue":"order"}}}}]}},"{}":[{{"{}":[{}]}}]}}]}})",
                     spans ? "resourceSpans" : "resourceLogs", spans ? "scopeSpans" : "scopeLogs", spans ? "spans" : "logRecords", list);
}

double thread_cpu_s() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}
double process_cpu_s() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::size_t discard(char*, std::size_t size, std::size_t count, void*) { return size * count; }

// The status of a gRPC call is in its trailers, which curl gives like headers.
std::size_t grpc_status(char* data, std::size_t size, std::size_t count, void* to) {
  constexpr std::string_view kName = "grpc-status: ";
  const std::string_view line(data, size * count);
  if (line.starts_with(kName)) *static_cast<long*>(to) = std::atol(std::string(line.substr(kName.size())).c_str());
  return size * count;
}

// The slowest of 200 health checks [ms] beside 500 connections that say nothing; negative if one failed.
double worst_health_ms(const std::string& base, std::uint16_t port) {
  std::vector<Fd> idle;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  for (int i = 0; i < 500; ++i) {
    Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) return -1;
    idle.push_back(std::move(fd));
  }
  const Handle<CURL, curl_easy_cleanup> health(curl_easy_init());
  curl_easy_setopt(health.get(), CURLOPT_URL, (base + "/healthz").c_str());
  curl_easy_setopt(health.get(), CURLOPT_WRITEFUNCTION, discard);
  double worst_ms = 0;
  for (int i = 0; i < 200; ++i) {
    const auto start = std::chrono::steady_clock::now();
    if (curl_easy_perform(health.get()) != CURLE_OK) return -1;
    worst_ms = std::max(worst_ms, std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count());
  }
  return worst_ms;
}

int run(std::string_view form, bool spans, double seconds) {
  const bool use_json = form == "json", grpc = form == "grpc";
  const SystemClock clock;
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("culprit-bench-ingest-{}", ::getpid());
  stream::StoreOptions options;
  options.folder = folder;
  auto store = stream::EmbeddedStore::open(options, clock);
  if (!store) return std::fprintf(stderr, "%s\n", store.error().message.c_str()), 1;
  concurrent::Channel<Batch> channel({.name = "bench", .capacity = 1024});
  std::atomic<double> store_cpu = 0;
  std::jthread appender([&] {
    Batch batch;
    while (channel.recv(batch) == concurrent::Outcome::Done) {
      batch.settle((*store)->append(std::move(batch.events)).has_value());
      store_cpu = thread_cpu_s();
    }
  });
  const Nobody nobody;
  Intake intake({}, [&](Batch&& batch) { return channel.send(std::move(batch)) == concurrent::Outcome::Done; });
  Receivers receivers({clock, nobody, intake});
  auto listener = listen_stream("127.0.0.1:0");
  if (!listener) return 1;
  const std::uint16_t port = port_of(listener->get()).value_or(0);
  std::unique_ptr<HttpServer> http_server;
  std::unique_ptr<GrpcServer> grpc_server;
  if (grpc) {
    auto server = GrpcServer::start(std::move(*listener), receivers, std::make_shared<SourceState>("otlp-grpc", "listener", "here"), clock);
    if (!server) return 1;
    grpc_server = std::move(*server);
  } else {
    auto server = HttpServer::start(std::move(*listener), receivers);
    if (!server) return 1;
    http_server = std::move(*server);
  }
  const std::string base = fmt::format("http://127.0.0.1:{}", port);
  const std::int64_t wall = clock.wall_ns(clock.now_ns());
  const std::string body = use_json ? json(spans, wall) : grpc ? grpc_message(protobuf(spans, wall)) : protobuf(spans, wall);
  const Handle<CURL, curl_easy_cleanup> curl(curl_easy_init());
  curl_slist* headers = curl_slist_append(nullptr, use_json ? "Content-Type: application/json" : grpc ? "Content-Type: application/grpc" : "Content-Type: application/x-protobuf");
  headers = curl_slist_append(headers, "Expect:");
  if (grpc) headers = curl_slist_append(headers, "TE: trailers");
  const Handle<curl_slist, curl_slist_free_all> owner(headers);
  const char* path = grpc ? (spans ? "/opentelemetry.proto.collector.trace.v1.TraceService/Export" : "/opentelemetry.proto.collector.logs.v1.LogsService/Export") : (spans ? "/v1/traces" : "/v1/logs");
  curl_easy_setopt(curl.get(), CURLOPT_URL, (base + path).c_str());
  long told = -1;
  if (grpc) {
    curl_easy_setopt(curl.get(), CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE));
    curl_easy_setopt(curl.get(), CURLOPT_HEADERFUNCTION, grpc_status);
    curl_easy_setopt(curl.get(), CURLOPT_HEADERDATA, &told);
  }
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, discard);
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  const auto begin = std::chrono::steady_clock::now();
  const double cpu_begin = process_cpu_s(), own_begin = thread_cpu_s();
  std::uint64_t sent = 0, again = 0;
  double elapsed = 0;
  while (elapsed < seconds) {
    long status = 0;
    if (curl_easy_perform(curl.get()) != CURLE_OK) return 1;
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
    if (grpc) status = told == 0 ? 200 : told == 14 ? 503 : told;
    if (status == 200) sent += kRecords;
    else if (status == 503) ++again;
    else return std::fprintf(stderr, "answered %ld\n", status), 1;
    elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  const double client_cpu = thread_cpu_s() - own_begin, all_cpu = process_cpu_s() - cpu_begin, store_part = store_cpu;
  const double worst_ms = grpc ? 0 : worst_health_ms(base, port);
  if (worst_ms < 0) return std::fprintf(stderr, "a health check failed\n"), 1;
  http_server.reset();
  grpc_server.reset();
  (void)channel.close();
  appender.join();
  std::uint64_t stored = 0;
  for (const SourcePtr& source : receivers.sources()) stored += source->stats().stored;
  if (stored != sent) return std::fprintf(stderr, "sent %llu, stored %llu\n", static_cast<unsigned long long>(sent), static_cast<unsigned long long>(stored)), 1;
  // What one core gives: all CPU but the client's, receiver and store together.
  const double ours = all_cpu - client_cpu;
  std::printf("%.0f %.0f %.3f %.3f %.2f %llu\n", static_cast<double>(sent) / elapsed, static_cast<double>(sent) / ours, (ours - store_part) / elapsed, store_part / elapsed, worst_ms, static_cast<unsigned long long>(again));
  std::error_code ignored;
  store->reset();
  std::filesystem::remove_all(folder, ignored);
  return 0;
}

}  // namespace
}  // namespace culprit::ingest

int main(int argc, char** argv) {
  if (argc < 4) return std::fputs("usage: bench_ingest json|protobuf|grpc spans|logs SECONDS\n", stderr), 2;
  return culprit::ingest::run(argv[1], std::string_view(argv[2]) == "spans", std::atof(argv[3]));
}
