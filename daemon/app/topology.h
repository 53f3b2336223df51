// Topology: which services there were and who called whom, written into graph.db once a minute with the time in which it was so.
//
// Rankings take the topology of their window from the stream; this is what outlives the stream's retention. Not thread-safe: the
// detect thread's.
#pragma once

#include <cstdint>
#include <set>
#include <span>
#include <string>
#include <utility>

#include "daemon/stream/event.h"
#include "graph/store.h"

namespace culprit::app {

inline constexpr std::size_t kTopologyMax = 20'000;  // services, and edges, of a minute; what is beyond is counted

class Topology {
 public:
  explicit Topology(std::string host) : host_(std::move(host)) {}
  // What a second's samples name: "service:shop", "edge:shop->db". An edge counts while it carries something.
  void see(std::span<const stream::Event> events);
  // Writes what was seen since the last time as one interval that ends now, and forgets it; it stays for the next time if that fails.
  Result<void> write(graph::Store& store, std::int64_t from_wall_ns, std::int64_t to_wall_ns);
  std::uint64_t left_out() const { return left_out_; }

 private:
  std::string host_;
  std::set<std::string, std::less<>> services_;
  std::set<std::pair<std::string, std::string>> edges_;  // caller, callee
  std::uint64_t left_out_ = 0;
};

}  // namespace culprit::app
