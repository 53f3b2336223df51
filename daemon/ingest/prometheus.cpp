#include "daemon/ingest/prometheus.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>

#include "daemon/base/text.h"
#include "daemon/ingest/labels.h"
#include "daemon/ingest/wire.h"

namespace culprit::ingest {
namespace {

constexpr std::uint64_t kStaleBits = 0x7ff0000000000002;  // prometheus/model/value: the series has ended
constexpr std::size_t kLabelsMax = 64;

struct Sample {
  std::string name;
  Labels labels;
  double value = 0;
  std::int64_t time_ns = 0;
  std::uint64_t trace_id[2] = {0, 0}, span_id = 0;
  bool ended = false;  // a stale marker
};

// Buckets of one histogram, as they come in: le -> cumulated count.
struct Buckets {
  Sample any;  // its labels without le
  std::map<double, double> counts;
  double sum = 0, count = -1;
  bool any_lives = false;  // not all that came of it were stale markers: those end only a bucket that it has no more
};

bool name_char(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ':' || c == '.'; }

void skip_blanks(std::string_view& text) { text.remove_prefix(std::min(text.find_first_not_of(" \t"), text.size())); }

std::optional<double> parse_value(std::string_view text) {
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (text == "+Inf" || text == "Inf") return std::numeric_limits<double>::infinity();
  if (text == "-Inf") return -std::numeric_limits<double>::infinity();
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// {a="b",c="d\n"} at the front; false if it is none.
bool parse_labels(std::string_view& text, Labels& to, Decoded& out) {
  text.remove_prefix(1);
  while (true) {
    skip_blanks(text);
    if (text.starts_with('}')) {
      text.remove_prefix(1);
      return true;
    }
    std::size_t size = 0;
    while (size < text.size() && name_char(text[size])) ++size;
    const std::string_view key = text.substr(0, size);
    text.remove_prefix(size);
    skip_blanks(text);
    if (key.empty() || !text.starts_with('=')) return false;
    text.remove_prefix(1);
    skip_blanks(text);
    if (!text.starts_with('"')) return false;
    text.remove_prefix(1);
    std::string value;
    while (!text.empty() && text.front() != '"') {
      if (text.front() == '\\' && text.size() > 1) {
        value += text[1] == 'n' ? '\n' : text[1];
        text.remove_prefix(2);
      } else {
        value += text.front();
        text.remove_prefix(1);
      }
    }
    if (text.empty()) return false;
    text.remove_prefix(1);
    if (to.size() >= kLabelsMax) return false;
    add_attribute(to, key, value, out);
    skip_blanks(text);
    if (text.starts_with(',')) text.remove_prefix(1);
    else if (!text.starts_with('}')) return false;
  }
}

// One sample line. `open_metrics` times are seconds, others milliseconds.
bool parse_sample(std::string_view line, bool open_metrics, Sample& sample, const Context& context, Decoded& out) {
  std::size_t size = 0;
  while (size < line.size() && name_char(line[size])) ++size;
  if (size == 0 || size > kNameBytesMax) return false;
  sample.name = line.substr(0, size);
  line.remove_prefix(size);
  skip_blanks(line);
  if (line.starts_with('{') && !parse_labels(line, sample.labels, out)) return false;
  skip_blanks(line);
  std::string_view exemplar;
  if (const std::size_t mark = line.find(" # "); mark != std::string_view::npos) {
    exemplar = line.substr(mark + 3);
    line = line.substr(0, mark);
  }
  const std::string_view value_text = line.substr(0, line.find_first_of(" \t"));
  const auto value = parse_value(value_text);
  if (!value) return false;
  sample.value = *value;
  line.remove_prefix(value_text.size());
  skip_blanks(line);
  while (!line.empty() && (line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
  sample.time_ns = context.now_ns;
  if (!line.empty()) {
    const auto time = parse_value(line);
    if (!time || !(std::abs(*time) < (open_metrics ? 9e9 : 9e12))) return false;  // the year 2255: what nanoseconds can hold
    sample.time_ns = stream_time(static_cast<std::int64_t>(*time * (open_metrics ? 1e9 : 1e6)), context, out);
  }
  if (exemplar.starts_with('{')) {
    Labels of;
    if (parse_labels(exemplar, of, out)) {
      for (const auto& [key, text] : of) {
        if (key == "trace_id" || key == "traceID" || key == "traceId") (void)parse_trace_id(text, sample.trace_id);
        if (key == "span_id" || key == "spanID" || key == "spanId") (void)parse_span_id(text, sample.span_id);
      }
    }
  }
  return true;
}

std::string take_label(Labels& labels, std::string_view key) {
  const auto found = std::ranges::find(labels, key, [](const auto& label) { return std::string_view(label.first); });
  if (found == labels.end()) return {};
  std::string value = std::move(found->second);
  labels.erase(found);
  return value;
}

enum class Family : std::uint8_t { Unknown, Counter, Gauge, Histogram, Summary };

// What a name says when no type was given: the conventions of prometheus.io/docs/practices/naming.
Family family_of_name(std::string_view name) {
  if (name.ends_with("_total") || name.ends_with("_count") || name.ends_with("_sum") || name.ends_with("_created")) return Family::Counter;
  return Family::Unknown;
}

class Collector {
 public:
  Collector(const Context& context, Decoded& out) : context_(context), out_(out) {}

  // `target` is null for what nobody scraped.
  void add(Sample&& sample, Family family, const ScrapeTarget* target) {
    if (sample.name.ends_with("_created")) return;  // when it began to count, in OpenMetrics: no number of its own
    std::string entity = place(sample, target);
    if (sample.name.ends_with("_bucket")) {
      const std::string le = take_label(sample.labels, "le");
      const auto bound = parse_value(le);
      if (bound && !std::isnan(*bound)) {
        Buckets& buckets = of(entity, sample, 7);
        if (sample.ended) return;
        buckets.any_lives = true;
        if (buckets.counts.size() <= kBucketsMax) buckets.counts[*bound] = sample.value;
        if (sample.trace_id[0] != 0 || sample.trace_id[1] != 0) {
          buckets.any.trace_id[0] = sample.trace_id[0];
          buckets.any.trace_id[1] = sample.trace_id[1];
          buckets.any.span_id = sample.span_id;
        }
        return;
      }
    }
    if (family == Family::Histogram && sample.name.ends_with("_sum")) {
      of(entity, sample, 4).sum = sample.value;
      return;
    }
    if (family == Family::Histogram && sample.name.ends_with("_count")) {
      Buckets& buckets = of(entity, sample, 6);
      buckets.count = sample.value;
      buckets.any_lives = true;
      return;
    }
    Number number = number_of(entity, sample);
    number.cumulative = family == Family::Counter || (family == Family::Summary && (sample.name.ends_with("_sum") || sample.name.ends_with("_count")));
    number.value = sample.value;
    add_number(number, context_, out_);
  }

  void finish() {
    for (auto& [key, buckets] : histograms_) {
      Histogram histogram;
      const std::string entity = key.substr(0, key.find('\n'));
      histogram.of = number_of(entity, buckets.any);
      histogram.of.ended = !buckets.any_lives;
      histogram.sum = buckets.sum;
      double before = 0;
      for (const auto& [bound, cumulated] : buckets.counts) {
        histogram.buckets.push_back(std::max(0.0, cumulated - before));
        before = std::max(before, cumulated);
        if (!std::isinf(bound)) histogram.bounds.push_back(bound);
      }
      histogram.of.value = buckets.count >= 0 ? buckets.count : before;
      if (histogram.buckets.size() == histogram.bounds.size()) histogram.buckets.push_back(std::max(0.0, histogram.of.value - before));
      if (histogram.bounds.empty()) histogram.buckets.clear();
      add_histogram(histogram, context_, out_);
    }
    histograms_.clear();
  }

 private:
  static Number number_of(std::string_view entity, const Sample& sample) {
    Number number;
    number.entity = entity;
    number.name = sample.name;
    number.labels = &sample.labels;
    number.time_ns = sample.time_ns;
    number.trace_id[0] = sample.trace_id[0];
    number.trace_id[1] = sample.trace_id[1];
    number.span_id = sample.span_id;
    number.ended = sample.ended;
    return number;
  }

  // The entity; a job that says nothing but that is taken off.
  std::string place(Sample& sample, const ScrapeTarget* target) {
    std::string entity = target == nullptr ? std::string() : target->entity;
    if (sample.name.starts_with("node_")) entity = "host";
    const std::string job = take_label(sample.labels, "job");
    const bool named = !job.empty() && !(target != nullptr && job == target->default_job && is_this_host(host_of_address(label_of(sample.labels, "instance")), context_));
    if (entity.empty()) entity = entity_of_labels(sample.labels, context_);
    if (entity.empty() && named) return entity_of_job(job);
    if (entity.empty()) entity = "host";
    if (!job.empty() && entity != entity_of_job(job)) sample.labels.emplace_back("job", job);
    return entity;
  }

  Buckets& of(const std::string& entity, const Sample& sample, std::size_t suffix) {
    const std::string base = sample.name.substr(0, sample.name.size() - suffix);
    std::string key = entity + '\n' + series_name(base, "", sample.labels, out_);
    auto [found, fresh] = histograms_.try_emplace(std::move(key));
    if (fresh) {
      found->second.any = sample;
      found->second.any.name = base;
      found->second.any.value = 0;
    }
    return found->second;
  }

  const Context& context_;
  Decoded& out_;
  std::map<std::string, Buckets> histograms_;
};

bool wanted(std::string_view name, const ScrapeTarget& target) {
  const auto matches = [&](const std::string& glob) { return glob_match(glob, name); };
  return (target.keep.empty() || std::ranges::any_of(target.keep, matches)) && std::ranges::none_of(target.drop, matches);
}

}  // namespace

Result<void> decode_exposition(std::string_view text, const ScrapeTarget& target, const Context& context, Decoded& out) {
  std::map<std::string, Family, std::less<>> families;
  Collector collector(context, out);
  const bool open_metrics = text.ends_with("# EOF\n") || text.ends_with("# EOF");
  std::size_t number = 0, right = 0, wrong = 0;
  std::string first_wrong;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    skip_blanks(line);
    if (line.empty()) continue;
    if (line.starts_with('#')) {
      if (!line.starts_with("# TYPE ")) continue;
      line.remove_prefix(7);
      const std::size_t space = line.find(' ');
      if (space == std::string_view::npos || families.size() >= kScrapeSamplesMax) continue;
      const std::string_view type = line.substr(space + 1);
      families[std::string(line.substr(0, space))] = type == "counter"     ? Family::Counter
                                                     : type == "gauge"     ? Family::Gauge
                                                     : type == "histogram" ? Family::Histogram
                                                     : type == "summary"   ? Family::Summary
                                                                           : Family::Unknown;
      continue;
    }
    Sample sample;
    if (!parse_sample(line, open_metrics, sample, context, out)) {
      if (wrong++ == 0) first_wrong = fmt::format("line {}: no sample: '{}'", number, sanitize_utf8(line.substr(0, 120)));
      continue;
    }
    ++right;
    if (!wanted(sample.name, target)) continue;
    ++out.records;
    if (out.records > kScrapeSamplesMax) {
      out.reject(fmt::format("more than {} samples", kScrapeSamplesMax));
      continue;
    }
    for (const auto& label : target.labels) {
      const auto said = std::ranges::find(sample.labels, label.first, &std::pair<std::string, std::string>::first);
      if (said != sample.labels.end() && target.honor_labels) continue;
      if (said != sample.labels.end()) said->first = "exported_" + said->first;
      sample.labels.push_back(label);
    }
    Family family = Family::Unknown;
    for (const std::string_view suffix : {"", "_total", "_bucket", "_count", "_sum"}) {
      if (!sample.name.ends_with(suffix)) continue;
      const auto found = families.find(std::string_view(sample.name).substr(0, sample.name.size() - suffix.size()));
      if (found == families.end()) continue;
      family = found->second;
      break;
    }
    if (family == Family::Unknown) family = family_of_name(sample.name);
    if (target.relabel && !target.relabel->apply(sample.name, sample.labels)) {
      --out.records;
      continue;
    }
    collector.add(std::move(sample), family, &target);
  }
  collector.finish();
  if (wrong > 0) {
    if (right == 0) return fail(Code::Invalid, first_wrong);
    for (std::size_t i = 0; i < wrong; ++i) out.reject(first_wrong);
    out.records += wrong;
  }
  return {};
}

void add_up(bool up, const ScrapeTarget& target, const Context& context, Decoded& out) {
  Collector(context, out).add({.name = "up", .labels = target.labels, .value = up ? 1.0 : 0.0, .time_ns = context.now_ns}, Family::Gauge, &target);
}

// WriteRequest: 1 timeseries{1 labels{1 name 2 value} 2 samples{1 value 2 timestamp_ms} 3 exemplars{1 labels}}, 3 metadata{1 type 2 family}.
Result<void> decode_remote_write(std::string_view bytes, const Context& context, Decoded& out) {
  const auto finish = [](const WireReader& reader, std::string_view what) -> Result<void> {
    if (reader.ok()) return {};
    return fail(Code::Invalid, fmt::format("remote write: {}: wrong bytes at offset {}", what, reader.offset()));
  };
  const auto read_label = [&](WireReader label, Labels& to) -> Result<void> {
    std::string_view key, value;
    while (label.next()) {
      if (label.is(1, WireReader::kBytes)) key = label.bytes();
      if (label.is(2, WireReader::kBytes)) value = label.bytes();
    }
    TRY(finish(label, "label"));
    add_attribute(to, key, value, out);
    return {};
  };
  WireReader request(bytes);
  std::map<std::int64_t, Collector> by_time;  // a histogram is whole among the series of one time
  while (request.next()) {
    if (!request.is(1, WireReader::kBytes)) continue;
    WireReader series = request.message();
    Labels labels;
    std::vector<std::pair<std::int64_t, double>> samples;
    std::uint64_t trace_id[2] = {0, 0}, span_id = 0;
    while (series.next()) {
      if (series.is(1, WireReader::kBytes)) TRY(read_label(series.message(), labels));
      if (series.is(2, WireReader::kBytes)) {
        WireReader sample = series.message();
        double value = 0;
        std::int64_t time_ms = 0;
        while (sample.next()) {
          if (sample.is(1, WireReader::kFixed64)) value = sample.real();
          if (sample.is(2, WireReader::kVarint)) time_ms = static_cast<std::int64_t>(sample.number());
        }
        TRY(finish(sample, "sample"));
        samples.emplace_back(time_ms, value);
      }
      if (series.is(3, WireReader::kBytes)) {
        WireReader exemplar = series.message();
        Labels of;
        while (exemplar.next()) {
          if (exemplar.is(1, WireReader::kBytes)) TRY(read_label(exemplar.message(), of));
        }
        TRY(finish(exemplar, "exemplar"));
        for (const auto& [key, text] : of) {
          if (key == "trace_id" || key == "traceID") (void)parse_trace_id(text, trace_id);
          if (key == "span_id" || key == "spanID") (void)parse_span_id(text, span_id);
        }
      }
      if (series.is(4, WireReader::kBytes)) {
        ++out.records;
        out.reject("native histograms are not read: send classic ones too");
      }
    }
    TRY(finish(series, "time series"));
    const std::string name = take_label(labels, "__name__");
    for (const auto& [time_ms, value] : samples) {
      ++out.records;
      if (name.empty()) {
        out.reject("a time series without a name");
        continue;
      }
      if (time_ms < 0 || time_ms > 4'000'000'000'000) {
        out.reject(fmt::format("a sample with the time {} ms", time_ms));
        continue;
      }
      Sample sample{name, labels, value, stream_time(time_ms * kNsPerMs, context, out), {trace_id[0], trace_id[1]}, span_id, std::bit_cast<std::uint64_t>(value) == kStaleBits};
      Family family = family_of_name(name);
      auto found = by_time.find(time_ms);
      if (found == by_time.end()) {
        if (by_time.size() > 64) {
          for (auto& [time, each] : by_time) each.finish();
          by_time.clear();
        }
        found = by_time.try_emplace(time_ms, context, out).first;
      }
      found->second.add(std::move(sample), family, nullptr);
    }
  }
  TRY(finish(request, "request"));
  for (auto& [time, each] : by_time) each.finish();
  return {};
}

}  // namespace culprit::ingest
