// Topology: who is joined to whom, as the event stream itself tells it; what `paths` of rules walk along.
//
// "shop -calls-> postgres" comes from series of an edge, "postgres -writes-> device:vda" (and -reads->) from slow block
// requests, "process:77 -belongs_to-> postgres" from the attributes `process.pid` and
// `service` of what the kernel saw of it. Services stand without their prefix. At kTopologyEdgesMax all begins anew.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "rules/rule.h"

namespace culprit::rules {

inline constexpr std::size_t kTopologyEdgesMax = 20'000;

// "service:shop" -> "shop"; anything else as it is.
std::string_view plain_name(std::string_view entity);

class Topology {
 public:
  void add(std::string_view from, std::string_view relation, std::string_view to);
  void add(std::string_view text);  // "shop -calls-> postgres"; anything else is left out
  void learn(const stream::Event& event);
  // Can `path` be walked with these values at its referenced stops?
  bool walk(const Path& path, const std::map<std::string, std::string>& values) const;
  std::size_t size() const { return size_; }

 private:
  void forget();

  using Neighbours = std::map<std::string, std::set<std::string>, std::less<>>;
  std::map<std::string, Neighbours, std::less<>> forward_, backward_;  // relation -> from -> to
  std::set<std::string, std::less<>> seen_edges_;                      // entities "edge:…" that were learned
  std::size_t size_ = 0;
};

}  // namespace culprit::rules
