// Prometheus: the text forms (0.0.4 and OpenMetrics 1.0) that a scrape gets, and remote write 1.0.
// Sources: prometheus.io/docs/instrumenting/exposition_formats, github.com/OpenObservability/OpenMetrics,
// prometheus.io/docs/specs/prw/remote_write_spec.
#pragma once

#include "daemon/ingest/metrics.h"
#include "daemon/ingest/relabel.h"

namespace culprit::ingest {

inline constexpr std::size_t kScrapeSamplesMax = 100'000;  // of one scrape; more are rejected, counted

struct ScrapeTarget {
  std::string entity;             // of the samples that no label places
  Labels labels;      // added to each sample
  std::string default_job = {};   // a `job` label that is only this places no sample of a target on this host
  bool honor_labels = false;      // a label that a sample has already wins, else it becomes exported_<label>
  std::vector<std::string> keep;  // globs of metric names; empty = all
  std::vector<std::string> drop;
  std::shared_ptr<const Relabel> relabel = nullptr;  // shared by the copies of this target; done after keep and drop
};

// A line that is wrong is rejected with its number, the others count. Errors: Invalid if no line is right.
Result<void> decode_exposition(std::string_view text, const ScrapeTarget& target, const Context& context, Decoded& out);

// Whether the target answered, as Prometheus tells it: `up` with the target's labels.
void add_up(bool up, const ScrapeTarget& target, const Context& context, Decoded& out);

// The unpacked message. Errors: Invalid with the offset.
Result<void> decode_remote_write(std::string_view bytes, const Context& context, Decoded& out);

}  // namespace culprit::ingest
