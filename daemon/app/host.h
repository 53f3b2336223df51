// Host: what the daemon itself may read of this machine without rights: memory, pressure, addresses, devices, and
// its own cost.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "daemon/track/facts.h"

namespace culprit::app {

struct ProcessCost {
  std::int64_t cpu_ns = 0;  // user and system, cumulative
  std::uint64_t rss_bytes = 0;
};

class Host {
 public:
  // The root is an argument so that tests can give their own.
  explicit Host(std::filesystem::path proc = "/proc") : proc_(std::move(proc)) {}

  track::HostFacts facts() const;               // what cannot be read stays absent
  std::vector<track::DeviceName> devices() const;
  ProcessCost own_cost() const;
  std::string boot_id() const;
  std::string name() const;

 private:
  std::filesystem::path proc_;
};

}  // namespace culprit::app
