// Join: a call that the kernel saw and that a program told of as well becomes one event, and log lines find their request.
//
//   a program's server span = the kernel's span of the same trace whose parent is the same (both read the same header),
//                             else of the same service, connection, time and operation
//   a log line with a process id but no trace = the one request that its thread (else: its process) worked at then
//
// The store only appends, so the two must meet before either is in it. Programs tell of spans seconds after their end, so
// spans of the kernel are held back for up to kHoldNs, but only those of services that told server spans lately; all others
// pass at once. The joined event is the program's, with the kernel's waits and threads; the kernel's own is not stored. What
// passed before a service's first telling stays a second event (counted as late) and is shown as one by its `kernel.span_id`.
// A program may name itself otherwise than the kernel does: once both were joined by a trace, its events come to the kernel's
// name, and keep `service.name`.
// Bounded by the constants below; when full, what was held longest goes on alone, counted. Threads: one owner (stream).
#pragma once

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/stream/event.h"

namespace culprit::ingest {

struct JoinStats {
  std::uint64_t by_trace = 0, by_time = 0;  // calls that were told by both and are stored once
  std::uint64_t late = 0;                   // told after the kernel's span was stored: two events
  std::uint64_t alone = 0;                  // held for a twin that did not come
  std::uint64_t pushed_out = 0;             // of these: because there was no room to hold them
  std::uint64_t lines = 0;                  // log lines that found their request by thread and time
  std::uint64_t held = 0;                   // spans now
};

inline constexpr std::int64_t kAfterAnswerNs = 2 * kNsPerMs;  // access logs are written after the answer
// Times of files have a second or a millisecond as their grain: what ends in zeroes may mean the whole of it.
std::int64_t grain_of(std::int64_t wall_ns);

class Join {
 public:
  static constexpr std::int64_t kHoldNs = 8 * kNsPerSecond;   // exporters send every 5 s unless told otherwise
  static constexpr std::int64_t kEarlyNs = 1300 * kNsPerMs;   // the kernel's spans come at the end of their second
  static constexpr std::int64_t kRememberNs = 30 * kNsPerSecond;
  static constexpr std::int64_t kTellsNs = 600 * kNsPerSecond;  // a service that told no spans for so long is not waited for
  static constexpr std::size_t kHeldMax = 10'000;
  static constexpr std::size_t kRememberedMax = 50'000;
  static constexpr std::size_t kSameTraceMax = 64;            // of spans with the same header that are looked at, newest first
  static constexpr std::size_t kLookedMax = 512;              // of spans near in time that are looked at
  static constexpr std::size_t kNamesMax = 1'000;             // services that tell, and their names

  explicit Join(std::string host_name) : host_name_(std::move(host_name)) {}

  // Takes out of the kernel's events the spans that wait for their twin.
  void kernel(std::vector<stream::Event>& events, std::int64_t now_ns);
  // When everything that these may be joined with will have been seen; at most kEarlyNs from now.
  std::int64_t ready_ns(const std::vector<stream::Event>& told, std::int64_t now_ns) const;
  // Joins what programs told, in place.
  void told(std::vector<stream::Event>& events, std::int64_t now_ns, std::int64_t wall_offset_ns);
  // Spans that waited long enough, or, at the end, all.
  void release(std::int64_t now_ns, bool all, std::vector<stream::Event>& out);

  std::map<std::string, std::string> names() const;  // what services call themselves -> what the kernel calls them
  JoinStats stats() const { return stats_; }

 private:
  using Number = std::uint64_t;
  struct Seen {  // a request that somebody worked at, by the kernel or told
    stream::Event event = {};  // while held; else only ids and times count
    std::string entity = {};
    std::uint64_t trace_id[2] = {0, 0};
    std::uint64_t span_id = 0, parent = 0;
    std::int64_t start_ns = 0, end_ns = 0;
    std::uint32_t pid = 0, tid = 0, port = 0;  // port: the client's
    bool by_kernel = false, held = false, joined = false;
  };
  struct ByTime {
    std::map<std::pair<std::int64_t, Number>, Seen*> by_end;
    std::int64_t longest_ns = 0;  // what began before a moment has ended this much after it
  };

  Seen* find_by_trace(const stream::Event& event, Number& number);
  Seen* find_by_time(const stream::Event& event, Number& number);
  bool find_worked_at(const ByTime& by_time, std::int64_t from_ns, std::int64_t to_ns, std::uint32_t tid, const Seen*& only) const;
  void join(stream::Event& event, Seen& seen, Number number, bool by_trace, std::int64_t now_ns);
  void attach(stream::Event& line, std::int64_t wall_offset_ns);
  Number remember(Seen seen);
  void forget(std::map<Number, Seen>::iterator seen);
  void let_go(const Seen& seen, Number number);
  bool of_this_host(const stream::Event& event) const;
  bool tells(std::string_view entity, std::int64_t now_ns) const;

  const std::string host_name_;
  std::map<Number, Seen> seen_;  // in order of arrival
  Number next_ = 1;
  std::set<std::pair<std::uint64_t, Number>> by_trace_;         // (trace and parent, number); the kernel's
  std::map<std::string, ByTime, std::less<>> by_service_;       // the kernel's, held
  std::map<std::pair<std::string, std::uint32_t>, ByTime> by_connection_;  // of these, those whose client's port is known
  std::unordered_map<std::uint64_t, ByTime> by_worker_;         // pid, and pid with thread
  std::vector<stream::Event> overdue_;                          // pushed out, for the next release
  std::map<std::string, std::int64_t, std::less<>> tells_;      // entity -> its last server span
  std::map<std::string, std::int64_t, std::less<>> kernel_sees_;  // entity -> the kernel's last span of it
  std::map<std::string, std::string, std::less<>> names_;       // entity as told -> the kernel's
  JoinStats stats_;
};

}  // namespace culprit::ingest
