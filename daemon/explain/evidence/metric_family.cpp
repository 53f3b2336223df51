#include "daemon/explain/evidence/metric_family.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

namespace culprit::explain {

namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  std::ranges::transform(out, out.begin(), [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
  return out;
}

// In the order of precedence: "net_receive_latency" is a latency, "cpu_error_count" an error.
constexpr std::array kWords = std::to_array<std::pair<std::string_view, Family>>({
    {"success", Family::Success}, {"availability", Family::Success},
    {"latency", Family::Latency}, {"duration", Family::Latency}, {"response_time", Family::Latency}, {"_p50", Family::Latency},
    {"_p90", Family::Latency},    {"_p95", Family::Latency},     {"_p99", Family::Latency},
    {"error", Family::Errors},    {"fail", Family::Errors},      {"5xx", Family::Errors},     {"4xx", Family::Errors},
    {"exception", Family::Errors}, {"fault", Family::Errors},    {"timeout", Family::Errors}, {"throttle", Family::Errors},
    {"cpu", Family::Cpu},         {"throttl", Family::Cpu},      {"load1", Family::Cpu},
    {"mem", Family::Memory},      {"rss", Family::Memory},       {"heap", Family::Memory},    {"swap", Family::Memory},
    {"disk", Family::Disk},       {"fs_", Family::Disk},         {"iops", Family::Disk},      {"filesystem", Family::Disk},
    {"net", Family::Network},     {"receive", Family::Network},  {"transmit", Family::Network}, {"tcp", Family::Network},
    {"retrans", Family::Network}, {"packet", Family::Network},
    {"request", Family::Load},    {"qps", Family::Load},         {"workload", Family::Load},  {"ops", Family::Load},
    {"rps", Family::Load},        {"throughput", Family::Load},
});

}  // namespace

Family family_of(std::string_view metric) {
  const std::string name = lower(metric);
  for (const auto& [word, family] : kWords) {
    if (name.find(word) != std::string::npos) return family;
  }
  return Family::Other;
}

std::string_view name_of(Family family) {
  static constexpr std::string_view kNames[] = {"cpu", "memory", "disk", "network", "latency", "errors", "success", "load", "other"};
  return kNames[static_cast<std::size_t>(family)];
}

bool is_of_host(std::string_view metric) {
  const std::string name = lower(metric);
  return name.starts_with("node") || name.starts_with("host");
}

bool is_average(std::string_view metric) {
  const std::string name = lower(metric);
  for (const std::string_view word : {"p50", "p75", "p90", "p95", "p99", "max", "min"}) {
    if (name.find(word) != std::string::npos) return false;
  }
  return true;
}

}  // namespace culprit::explain
