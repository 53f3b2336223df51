// Metrics of other tools as samples: what all metric decoders share.
//
// A sample is a number over about a second: gauges are stored as they are; cumulative counters as their rate a second,
// named "<metric>.rate"; histograms and summaries as ".rate", ".mean" and ".p99" of what was added since the last value.
// Labels are part of the name, sorted: `http_requests_total.rate{code="200"}`.
#pragma once

#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "daemon/base/mutex.h"
#include "daemon/ingest/record.h"

namespace culprit::ingest {

inline constexpr std::size_t kBucketsMax = 256;  // of one histogram

// What cumulative series said last, to make rates. Bounded: series not told for a while go first, then none is added
// (its points count as baselines for ever, and `refused` says so). Threads: any.
class Counters {
 public:
  explicit Counters(std::size_t series_max = 200'000) : series_max_(series_max) {}

  struct Step {
    double delta = 0;
    double seconds = 0;
    std::vector<double> buckets = {};  // deltas, if buckets were given
    double sum = 0;                    // delta
  };
  // The growth since the last value; nothing for the first one. A value below the last (a restart) counts from 0.
  // `start_ns` (0 = unknown): when it began to count; a series younger than ten minutes is then known from its start.
  std::optional<Step> step(std::string_view entity, std::string_view name, std::int64_t time_ns, std::int64_t start_ns,
                           double value, double sum = 0, std::span<const double> buckets = {}, CounterChanges* changes = nullptr);
  // The series is over (a stale marker): what it says next begins anew. Ignored if something newer was said.
  void end(std::string_view entity, std::string_view name, std::int64_t time_ns, CounterChanges* changes = nullptr);
  // For the one owner that asks for all of them at once: what was not told between the two is over, as Prometheus' scrapes have it.
  void begin_round();
  void end_round();
  // As if those steps had not been: their request was refused, and will be sent again with the same times.
  void take_back(const CounterChanges& changes);
  std::uint64_t series() const;
  std::uint64_t refused() const;

  struct Last {
    std::int64_t time_ns = 0;
    double value = 0, sum = 0;
    std::vector<double> buckets = {};
    bool ended = false;
    std::uint64_t round = 0;
  };

 private:
  void sweep(std::int64_t now_ns) REQUIRES(mutex_);

  const std::size_t series_max_;
  mutable Mutex mutex_;
  std::unordered_map<std::string, Last> last_ GUARDED_BY(mutex_);
  std::int64_t swept_ns_ GUARDED_BY(mutex_) = 0;
  std::uint64_t refused_ GUARDED_BY(mutex_) = 0;
  std::uint64_t round_ GUARDED_BY(mutex_) = 0;
};

struct CounterChanges {
  struct Change {
    std::string key;
    std::int64_t time_ns;                // of the value that replaced it
    std::optional<Counters::Last> before;  // none: the series was new
  };
  std::vector<Change> steps = {};
};

// `name` and sorted labels in Prometheus form; `suffix` goes between.
std::string series_name(std::string_view name, std::string_view suffix, const Labels& labels, Decoded& out);

struct Number {
  std::string_view entity, name;
  const Labels* labels = nullptr;
  std::int64_t time_ns = 0, start_ns = 0;
  double value = 0;
  bool cumulative = false;  // a counter
  bool delta = false;       // its value is what was added in [start_ns, time_ns]
  bool ended = false;       // no value: the series is over
  std::uint64_t trace_id[2] = {0, 0}, span_id = 0;  // of an exemplar
};
void add_number(const Number& number, const Context& context, Decoded& out);

struct Histogram {
  Number of;                       // value = count
  double sum = 0;
  std::vector<double> bounds;      // upper, ascending; buckets.size() == bounds.size() + 1, or both empty
  std::vector<double> buckets;     // counts, not cumulated
};
void add_histogram(const Histogram& histogram, const Context& context, Decoded& out);

// The value below which `q` of the counted lie, interpolated within its bucket; the highest bound if beyond it.
double histogram_quantile(double q, std::span<const double> bounds, std::span<const double> buckets);

}  // namespace culprit::ingest
