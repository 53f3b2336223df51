// What every decoder needs and gives: bytes of a tool that people already have become events of the one stream.
//
// A decoder is pure: bytes and a Context in, events out. Wall times become CLOCK_BOOTTIME, never later than now. Unknown
// fields are ignored; depth and sizes are bounded by the constants below; whatever is wrong with the bytes is an error
// with the offset at which it was seen.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/result.h"
#include "daemon/stream/event.h"

namespace culprit::ingest {

inline constexpr int kValueDepthMax = 16;               // of nested attribute values
inline constexpr std::size_t kAttributesMax = 64;       // of one record; more are cut, counted
inline constexpr std::size_t kValueBytesMax = 4096;     // of one attribute; more are cut, counted
inline constexpr std::size_t kBodyBytesMax = 64 << 10;  // of one log line; more are cut, counted
inline constexpr std::size_t kNameBytesMax = 512;       // of a span's, metric's or service's name

// Who is meant by what a record says of its origin. The running daemon answers from what the kernel showed it.
class Resolver {
 public:
  virtual ~Resolver() = default;
  // Names of services, empty if unknown.
  virtual std::string service_of_pid(std::uint32_t pid) const = 0;
  virtual std::string service_of_container(std::string_view container_id) const = 0;
  virtual std::string service_of_port(std::uint16_t port) const = 0;
  virtual std::string_view host_name() const = 0;
};

class Counters;         // metrics.h: what cumulative metrics said last
struct CounterChanges;  // metrics.h: what a request changed of it

struct Context {
  std::int64_t now_ns = 0;          // CLOCK_BOOTTIME
  std::int64_t wall_offset_ns = 0;  // CLOCK_REALTIME - CLOCK_BOOTTIME
  const Resolver* resolver = nullptr;
  Counters* counters = nullptr;     // without it, cumulative metrics give no rates
  CounterChanges* changes = nullptr;  // if given: what may have to be taken back
};

struct Decoded {
  std::vector<stream::Event> events;
  std::uint64_t records = 0;         // spans, data points, log records, lines: as their sender counts them
  std::uint64_t rejected = 0;        // of these: not understood
  std::string rejected_why;          // the first reason
  std::uint64_t times_corrected = 0;  // in the future, or missing
  std::uint64_t cut = 0;             // values or attributes beyond the limits
  std::uint64_t baselines = 0;       // first values of cumulative metrics: rates begin with the second

  void reject(std::string why) {
    if (rejected++ == 0) rejected_why = std::move(why);
  }
};

// A wall time as the stream's time: 0 (not given) and the future become now.
std::int64_t stream_time(std::int64_t wall_ns, const Context& context, Decoded& out);

// At most `limit` bytes, cut at a character; bytes that are no UTF-8 are replaced.
std::string bounded_text(std::string_view text, std::size_t limit, Decoded& out);

using Labels = std::vector<std::pair<std::string, std::string>>;  // of a metric: unlike attributes they are rewritten one by one

// To: stream::Attributes or Labels.
template <typename To>
void add_attribute(To& to, std::string_view key, std::string_view value, Decoded& out) {
  if (key.empty()) return;
  if (to.size() >= kAttributesMax) {
    ++out.cut;
    return;
  }
  to.emplace_back(bounded_text(key, kNameBytesMax, out), bounded_text(value, kValueBytesMax, out));
}

// What a record's origin says: OpenTelemetry resource attributes. `entity` is the service: the kernel's name for
// the process or container if it is one of this host, else service.name, the Kubernetes workload, the container.
struct Origin {
  std::string entity = "host";
  stream::Attributes kept;  // of the resource, those worth repeating on each event
};
Origin origin_of(const stream::Attributes& resource, const Context& context);

// "order-7c5d8f9b6d-x2x4z" -> "order": pods of deployments, stateful sets, daemon sets and jobs.
std::string workload_of_pod(std::string_view pod);

// 32 and 16 hex digits. False, with nothing written, if it is none or all zero.
bool parse_trace_id(std::string_view hex, std::uint64_t (&out)[2]);
bool parse_span_id(std::string_view hex, std::uint64_t& out);

// A trace id inside text: traceparent, trace_id=..., "traceId":"...", trace.id, dd-style names are not decimal.
bool find_trace_id(std::string_view text, std::uint64_t (&trace_id)[2], std::uint64_t& span_id);

// "/orders/17/items?x=1" -> "/orders/{id}/items": segments that look like values, and the query, are cut out.
std::string path_template(std::string_view path);

}  // namespace culprit::ingest
