#include "daemon/ingest/metrics.h"

#include <algorithm>
#include <cmath>

namespace culprit::ingest {
namespace {

constexpr std::int64_t kForgetNs = 900 * kNsPerSecond;
constexpr std::int64_t kSweepEveryNs = 60 * kNsPerSecond;
constexpr std::int64_t kYoungNs = 600 * kNsPerSecond;
constexpr double kStepSecondsMin = 0.001;

void put(const Number& of, std::string name, double value, Decoded& out) {
  stream::Event event;
  event.time_ns = of.time_ns;
  event.kind = stream::Kind::Sample;
  event.entity = of.entity;
  event.name = std::move(name);
  event.value = value;
  event.trace_id[0] = of.trace_id[0];
  event.trace_id[1] = of.trace_id[1];
  event.span_id = of.span_id;
  out.events.push_back(std::move(event));
}

std::string key_of(std::string_view entity, std::string_view name) {
  std::string key;
  key.reserve(entity.size() + name.size() + 1);
  key.append(entity).push_back('\n');
  key.append(name);
  return key;
}

}  // namespace

std::optional<Counters::Step> Counters::step(std::string_view entity, std::string_view name, std::int64_t time_ns, std::int64_t start_ns,
                                             double value, double sum, std::span<const double> buckets, CounterChanges* changes) {
  if (std::isnan(value)) return std::nullopt;
  std::string key = key_of(entity, name);
  const MutexLock lock(mutex_);
  if (time_ns - swept_ns_ > kSweepEveryNs) sweep(time_ns);
  auto found = last_.find(key);
  Last before;
  bool known = found != last_.end();
  std::int64_t ended_ns = 0;
  if (known) {
    before = std::move(found->second);
    if (time_ns <= before.time_ns) {  // told twice, or late: the newer one counts
      found->second = std::move(before);
      found->second.round = round_;
      return std::nullopt;
    }
    if (changes != nullptr) changes->steps.push_back({found->first, time_ns, before});
    if (before.ended) {
      ended_ns = before.time_ns;
      before = {};
      known = false;
    }
  } else if (last_.size() >= series_max_) {
    ++refused_;
    return std::nullopt;
  } else {
    found = last_.try_emplace(std::move(key)).first;
    if (changes != nullptr) changes->steps.push_back({found->first, time_ns, std::nullopt});
  }
  if (!known && start_ns > 0 && start_ns >= ended_ns && start_ns < time_ns && time_ns - start_ns < kYoungNs) {
    before.time_ns = start_ns;
    known = true;
  }
  found->second = {time_ns, value, sum, {buckets.begin(), buckets.end()}, false, round_};
  if (!known) return std::nullopt;
  // Other buckets than before, or a part of them: nothing to compare with.
  if (!before.buckets.empty() && before.buckets.size() != buckets.size()) return std::nullopt;
  // A restart since: what it counted before is gone, all of what it says now is new.
  if (value < before.value) before = {std::max(before.time_ns, start_ns < time_ns ? start_ns : 0), 0, 0, {}};
  Step step{value - before.value, std::max(kStepSecondsMin, static_cast<double>(time_ns - before.time_ns) / kNsPerSecond), {}, sum - before.sum};
  step.buckets.assign(buckets.begin(), buckets.end());
  for (std::size_t i = 0; i < before.buckets.size(); ++i) step.buckets[i] = std::max(0.0, step.buckets[i] - before.buckets[i]);
  return step;
}

void Counters::end(std::string_view entity, std::string_view name, std::int64_t time_ns, CounterChanges* changes) {
  const std::string key = key_of(entity, name);
  const MutexLock lock(mutex_);
  const auto found = last_.find(key);
  if (found == last_.end() || time_ns <= found->second.time_ns) return;
  if (changes != nullptr) changes->steps.push_back({key, time_ns, found->second});
  found->second = {time_ns, 0, 0, {}, true, round_};  // kept, so that nothing older than its end counts
}

void Counters::begin_round() {
  const MutexLock lock(mutex_);
  ++round_;
}

void Counters::end_round() {
  const MutexLock lock(mutex_);
  std::erase_if(last_, [round = round_](const auto& entry) { return entry.second.round != round; });
}

void Counters::take_back(const CounterChanges& changes) {
  const MutexLock lock(mutex_);
  for (auto change = changes.steps.rbegin(); change != changes.steps.rend(); ++change) {
    const auto found = last_.find(change->key);
    if (found == last_.end() || found->second.time_ns != change->time_ns) continue;  // another request went on from there
    if (change->before) {
      found->second = *change->before;
    } else {
      last_.erase(found);
    }
  }
}

void Counters::sweep(std::int64_t now_ns) {
  swept_ns_ = now_ns;
  std::erase_if(last_, [&](const auto& entry) { return now_ns - entry.second.time_ns > kForgetNs; });
}

std::uint64_t Counters::series() const {
  const MutexLock lock(mutex_);
  return last_.size();
}

std::uint64_t Counters::refused() const {
  const MutexLock lock(mutex_);
  return refused_;
}

std::string series_name(std::string_view name, std::string_view suffix, const Labels& labels, Decoded& out) {
  std::string text = bounded_text(name, kNameBytesMax, out);
  text += suffix;
  if (labels.empty()) return text;
  std::vector<const std::pair<std::string, std::string>*> sorted;
  for (const auto& label : labels) sorted.push_back(&label);
  std::ranges::sort(sorted, [](const auto* a, const auto* b) { return *a < *b; });
  text += '{';
  for (const auto* label : sorted) {
    if (text.back() != '{') text += ',';
    text += label->first;
    text += "=\"";
    for (const char c : std::string_view(label->second).substr(0, 256)) {
      if (c == '"' || c == '\\') text += '\\';
      text += c == '\n' ? ' ' : c;
    }
    text += '"';
    if (text.size() > 2048) {
      ++out.cut;
      break;
    }
  }
  text += '}';
  return text;
}

void add_number(const Number& number, const Context& context, Decoded& out) {
  if (number.ended) {
    if (number.cumulative && context.counters != nullptr) context.counters->end(number.entity, series_name(number.name, ".rate", *number.labels, out), number.time_ns, context.changes);
    return;
  }
  if (std::isnan(number.value)) return;
  if (number.delta) {
    const double seconds = number.start_ns > 0 && number.start_ns < number.time_ns ? static_cast<double>(number.time_ns - number.start_ns) / kNsPerSecond : 1;
    put(number, series_name(number.name, ".rate", *number.labels, out), number.value / std::max(kStepSecondsMin, seconds), out);
    return;
  }
  if (!number.cumulative) {
    put(number, series_name(number.name, "", *number.labels, out), number.value, out);
    return;
  }
  std::string name = series_name(number.name, ".rate", *number.labels, out);
  const auto step = context.counters == nullptr ? std::nullopt : context.counters->step(number.entity, name, number.time_ns, number.start_ns, number.value, 0, {}, context.changes);
  if (!step) {
    ++out.baselines;
    return;
  }
  put(number, std::move(name), step->delta / step->seconds, out);
}

double histogram_quantile(double q, std::span<const double> bounds, std::span<const double> buckets) {
  double total = 0;
  for (const double count : buckets) total += count;
  if (total <= 0 || bounds.empty() || buckets.size() != bounds.size() + 1) return 0;
  const double rank = q * total;
  double seen = 0;
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    if (seen + buckets[i] >= rank && buckets[i] > 0) {
      const double low = i == 0 ? std::min(0.0, bounds[0]) : bounds[i - 1];
      return low + (bounds[i] - low) * (rank - seen) / buckets[i];
    }
    seen += buckets[i];
  }
  return bounds.back();
}

