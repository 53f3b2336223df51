// What the tests of ingest share: a context with fixed times, and lookups.
#pragma once

#include <gtest/gtest.h>

#include "daemon/ingest/metrics.h"
#include "daemon/ingest/record.h"

namespace culprit::ingest {

inline constexpr std::int64_t kOffset = 1'700'000'000LL * kNsPerSecond;  // wall time at boot
inline constexpr std::int64_t kNow = 10'000 * kNsPerSecond;
inline constexpr std::int64_t kNowWall = kOffset + kNow;

class FakeResolver final : public Resolver {
 public:
  std::string service_of_pid(std::uint32_t pid) const override { return pid == 4211 ? "shop" : ""; }
  std::string service_of_container(std::string_view id) const override { return id.starts_with("0123456789ab") ? "cart" : ""; }
  std::string service_of_port(std::uint16_t port) const override { return port == 8080 ? "web" : ""; }
  std::string_view host_name() const override { return "testhost"; }
};

inline const FakeResolver& fake_resolver() {
  static const FakeResolver resolver;
  return resolver;
}

inline Context test_context(Counters* counters = nullptr) { return {kNow, kOffset, &fake_resolver(), counters}; }

inline std::string at(const stream::Event& event, std::string_view key) { return std::string(event.attribute(key)); }

inline const stream::Event* find(const Decoded& decoded, std::string_view name) {
  for (const stream::Event& event : decoded.events) {
    if (event.name == name) return &event;
  }
  return nullptr;
}

}  // namespace culprit::ingest
