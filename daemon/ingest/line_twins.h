// LineTwins: a log line that the kernel saw being written and that a source reads as well is one event.
//
// A file that is followed: the source's lines count, all of them (it joins stack traces, reads fields and sees what the kernel's
// 512 bytes of a write do not hold); the kernel's are taken out and tell only who wrote: process, thread, request, moment.
// The journal: what a process writes to its standard output may go there or elsewhere, so the kernel's line waits kHoldNs for an
// entry of the same process and text. What comes is joined to it; a process whose lines are not in the journal is not waited for
// again. The log of a container that is followed (its engine wrote it): the same, by container and text. Bounded by the constants below; when full, what waited longest goes on alone. Threads: one owner (stream).
#pragma once

#include <map>
#include <unordered_map>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/ingest/followed.h"
#include "daemon/stream/event.h"
#include "daemon/stream/line_mark.h"

namespace culprit::ingest {

struct LineTwinStats {
  std::uint64_t files = 0;    // lines of the kernel that a followed file tells
  std::uint64_t journal = 0;  // the same, an entry of the journal, or of a container's log
  std::uint64_t joined = 0;   // of these: the source's event learned who wrote it
  std::uint64_t held = 0;     // now
};

class LineTwins {
 public:
  static constexpr std::int64_t kHoldNs = 3 * kNsPerSecond;
  static constexpr std::int64_t kEarlyNs = 1300 * kNsPerMs;       // the kernel's lines come at the end of their second
  static constexpr std::int64_t kRememberNs = 10 * kNsPerSecond;  // of a line whose twin may come
  static constexpr std::int64_t kKnownNs = 600 * kNsPerSecond;    // where the lines of a process go
  static constexpr std::size_t kLinesMax = 20'000;                // remembered, and held
  static constexpr std::size_t kKnownMax = 10'000;                // processes, and files

  explicit LineTwins(const Followed& followed) : followed_(followed) {}

  // Takes out of the kernel's events the lines that a source tells, or may tell.
  void kernel(std::vector<stream::Event>& events, std::int64_t now_ns);
  // When the kernel's twins of these will have been seen; at most kEarlyNs from now.
  std::int64_t ready_ns(const std::vector<stream::Event>& told, std::int64_t now_ns) const;
  // Adds to what sources told who wrote it.
  void told(std::vector<stream::Event>& events, std::int64_t now_ns);
  // Lines that waited long enough, or, at the end, all.
  void release(std::int64_t now_ns, bool all, std::vector<stream::Event>& out);

  LineTwinStats stats() const { return stats_; }

 private:
  // A file and a text, or a place and a text. A place is who writes to the journal (a pid), or to the log of a container (its number).
  struct Key {
    std::uint64_t device = 0, inode = 0, place = 0, text = 0;
    auto operator<=>(const Key&) const = default;
  };
  using Number = std::uint64_t;
  struct Line {
    Key key;
    stream::Event event;  // of the kernel
    std::int64_t came_ns = 0;
    bool held = false;    // goes on alone if no twin comes
  };

  void remember(Line line);
  void forget(std::map<Number, Line>::iterator line);
  void join(stream::Event& told, stream::Event& seen);

  const Followed& followed_;
  std::map<Number, Line> lines_;                 // of the kernel, whose twin is awaited, in order of arrival
  std::multimap<Key, Number> by_key_;
  Number next_ = 1;
  std::multimap<Key, std::int64_t> entries_;     // of the journal, whose twin did not come yet, and when they came
  std::map<Followed::File, std::pair<std::string, std::int64_t>> writers_;  // whose lines a file holds, by the kernel, and when last
  std::unordered_map<std::uint64_t, std::int64_t> in_journal_, elsewhere_, shown_;  // place -> when that was seen; shown_: by the kernel
  std::vector<stream::Event> overdue_;           // pushed out, for the next release
  LineTwinStats stats_;
};

}  // namespace culprit::ingest
