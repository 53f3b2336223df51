// From a socket to the store: OTLP over HTTP or gRPC as fast as one client sends it, through the daemon's own pipeline (join, miner, rollup, store).
// The client's CPU is taken out; records by what is left are what a core gives.
// ingest_bench json|protobuf|grpc spans|logs SECONDS -> one line: records/s, records/s of a core, worst health check ms, told to come again
//
// And the join alone, with requests that the kernel saw too (played): a service of 50 connections that tells its spans up to five seconds late.
// ingest_bench join traced|timed|lines REQUESTS_A_SECOND -> one line: ns of a told record, ns of a kernel span, share joined
// traced: a header names the trace; timed: none does, but connection, time and operation; lines: log records that name their thread only
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

#include "daemon/app/pipeline.h"
#include "daemon/base/at_end.h"
#include "daemon/base/handle.h"
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
      record.fixed64(7, static_cast<std::uint64_t>(wall - 1'000'000));
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

// The join alone: what a told record costs beside kernel spans of the same service.
int run_join(std::string_view what, int rate) {
  constexpr int kConnections = 50, kSeconds = 40, kToldEveryS = 5, kBatch = 512;
  constexpr std::int64_t kBegin = 1000 * kNsPerSecond;
  const bool traced = what == "traced", lines = what == "lines";
  if (!traced && !lines && what != "timed") return 2;
  const std::int64_t apart_ns = kNsPerSecond / rate, took_ns = kNsPerSecond * (kConnections - 10) / rate;  // each connection has work most of the time
  const auto made = [&](std::int64_t number, bool kernel) {
    stream::Event event;
    const std::int64_t end_ns = kBegin + number * apart_ns, slot = number % kConnections;
    const auto id = static_cast<std::uint64_t>(number) + 1;
    event.kind = kernel || !lines ? stream::Kind::Span : stream::Kind::Log;
    event.entity = "service:order";
    if (event.kind == stream::Kind::Log) {
      event.time_ns = end_ns - took_ns / 2;
      event.body = "order was placed";
      event.attributes = {{"process.pid", "4711"}, {"thread.id", fmt::to_string(4711 + slot)}};
      return event;
    }
    event.name = "GET /orders/{id}";
    event.time_ns = kernel ? end_ns : end_ns - took_ns / 20;
    event.value = static_cast<double>(kernel ? took_ns : took_ns * 9 / 10) / kNsPerSecond;
    if (kernel || traced) event.trace_id[0] = traced ? 1 : 7, event.trace_id[1] = id;
    event.span_id = kernel ? id : id << 32U;
    event.attributes = {{"http.request.method", "GET"}, {"url.path", "/orders/{id}"}, {"http.response.status_code", "200"}, {"client.port", fmt::to_string(40'000 + slot)}};
    if (traced) event.attributes.emplace_back("parent.span_id", fmt::format("{:016x}", id << 16U));
    if (kernel) event.attributes.append({{"process.pid", "4711"}, {"thread.id", fmt::to_string(4711 + slot)}, {"wait.postgres", "0.000300"}, {"self", "0.000700"}});
    else event.attributes.emplace_back("span.kind", "server");
    return event;
  };
  Join join("bench");
  double kernel_s = 0, told_s = 0;
  std::uint64_t told = 0;
  std::vector<stream::Event> out;
  for (int second = 0; second < kSeconds; ++second) {
    const std::int64_t now_ns = kBegin + (second + 1) * kNsPerSecond;
    std::vector<stream::Event> seen;
    for (int i = 0; i < rate; ++i) seen.push_back(made(std::int64_t{second} * rate + i, true));
    double at = thread_cpu_s();
    join.kernel(seen, now_ns);
    join.release(now_ns, false, out);
    kernel_s += thread_cpu_s() - at;
    out.clear();
    if ((second + 1) % kToldEveryS != 0) continue;
    std::vector<stream::Event> batch;
    for (std::int64_t number = std::int64_t{second + 1 - kToldEveryS} * rate, end = std::int64_t{second + 1} * rate; number < end; ++number) {
      batch.push_back(made(number, false));
      if (batch.size() < kBatch && number + 1 < end) continue;
      at = thread_cpu_s();
      (void)join.ready_ns(batch, now_ns);
      join.told(batch, now_ns, 12'345);
      told_s += thread_cpu_s() - at;
      told += batch.size();
      batch.clear();
    }
  }
  const JoinStats stats = join.stats();
  std::printf("%.0f %.0f %.3f\n", told_s * 1e9 / static_cast<double>(told), kernel_s * 1e9 / (double{kSeconds} * rate),
              static_cast<double>(stats.by_trace + stats.by_time + stats.late + stats.lines) / static_cast<double>(told));
  return 0;
}

int run(std::string_view form, bool spans, double seconds) {
  const bool use_json = form == "json", grpc = form == "grpc";
  const SystemClock clock;
  const auto folder = std::filesystem::temp_directory_path() / fmt::format("culprit-bench-ingest-{}", ::getpid());
  const AtEnd clean([&] {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  });
  stream::StoreOptions options;
  options.folder = folder;
  auto store = stream::EmbeddedStore::open(options, clock);
  if (!store) return std::fprintf(stderr, "%s\n", store.error().message.c_str()), 1;
  concurrent::Registry registry;
  app::Accounting accounting;
  app::DetectChannel detect({.name = "detect", .capacity = 64, .when_full = concurrent::WhenFull::Wait, .registry = &registry});
  std::jthread nobody_detects([&] {
    for (app::DetectInput input; detect.recv(input) == concurrent::Outcome::Done;) input = {};
  });
  const AtEnd no_more([&] { (void)detect.close(); });
  int silent[2];  // a supervisor that never says a word
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, silent) != 0) return 1;
  const Fd supervisor(silent[1]);
  const Config config;
  auto started = app::Pipeline::start({config, clock, **store, registry, accounting, detect, Fd(silent[0]), {}, [] { return false; }});
  if (!started) return std::fprintf(stderr, "%s\n", started.error().message.c_str()), 1;
  std::unique_ptr<app::Pipeline> pipeline = std::move(*started);
  const Nobody nobody;
  Intake intake({}, [&](Batch&& batch) { return pipeline->ingest(std::move(batch)); });
  Receivers receivers({clock, nobody, intake});
  auto listener = listen_stream("127.0.0.1:0");
  if (!listener) return std::fprintf(stderr, "%s\n", listener.error().message.c_str()), 1;
  const std::uint16_t port = port_of(listener->get()).value_or(0);
  std::unique_ptr<HttpServer> http_server;
  std::unique_ptr<GrpcServer> grpc_server;
  if (grpc) {
    auto server = GrpcServer::start(std::move(*listener), receivers, std::make_shared<SourceState>("otlp-grpc", "listener", "here"), clock);
    if (!server) return std::fprintf(stderr, "%s\n", server.error().message.c_str()), 1;
    grpc_server = std::move(*server);
  } else {
    auto server = HttpServer::start(std::move(*listener), receivers);
    if (!server) return std::fprintf(stderr, "%s\n", server.error().message.c_str()), 1;
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
  const char* path = grpc ? (spans ? "/opentelemetry.proto.collector.trace.v1.TraceService/Export" : "/opentelemetry.proto.collector.logs.v1.LogsService/Export")
                          : (spans ? "/v1/traces" : "/v1/logs");
  curl_easy_setopt(curl.get(), CURLOPT_URL, (base + path).c_str());
  long told = -1;
  if (grpc) {
    curl_easy_setopt(curl.get(), CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE));
    // curl 7.88.1 (Debian 12) cannot go on with a connection whose answer ended with trailers (its error 16, before a byte is sent): a new
    // connection for each request, which is counted as the receiver's.
    curl_easy_setopt(curl.get(), CURLOPT_FORBID_REUSE, 1L);
    curl_easy_setopt(curl.get(), CURLOPT_HEADERFUNCTION, grpc_status);
    curl_easy_setopt(curl.get(), CURLOPT_HEADERDATA, &told);
  }
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, discard);
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE, static_cast<long>(body.size()));
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  // Before the load: what the connections cost, not what the store still does.
  const double worst_ms = grpc ? 0 : worst_health_ms(base, port);
  if (worst_ms < 0) return std::fprintf(stderr, "a health check failed\n"), 1;
  const auto begin = std::chrono::steady_clock::now();
  const auto elapsed_s = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); };
  const double cpu_begin = process_cpu_s(), own_begin = thread_cpu_s();
  std::uint64_t sent = 0, again = 0;
  while (elapsed_s() < seconds) {
    long status = 0;
    if (const CURLcode done = curl_easy_perform(curl.get()); done != CURLE_OK) return std::fprintf(stderr, "send: %s\n", curl_easy_strerror(done)), 1;
    curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
    if (grpc) status = told == 0 ? 200 : told == 14 ? 503 : told;
    if (status == 200) sent += kRecords;
    else if (status == 503) ++again;
    else return std::fprintf(stderr, "answered %ld\n", status), 1;
  }
  const auto stored = [&] {
    std::uint64_t sum = 0;
    for (const SourcePtr& source : receivers.sources()) sum += source->stats().stored;
    return sum;
  };
  while (stored() < sent && elapsed_s() < seconds + 10) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  if (stored() != sent) return std::fprintf(stderr, "sent %llu, stored %llu\n", static_cast<unsigned long long>(sent), static_cast<unsigned long long>(stored())), 1;
  // What one core gives: all CPU but the client's.
  const double ours = process_cpu_s() - cpu_begin - (thread_cpu_s() - own_begin), elapsed = elapsed_s();
  http_server.reset();
  grpc_server.reset();
  pipeline.reset();
  std::printf("%.0f %.0f %.2f %llu\n", static_cast<double>(sent) / elapsed, static_cast<double>(sent) / ours, worst_ms, static_cast<unsigned long long>(again));
  return 0;
}

}  // namespace
}  // namespace culprit::ingest

int main(int argc, char** argv) {
  if (argc < 4) return std::fputs("usage: bench_ingest json|protobuf|grpc spans|logs SECONDS, bench_ingest join traced|timed|lines REQUESTS_A_SECOND\n", stderr), 2;
  if (std::string_view(argv[1]) == "join") return culprit::ingest::run_join(argv[2], std::max(100, std::atoi(argv[3])));
  return culprit::ingest::run(argv[1], std::string_view(argv[2]) == "spans", std::atof(argv[3]));
}
