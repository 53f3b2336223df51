// Topology: who calls whom, as far as symptoms are grouped by it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

namespace culprit::detect {

class Topology {
 public:
  static constexpr std::size_t kEdgesMax = 10'000;

  // "shop" calls "postgres", seen now. Edges not seen for a quarter of an hour are forgotten by expire().
  void seen(std::string_view caller, std::string_view callee, std::int64_t now_ns);
  void expire(std::int64_t now_ns);

  bool is_callee(std::string_view service) const { return callers_.contains(service); }
  // Can `from` reach `to` along calls?
  bool reaches(std::string_view from, std::string_view to) const;
  // Are both in one system? Follows calls in both directions, but not through programs that only call (load
  // generators, monitors), which would join everything with everything.
  bool related(std::string_view a, std::string_view b) const;

 private:
  bool connected(std::string_view from, std::string_view to, bool both_ways) const;

  std::map<std::string, std::map<std::string, std::int64_t, std::less<>>, std::less<>> callees_;
  std::map<std::string, std::set<std::string, std::less<>>, std::less<>> callers_;
  std::size_t edges_ = 0;
};

}  // namespace culprit::detect