void add_histogram(const Histogram& histogram, const Context& context, Decoded& out) {
  const Number& of = histogram.of;
  Counters::Step step{of.value, 1, histogram.buckets, histogram.sum};
  std::string rate_name = series_name(of.name, ".rate", *of.labels, out);
  if (of.ended) {
    if (!of.delta && context.counters != nullptr) context.counters->end(of.entity, rate_name, of.time_ns, context.changes);
    return;
  }
  if (of.delta) {
    if (of.start_ns > 0 && of.start_ns < of.time_ns) step.seconds = std::max(kStepSecondsMin, static_cast<double>(of.time_ns - of.start_ns) / kNsPerSecond);
  } else {
    auto grown = context.counters == nullptr
                     ? std::nullopt
                     : context.counters->step(of.entity, rate_name, of.time_ns, of.start_ns, of.value, histogram.sum, histogram.buckets, context.changes);
    if (!grown) {
      ++out.baselines;
      return;
    }
    step = std::move(*grown);
  }
  put(of, std::move(rate_name), step.delta / step.seconds, out);
  if (step.delta <= 0) return;
  if (!std::isnan(step.sum)) put(of, series_name(of.name, ".mean", *of.labels, out), step.sum / step.delta, out);
  if (!histogram.bounds.empty()) put(of, series_name(of.name, ".p99", *of.labels, out), histogram_quantile(0.99, histogram.bounds, step.buckets), out);
}

}  // namespace culprit::ingest
