// Lines: what watched processes write to their logs, cut into lines and given a severity.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

#include "daemon/track/directory.h"
#include "daemon/track/requests.h"

namespace culprit::track {

// Severity of a log line by the forms that common programs use: words (ERROR, WARN), "level":"error", level=error,
// [error] of nginx, "FATAL:  " of PostgreSQL, the sign of Redis, tracebacks. kUnset if nothing tells.
stream::Severity severity_of_line(std::string_view line);

// Query values of URLs in a line are replaced by "…": they may hold what must not be stored.
std::string without_query_values(std::string_view line);

class Lines {
 public:
  Lines(const TrackerOptions& options, TrackStats& stats, Output& output, Directory& directory, Requests& requests);

  // One write: zero or more whole lines and perhaps a part of one, which waits for its rest.
  void on_log(const culprit_log_event& event);
  // Once a second: parts whose rest does not come are lines by themselves.
  void tick(std::int64_t now_ns);

 private:
  struct Partial {
    std::string text;
    std::int64_t time_ns = 0;
    std::uint32_t tid = 0;
    std::uint64_t inode = 0;
    std::uint32_t device = 0;  // of a regular file, else 0
    std::int32_t fd = -1;
    TraceContext trace;
  };
  // `from` says where it was written, and when; its text is not looked at.
  void submit(std::uint32_t tgid, const Partial& from, std::string_view line);

  const TrackerOptions& options_;
  TrackStats& stats_;
  Output& output_;
  Directory& directory_;
  Requests& requests_;
  std::unordered_map<std::uint64_t, Partial> partials_;  // tgid << 32 | fd
};

}  // namespace culprit::track
