// MemoryStore: a read-only store over the events of one export, or of a test. Answers scan, series and group; the rest
// is Unsupported. Nothing is dropped and nothing ages, so a replay sees exactly what was exported.
#pragma once

#include <cstddef>
#include <vector>

#include "daemon/stream/store.h"

namespace culprit::explain {

class MemoryStore final : public stream::EventStore {
 public:
  MemoryStore() = default;
  explicit MemoryStore(std::vector<stream::Event> events);

  Result<void> append(std::vector<stream::Event> events) override;
  Result<stream::Completeness> scan(const stream::Query& query, const std::function<bool(const stream::Event&)>& visit) const override;
  Result<std::vector<stream::Series>> series(const stream::Query& query) const override;
  Result<std::vector<stream::Group>> group(const stream::Query& query) const override;
  Result<std::vector<stream::Difference>> differs(const stream::Query& filter, std::int64_t before_from_ns, std::int64_t before_to_ns,
                                                  std::int64_t now_from_ns, std::int64_t now_to_ns) const override;
  Result<void> flush() override { return {}; }
  Result<void> prune(std::int64_t older_than_ns) override;
  stream::StoreStats stats() const override;

 private:
  std::vector<stream::Event> events_;  // in time order
};

}  // namespace culprit::explain
