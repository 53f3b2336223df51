// Every decoder of ingest over arbitrary bytes; CULPRIT_FUZZ_INGEST says which (tests/ingest/CMakeLists.txt). No event may
// be in the future, and what is rejected is part of what came.
#include <cstdint>
#include <cstdlib>

#include "daemon/ingest/alerts.h"
#include "daemon/ingest/compress.h"
#include "daemon/ingest/container_lines.h"
#include "daemon/ingest/formats.h"
#include "daemon/ingest/grpc_session.h"
#include "daemon/ingest/imports.h"
#include "daemon/ingest/journal.h"
#include "daemon/ingest/kubernetes.h"
#include "daemon/ingest/log_file.h"
#include "daemon/ingest/otlp.h"
#include "daemon/ingest/prometheus.h"
#include "daemon/ingest/scrape.h"
#include "daemon/ingest/syslog.h"

namespace culprit::ingest {

void otlp_protobuf(std::string_view bytes, const Context& context, Decoded& out) {
  for (const Signal signal : {Signal::Traces, Signal::Metrics, Signal::Logs}) (void)decode_otlp_protobuf(signal, bytes, context, out);
}
void otlp_json(std::string_view bytes, const Context& context, Decoded& out) {
  for (const Signal signal : {Signal::Traces, Signal::Metrics, Signal::Logs}) (void)decode_otlp_json(signal, bytes, context, out);
}
void exposition(std::string_view bytes, const Context& context, Decoded& out) { (void)decode_exposition(bytes, {}, context, out); }
void remote_write(std::string_view bytes, const Context& context, Decoded& out) { (void)decode_remote_write(bytes, context, out); }
void alerts(std::string_view bytes, const Context& context, Decoded& out) { (void)decode_alerts(bytes, context, out); }
void kubernetes(std::string_view bytes, const Context& context, Decoded& out) {
  (void)decode_kubernetes_events(bytes, context, out);
  (void)watch_position(bytes);
}
void imports(std::string_view bytes, const Context& context, Decoded& out) {
  for (const char* format : {"jaeger", "zipkin", "otlp", "auto"}) (void)decode_file(format, bytes, context, out);
}
void unpacking(std::string_view bytes, const Context&, Decoded&) {
  for (const char* encoding : {"gzip", "deflate", "zstd", "snappy"}) {
    if (const auto text = unpack(encoding, bytes, 1U << 20U); text && text->size() > (1U << 20U)) abort();
  }
}
// First line: the format; the others are lines of it.
void formats(std::string_view bytes, const Context& context, Decoded& out) {
  const std::size_t end = bytes.find('\n');
  const auto format = LineFormat::create(bytes.substr(0, end));
  if (!format || end == std::string_view::npos) return;
  for (std::string_view rest = bytes.substr(end + 1); !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    stream::Event event;
    (void)format->read(line, context, event, out);
    (void)format->continues(line);
    if (const auto inner = unwrap_container_line(line); inner && inner->text.size() > line.size()) abort();
    if (const auto position = Position::parse(std::string(line)); position && Position::parse(position->text()) != position) abort();
    out.events.push_back(std::move(event));
  }
}

// A field a line, an entry up to an empty line, as journalctl -o export writes them.
void journal(std::string_view bytes, const Context& context, Decoded& out) {
  JournalEntry entry;
  entry.wall_ns = context.now_ns + context.wall_offset_ns - 1;
  const auto finish = [&] {
    if (!entry.fields.empty()) decode_journal_entry(entry, context, out);
    entry.fields.clear();
  };
  while (!bytes.empty()) {
    const std::string_view line = bytes.substr(0, bytes.find('\n'));
    bytes.remove_prefix(std::min(bytes.size(), line.size() + 1));
    if (line.empty()) finish();
    else if (const std::size_t equals = line.find('='); equals != std::string_view::npos) entry.fields.emplace_back(line.substr(0, equals), line.substr(equals + 1));
  }
  finish();
}

// The steps of a relabel option up to an empty line, then an exposition to which they apply; the same steps over a target.
void relabel(std::string_view bytes, const Context& context, Decoded& out) {
  const std::size_t end = std::min(bytes.find("\n\n"), bytes.size());
  const auto steps = parse_relabel(std::string(bytes.substr(0, end)));
  if (!steps) return;
  auto made = Relabel::create(*steps);
  if (!made) return;
  ScrapeOptions options;
  options.url = "http://127.0.0.1:9100/metrics";
  if (const auto target = Scraper::labelled(options, "fuzz", &*made); target && !Scraper::url_of(target->url)) abort();
  ScrapeTarget target;
  target.relabel = std::make_shared<const Relabel>(std::move(*made));
  (void)decode_exposition(bytes.substr(std::min(bytes.size(), end + 2)), target, context, out);
}

// As a datagram, and as a stream that comes in pieces of seven bytes.
void syslog(std::string_view bytes, const Context& context, Decoded& out) {
  decode_syslog(bytes, "", context, out);
  SyslogFramer framer;
  const auto each = [&](std::string_view message) { decode_syslog(message, "", context, out); };
  for (std::size_t at = 0; at < bytes.size(); at += 7) framer.add(bytes.substr(at, 7), each);
  framer.finish(each);
}

class Nobody final : public Resolver {
 public:
  std::string service_of_pid(std::uint32_t) const override { return {}; }
  std::string service_of_container(std::string_view) const override { return {}; }
  std::string service_of_port(std::uint16_t) const override { return {}; }
  std::string_view host_name() const override { return "fuzz"; }
};

// All receivers, whose events end in `out`.
struct Receiving {
  Receiving(const Context& context, Decoded& out)
      : clock(context.now_ns, context.wall_offset_ns), intake({}, [&out](Batch&& batch) {
          std::move(batch.events.begin(), batch.events.end(), std::back_inserter(out.events));
          batch.settle(true);
          return true;
        }) {}
  FakeClock clock;
  Nobody resolver;
  Intake intake;
  Receivers receivers{{clock, resolver, intake}};
};

// First line: path, content type and encoding; the body of the request follows. Every answer is one of those that are documented.
void receive(std::string_view bytes, const Context& context, Decoded& out) {
  const std::size_t end = std::min(bytes.find('\n'), bytes.size());
  std::string_view line = bytes.substr(0, end);
  const auto word = [&] {
    const std::string_view text = line.substr(0, line.find(' '));
    line.remove_prefix(std::min(line.size(), text.size() + 1));
    return std::string(text);
  };
  HttpRequest request;
  request.path = word();
  request.content_type = word();
  request.content_encoding = word();
  request.body = bytes.substr(std::min(bytes.size(), end + 1));
  Receiving all(context, out);
  const HttpAnswer answer = all.receivers.take(request);
  for (const unsigned known : {200U, 204U, 400U, 404U, 405U, 413U, 415U, 503U}) {
    if (answer.status == known) return;
  }
  abort();
}

// A client of OTLP over gRPC: first as all that it sends, then as the one message of a call.
void grpc(std::string_view bytes, const Context& context, Decoded& out) {
  Receiving all(context, out);
  GrpcShared shared{all.receivers, {.arriving_bytes_max = 1U << 20U}};
  {
    auto session = GrpcSession::create(shared);
    if (!session) return;
    std::string answer;
    for (std::size_t at = 0; at < bytes.size() && (*session)->receive(bytes.substr(at, 61)); at += 61) {
      (*session)->output(answer);
      answer.clear();
      if (shared.arriving_bytes > shared.limits.arriving_bytes_max) abort();
    }
  }
  if (shared.arriving_bytes != 0) abort();
  if (const auto message = parse_grpc_message(bytes); message && grpc_message(message->bytes).substr(1) != bytes.substr(1)) abort();
}

}  // namespace culprit::ingest

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit::ingest;
  Counters counters(100);
  const Context context{1'000'000'000'000, 1'700'000'000'000'000'000, nullptr, &counters};
  Decoded out;
  CULPRIT_FUZZ_INGEST(std::string_view(reinterpret_cast<const char*>(data), size), context, out);
  if (out.rejected > out.records) abort();
  for (const auto& event : out.events) {
    if (event.time_ns > context.now_ns || event.attributes.size() > 256) abort();
  }
  return 0;
}
