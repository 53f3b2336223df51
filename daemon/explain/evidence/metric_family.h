// What a metric measures, by the words of its name. OpenTelemetry, Prometheus and cloud names alike: "CpuUsageRate(%)",
// "container_memory_rss", "latency.Average", "dest_success_rate".
#pragma once

#include <cstdint>
#include <string_view>

namespace culprit::explain {

enum class Family : std::uint8_t { Cpu, Memory, Disk, Network, Latency, Errors, Success, Load, Other };

Family family_of(std::string_view metric);
std::string_view name_of(Family family);
// A series of the machine below the service ("node_cpu_usage"): many services share it.
bool is_of_host(std::string_view metric);
// A sum or a mean, not a high percentile: what volumes are computed from.
bool is_average(std::string_view metric);

}  // namespace culprit::explain
