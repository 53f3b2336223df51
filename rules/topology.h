// Topology: who is joined to whom, as the event stream itself tells it; what `paths` of rules walk along.
//
// "shop -calls-> postgres" comes from series of an edge, "postgres -writes-> device:vda" (and -reads->) from slow block
// requests, "process:77 -belongs_to-> postgres" from whatever names both a process (attribute `process.pid`, or the entity)
// and a `service`: kernel events, log lines, requests. Services stand without their prefix. A process belongs to the one that was
// told last. What was not told again for kEdgeNsMax is over; at kTopologyEdgesMax edges the older ones go first.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "rules/rule.h"

namespace culprit::rules {

inline constexpr std::size_t kTopologyEdgesMax = 20'000;
inline constexpr std::int64_t kEdgeNsMax = 3'600LL * 1'000'000'000;

// "service:shop" -> "shop"; anything else as it is.
std::string_view plain_name(std::string_view entity);

class Topology {
 public:
  void add(std::string_view from, std::string_view relation, std::string_view to, std::int64_t told_ns);
  void add(std::string_view text);  // "shop -calls-> postgres", for good; anything else is left out
  void learn(const stream::Event& event);
  // Are processes asked for? Looking for them costs a little on every event; everything else is always learned.
  void learn_processes(bool asked) { with_processes_ = asked; }
  // Forgets what was not told since then.
  void expire(std::int64_t before_ns);
  // Can `path` be walked with these values ("id.field") at its referenced stops? `told`, if given, receives how far and along
  // what: "web -calls-> shop -calls-> redis", or why not.
  bool walk(const Path& path, const std::map<std::string, std::string>& values, std::string* told = nullptr) const;
  std::size_t size() const { return size_; }
  std::uint64_t forgotten() const { return forgotten_; }  // for want of room, not of age

 private:
  using Ends = std::map<std::string, std::int64_t, std::less<>>;  // -> when it was told last
  using Neighbours = std::map<std::string, Ends, std::less<>>;
  using Side = std::map<std::string, Neighbours, std::less<>>;  // relation -> from -> to
  const Ends* neighbours(const std::string& of, const Path::Stop& along) const;
  void make_room(std::int64_t now_ns);

  Side forward_, backward_;
  std::map<std::string, std::int64_t, std::less<>> seen_edges_;  // entities "edge:…" -> when they were added last
  std::size_t size_ = 0;
  std::uint64_t forgotten_ = 0;
  bool with_processes_ = true;
};

}  // namespace culprit::rules
