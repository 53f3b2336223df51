#include "daemon/detect/service_watch.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"

namespace culprit::detect {

namespace {

using Gain = Tracker::Gain;

// The bars. A score is how many times over its bar a value is; 1 passes. Each is the smallest of three: far from
// what the series does by itself (spread), much in proportion (ratio), and enough for a person to care (floor).
constexpr double kSpreads = 6;
constexpr double kStrong = 3;            // this many times over the bar counts double
constexpr double kP99Ratio = 2.5, kP99FloorS = 0.030;
constexpr double kMeanRatio = 2.0, kMeanFloorS = 0.010;
constexpr double kAboveHigh = 1.5;       // and above its own 95th percentile by this much
constexpr double kErrorShare = 0.05;     // of requests, when the service is known to answer better
constexpr double kErrorShareFact = 0.2;  // needs no learned normal
constexpr double kErrorsPerS = 1.0;
constexpr double kErrorsPerSFact = 2.0;
constexpr double kAgeS = 1.0;            // of the oldest unanswered request
constexpr double kCollapse = 0.4;        // of the normal request rate
constexpr double kConnectFailuresPerS = 1.0;
constexpr int kRestartLoop = 3;          // restarts ...
constexpr std::int64_t kRestartLoopNs = 60 * kNsPerSecond;  // ... within this time
constexpr std::size_t kRestartsMax = 16;
constexpr std::int64_t kInUseNs = 10 * kNsPerSecond;  // a crash matters if there was load this recently
constexpr std::int64_t kFailedExitNs = 3 * kNsPerSecond;

double latency_score(double value, const Normal& normal, double ratio, double floor) {
  const double spread = std::max(normal.spread, 0.05 * normal.median);
  double score = (value - normal.median) / floor;
  if (spread > 0) score = std::min(score, (value - normal.median) / (kSpreads * spread));
  if (normal.median > 0) score = std::min(score, value / (ratio * normal.median));
  if (normal.high > 0) score = std::min(score, value / (kAboveHigh * normal.high));
  return score;
}

Gain gain_of(double score) { return score >= kStrong ? Gain::Strong : Gain::Weak; }

}  // namespace

void ServiceWatch::step(std::int64_t second_ns, const Second& now) {
  if (now.rate > 0 || now.called > 0 || now.inflight > 0) {
    serves_ = true;
    last_load_ns_ = second_ns;
    last_seen_ns_ = second_ns;
  }
  if (now.process_count) last_seen_ns_ = second_ns;
  const bool waiting = now.inflight > 0;
  judge_latency(second_ns, kP99, now.p99, waiting);
  judge_latency(second_ns, kMean, now.mean, waiting);
  judge_errors(second_ns, now);
  judge_demand(second_ns, now);
  judge_life(second_ns, now);
  judge_alert(second_ns, now);
  learn(second_ns, now);
}

void ServiceWatch::judge_latency(std::int64_t second_ns, Series series, std::optional<double> value, bool waiting) {
  Tracker& tracker = trackers_[series];
  if (!value) {
    if (!waiting) tracker.rest();  // with requests waiting, silence is no good news
    return;
  }
  if (!learned()) return;
  const Normal& normal = windows_[series].normal();
  const bool tail = series == kP99;
  const double score = latency_score(*value, normal, tail ? kP99Ratio : kMeanRatio, tail ? kP99FloorS : kMeanFloorS);
  if (score >= 1) {
    tracker.deviate(second_ns, *value, normal.median, score, gain_of(score));
  } else {
    tracker.rest();
  }
}

void ServiceWatch::judge_errors(std::int64_t second_ns, const Second& now) {
  Tracker& tracker = trackers_[kErrors];
  const double share = now.errors > 0 ? now.errors / std::max(now.rate, now.errors) : 0;
  const Normal& normal = windows_[kErrors].normal();
  double score = 0;
  if (learned()) {
    score = std::min(share / std::max(kErrorShare, 3 * normal.high), now.errors / kErrorsPerS);
  } else {
    score = std::min(share / kErrorShareFact, now.errors / kErrorsPerSFact);
  }
  if (score >= 1) {
    const bool fact = share >= kErrorShareFact && now.errors >= kErrorsPerSFact;
    tracker.deviate(second_ns, share, normal.median, score, fact ? Gain::Strong : gain_of(score));
  } else if (now.rate > 0 || now.inflight <= 0) {
    tracker.rest();
  }
}

void ServiceWatch::judge_demand(std::int64_t second_ns, const Second& now) {
  const Normal& age = windows_[kAge].normal();
  const double p99 = windows_[kP99].normal().median;
  const double age_bar = std::max({kAgeS, 4 * age.high, 10 * p99});
  const double age_score = now.age_max / age_bar;
  const bool hung = learned() && age_score >= 1;
  if (hung) {
    // An age is no noise: each second it can only have grown.
    trackers_[kAge].deviate(second_ns, now.age_max, age.median, age_score, Gain::Strong);
  } else {
    trackers_[kAge].rest();
  }

  const Normal& rate = windows_[kRate].normal();
  const double queue = inflight_.normal().median;
  const bool demand = hung || (now.inflight > 2 * queue + 2) || now.connect_failures > 0;
  if (learned() && demand && rate.median >= 1 && now.rate < kCollapse * rate.median) {
    const double score = std::min(10.0, kCollapse * rate.median / std::max(now.rate, 0.04 * rate.median));
    trackers_[kRate].deviate(second_ns, now.rate, rate.median, score, gain_of(score));
  } else {
    trackers_[kRate].rest();
  }
}

void ServiceWatch::judge_life(std::int64_t second_ns, const Second& now) {
  if (now.connect_failures >= kConnectFailuresPerS) {
    const double score = now.connect_failures / kConnectFailuresPerS;
    connect_errno_ = now.connect_errno;
    trackers_[kConnect].deviate(second_ns, now.connect_failures, 0, score, gain_of(score));
  } else {
    trackers_[kConnect].rest();
  }

  const bool in_use = serves_ && second_ns - last_load_ns_ <= kInUseNs;
  if (now.failed_exits > 0) failed_exit_ns_ = second_ns;
  const bool gone = now.process_count && *now.process_count == 0 && process_count_ > 0;
  const bool ended = now.main_failed > 0 || (gone && failed_exit_ns_ != 0 && second_ns - failed_exit_ns_ <= kFailedExitNs);
  if (now.process_count) process_count_ = *now.process_count;
  if (in_use && (now.crashes > 0 || ended)) {
    if (!trackers_[kCrash].pending()) crash_text_ = now.crash_text.empty() ? "exited with an error" : now.crash_text;
    trackers_[kCrash].deviate(second_ns, std::max(1, now.crashes), 0, 1, Gain::Fact);
  } else {
    trackers_[kCrash].rest();
  }

  if (serves_ && now.restarts > 0) {
    restarts_.push_back(second_ns);
    if (restarts_.size() > kRestartsMax) restarts_.pop_front();
  }
  while (!restarts_.empty() && second_ns - restarts_.front() > kRestartLoopNs) restarts_.pop_front();
  if (static_cast<int>(restarts_.size()) >= kRestartLoop) {
    const auto count = static_cast<double>(restarts_.size());
    trackers_[kRestart].deviate(second_ns, count, 0, count / kRestartLoop, Gain::Fact);
  } else {
    trackers_[kRestart].rest();
  }
}

// Somebody outside has judged already: no bar of ours.
void ServiceWatch::judge_alert(std::int64_t second_ns, const Second& now) {
  if (now.alert_text.empty()) {
    trackers_[kAlert].rest();
    return;
  }
  alert_text_ = now.alert_text;
  last_seen_ns_ = second_ns;
  trackers_[kAlert].deviate(second_ns, 1, 0, 1, Gain::Fact);
}

void ServiceWatch::learn(std::int64_t second_ns, const Second& now) {
  const bool deviating = std::ranges::any_of(trackers_, [](const Tracker& t) { return t.pending(); });
  if (deviating) {
    if (frozen_since_ns_ == 0) frozen_since_ns_ = second_ns;
    if (second_ns - frozen_since_ns_ < relearn_after_s_ * kNsPerSecond) return;
    // It has been so for long enough to be what is normal now: forget and learn again.
    for (Window& window : windows_) window.clear();
    for (Tracker& tracker : trackers_) tracker.reset();
    inflight_.clear();
    load_s_ = 1;
  }
  frozen_since_ns_ = 0;
  if (now.rate <= 0) return;  // no load: nothing to learn from
  load_s_ = std::min(load_s_ + 1, warm_up_s_);
  if (now.p99) windows_[kP99].push(*now.p99);
  if (now.mean) windows_[kMean].push(*now.mean);
  windows_[kErrors].push(now.errors / std::max(now.rate, now.errors));
  windows_[kRate].push(now.rate);
  windows_[kAge].push(now.age_max);
  inflight_.push(now.inflight);
}

bool ServiceWatch::symptomatic() const {
  return std::ranges::any_of(trackers_, [](const Tracker& tracker) { return tracker.active(); });
}

bool ServiceWatch::strongly(std::int64_t second_ns) const {
  return std::ranges::any_of(trackers_, [&](const Tracker& t) { return t.active() && t.strong_ns() == second_ns; });
}

Symptom ServiceWatch::describe(Series series) const {
  const Tracker& tracker = trackers_[series];
  Symptom out{.entity = "service:" + name_,
              .series = {},
              .since_ns = tracker.since_ns(),
              .last_ns = tracker.last_ns(),
              .value = tracker.value(),
              .normal = tracker.normal(),
              .unit = {},
              .score = tracker.score(),
              .text = {}};
  const auto seconds = [&](std::string_view what) {
    return fmt::format("{} {} (normal {})", what, format_seconds(out.value), format_seconds(out.normal));
  };
  switch (series) {
    case kP99:
      out.series = "request.duration.p99", out.unit = "s", out.text = seconds("p99");
      break;
    case kMean:
      out.series = "request.duration.mean", out.unit = "s", out.text = seconds("mean");
      break;
    case kErrors:
      out.series = "request.errors", out.unit = "share";
      out.text = fmt::format("{:.0f} % errors (normal {:.0f} %)", 100 * out.value, 100 * out.normal);
      break;
    case kRate:
      out.series = "request.rate", out.unit = "1/s";
      out.text = fmt::format("{:.0f} requests/s answered (normal {:.0f})", out.value, out.normal);
      break;
    case kAge:
      out.series = "request.inflight.age.max", out.unit = "s";
      out.text = fmt::format("requests unanswered for {}", format_seconds(out.value));
      break;
    case kConnect:
      out.series = fmt::format("connect.failures{{errno=\"{}\"}}", connect_errno_), out.unit = "1/s";
      out.text = fmt::format("connections fail ({}, {:.0f}/s)", connect_errno_, out.value);
      break;
    case kCrash:
      out.series = "process.crashes", out.unit = "1", out.text = crash_text_;
      break;
    case kAlert:
      out.series = "alert", out.unit = "1", out.text = alert_text_;
      break;
    case kRestart:
    case kSeriesCount:
      out.series = "process.starts", out.unit = "1";
      out.text = fmt::format("restarted {:.0f} times in a minute", out.value);
      break;
  }
  return out;
}

std::vector<Symptom> ServiceWatch::symptoms() const {
  std::vector<Symptom> out;
  for (std::size_t i = 0; i < kSeriesCount; ++i) {
    if (trackers_[i].active()) out.push_back(describe(static_cast<Series>(i)));
  }
  return out;
}

}  // namespace culprit::detect
