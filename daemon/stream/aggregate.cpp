#include "daemon/stream/aggregate.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "daemon/stream/bytes.h"
#include "daemon/stream/codec.h"
#include "daemon/stream/query.h"

namespace culprit::stream {
namespace {

constexpr std::uint64_t kContrastEventsMin = 5;  // fewer of a value in both windows say nothing
constexpr double kEffectMax = 10;                // a change against no spread at all has no bound of its own

std::int64_t floor_to(std::int64_t time_ns, std::int64_t bucket_ns) {
  const std::int64_t rest = time_ns % bucket_ns;
  return wrapping_sub(time_ns, rest < 0 ? rest + bucket_ns : rest);
}

std::string_view name_field(Kind kind) {
  switch (kind) {
    case Kind::Sample: return "series";
    case Kind::Log: return "template";
    case Kind::Span: return "operation";
    case Kind::Kernel: return "kernel";
    case Kind::Change: return "change";
    case Kind::Alert: return "alert";
  }
  return "name";
}

// Cohen's h: the difference of two shares on a scale where equal steps are equally easy to see (J. Cohen,
// Statistical Power Analysis for the Behavioral Sciences, 2nd ed. 1988, chapter 6).
double cohens_h(double before, double now) { return 2 * std::asin(std::sqrt(now)) - 2 * std::asin(std::sqrt(before)); }

// Cohen's d with the pooled deviation (ibid., chapter 2).
double cohens_d(const ContrastBuilder::Moments& m) {
  const auto n0 = static_cast<double>(m.numbers[0]), n1 = static_cast<double>(m.numbers[1]);
  if (n0 < 2 || n1 < 2) return 0;
  const double mean0 = m.sum[0] / n0, mean1 = m.sum[1] / n1;
  const double spread = std::max(0.0, m.squares[0] - n0 * mean0 * mean0) + std::max(0.0, m.squares[1] - n1 * mean1 * mean1);
  const double deviation = std::sqrt(spread / (n0 + n1 - 2));
  const double difference = mean1 - mean0;
  // Squares lose the low digits: a deviation below them is none.
  const double noise = 1e-7 * std::max(std::abs(mean0), std::abs(mean1));
  if (std::abs(difference) <= noise) return 0;
  return std::clamp(difference / std::max(deviation, noise), -kEffectMax, kEffectMax);
}

}  // namespace

AggregateBuilder::AggregateBuilder(const Aggregation& what) : what_(what) {
  for (const std::string& field : what.by) {
    const bool of_key = field == "entity" || field == "name" || field == "kind";
    by_key_ = by_key_ && of_key;
    reads_severity_ = reads_severity_ || field == "severity";
    reads_attributes_ = reads_attributes_ || (!of_key && field != "severity");
  }
}

std::uint32_t AggregateBuilder::slot(const RowView& row) {
  scratch_.clear();
  for (const std::string& field : what_.by) {
    put_string(scratch_, field == "entity"     ? row.entity
                         : field == "name"     ? row.name
                         : field == "kind"     ? kind_name(row.kind)
                         : field == "severity" ? severity_name(row.severity)
                                               : row.attribute(field));
  }
  const auto found = slots_.find(scratch_);
  if (found != slots_.end()) return found->second;
  if (groups_.size() >= kGroupsMax) {
    ++groups_left_out_;
    return UINT32_MAX;
  }
  std::vector<std::string> group;
  Reader in(scratch_);
  while (in.left() > 0) group.emplace_back(in.string());
  groups_.push_back(std::move(group));
  rows_.emplace_back();
  const auto id = static_cast<std::uint32_t>(groups_.size() - 1);
  slots_.emplace(scratch_, id);
  return id;
}

void AggregateBuilder::add(std::uint32_t slot, std::int64_t time_ns, double value) {
  if (slot == UINT32_MAX) return;
  AggregateRow* row = &rows_[slot];
  if (what_.bucket_ns > 0) {
    const std::pair at(slot, floor_to(time_ns, what_.bucket_ns));
    if (buckets_.size() >= kGroupsMax && !buckets_.contains(at)) {
      ++groups_left_out_;
      return;
    }
    row = &buckets_[at];
    row->bucket_ns = at.second;
  }
  const bool first = row->count == 0;
  row->first_ns = first ? time_ns : std::min(row->first_ns, time_ns);
  if (first || time_ns > row->last_ns ||
      (time_ns == row->last_ns && (value > row->latest || std::isnan(row->latest)))) {  // of one time: the larger, in any order
    row->last_ns = time_ns;
    row->latest = value;
  }
  ++row->count;
  if (std::isnan(value)) return;
  row->min = row->values.count() == 0 ? value : std::min(row->min, value);
  row->max = row->values.count() == 0 ? value : std::max(row->max, value);
  row->sum += value;
  row->values.add(value);
}

AggregateAnswer AggregateBuilder::finish(Completeness completeness) {
  AggregateAnswer answer{.completeness = completeness, .groups_left_out = groups_left_out_};
  if (groups_left_out_ > 0) {
    answer.completeness.whole = false;
    answer.completeness.limit_reached = true;
  }
  const auto take = [&](std::uint32_t slot, AggregateRow& row) {
    if (row.count == 0) return;
    row.group = groups_[slot];
    answer.rows.push_back(std::move(row));
  };
  for (auto& [at, row] : buckets_) take(at.first, row);
  for (std::uint32_t slot = 0; slot < rows_.size(); ++slot) take(slot, rows_[slot]);
  std::sort(answer.rows.begin(), answer.rows.end(), [&](const AggregateRow& a, const AggregateRow& b) {
    const double left = what_.order == Aggregation::Order::Count ? static_cast<double>(a.count) : what_.order == Aggregation::Order::Sum ? a.sum : 0;
    const double right = what_.order == Aggregation::Order::Count ? static_cast<double>(b.count) : what_.order == Aggregation::Order::Sum ? b.sum : 0;
    if (left != right) return left > right;
    return std::tie(a.group, a.bucket_ns) < std::tie(b.group, b.bucket_ns);
  });
  if (answer.rows.size() > what_.top) {
    answer.groups_left_out += answer.rows.size() - what_.top;
    answer.rows.resize(what_.top);
  }
  return answer;
}

ContrastBuilder::Moments& ContrastBuilder::key(const Key& key) {
  const std::uint32_t id = keys_.intern(key.entity, key.name, key.kind);
  if (id == moments_.size()) moments_.emplace_back();
  return moments_[id];
}

void ContrastBuilder::add(Moments& moments, int window, std::int64_t time_ns, double value) {
  ++moments.count[window];
  if (window == 1) moments.first_now_ns = std::min(moments.first_now_ns, time_ns);
  if (std::isnan(value)) return;
  ++moments.numbers[window];
  moments.sum[window] += value;
  moments.squares[window] += value * value;
}

ContrastBuilder::Field* ContrastBuilder::field(std::size_t place, std::string_view name) {
  if (place < kPlaces && last_at_[place] != nullptr && last_at_[place]->name == name) return last_at_[place];
  auto found = fields_.find(name);
  if (found == fields_.end()) {
    if (fields_.size() >= kContrastFieldsMax) return nullptr;
    found = fields_.emplace(std::string(name), Field{.name = std::string(name), .index = {}, .texts = {}, .counts = {}}).first;
  }
  if (place < kPlaces) last_at_[place] = &found->second;
  return &found->second;
}

void ContrastBuilder::add(Field& field, std::string_view text, const Counts& counts) {
  const auto fresh = static_cast<std::uint32_t>(field.texts.size());
  const std::uint32_t id = field.index.find_or_add(table_hash(text, table_seed()), fresh, [&](std::uint32_t other) { return field.texts[other] == text; });
  if (id == fresh) {
    field.texts.emplace_back(text);
    field.counts.emplace_back();
  }
  for (int window = 0; window < 2; ++window) field.counts[id].count[window] += counts.count[window];
  if (field.texts.size() > kContrastValuesMax) field = {.name = std::move(field.name), .index = {}, .texts = {}, .counts = {}, .too_many = true};
}

void ContrastBuilder::add_attributes(int window, std::string_view coded, std::uint64_t times) {
  Counts counts;
  counts.count[window] = times;
  Reader in(coded);
  for (std::size_t place = 0; in.left() > 0; ++place) {
    Field* const of = field(place, in.string());
    const std::string_view text = in.string();
    if (of != nullptr && !of->too_many) add(*of, text, counts);
  }
}

void ContrastBuilder::add(const ContrastBuilder& other) {
  for (std::size_t i = 0; i < other.moments_.size(); ++i) {
    Moments& to = key(other.keys_[i]);
    const Moments& of = other.moments_[i];
    for (int window = 0; window < 2; ++window) {
      to.count[window] += of.count[window];
      to.numbers[window] += of.numbers[window];
      to.sum[window] += of.sum[window];
      to.squares[window] += of.squares[window];
    }
    to.first_now_ns = std::min(to.first_now_ns, of.first_now_ns);
  }
  for (const auto& [name, of] : other.fields_) {
    Field* const to = field(kPlaces, name);
    if (to == nullptr || to->too_many) continue;
    if (of.too_many) *to = {.name = std::move(to->name), .index = {}, .texts = {}, .counts = {}, .too_many = true};
    for (std::size_t i = 0; i < of.texts.size() && !to->too_many; ++i) add(*to, of.texts[i], of.counts[i]);
  }
}

void ContrastBuilder::add(int window, const RowView& row) {
  add(key({std::string(row.entity), std::string(row.name), row.kind}), window, row.time_ns, row.value);
}

ContrastAnswer ContrastBuilder::finish(std::size_t limit, Completeness before, Completeness now) {
  ContrastAnswer answer{.before = before, .now = now};
  const double seconds[2] = {seconds_between(windows_[0].from_ns, windows_[0].to_ns), seconds_between(windows_[1].from_ns, windows_[1].to_ns)};
  std::map<std::pair<std::string, std::string>, Counts> shares;
  double totals[2] = {0, 0};
  // A log line is named by its template's number. Where all lines have its text as an attribute too, that is told, and not the number as well.
  std::uint64_t lines = 0, with_text = 0;
  for (std::size_t i = 0; i < moments_.size(); ++i) lines += keys_[i].kind == Kind::Log ? moments_[i].count[0] + moments_[i].count[1] : 0;
  if (const auto texts = fields_.find(name_field(Kind::Log)); texts != fields_.end()) {
    for (const Counts& counts : texts->second.counts) with_text += counts.count[0] + counts.count[1];  // none, if there are too many
  }
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    const Moments& m = moments_[i];
    const Key& key = keys_[i];
    for (int window = 0; window < 2; ++window) {
      totals[window] += static_cast<double>(m.count[window]);
      shares[{"entity", key.entity}].count[window] += m.count[window];
      if (key.kind != Kind::Sample && !(key.kind == Kind::Log && with_text == lines)) shares[{std::string(name_field(key.kind)), key.name}].count[window] += m.count[window];
    }
    if (key.kind != Kind::Sample && key.kind != Kind::Span) continue;
    Contrast contrast{.field = key.kind == Kind::Sample ? "series" : "duration", .value = key.entity + " " + key.name};
    contrast.effect = cohens_d(m);
    for (int window = 0; window < 2; ++window) {
      (window == 0 ? contrast.before : contrast.now) = m.count[window];
      (window == 0 ? contrast.before_mean : contrast.now_mean) = m.numbers[window] == 0 ? 0 : m.sum[window] / static_cast<double>(m.numbers[window]);
    }
    answer.changes.push_back(std::move(contrast));
  }
  for (const auto& [name, field] : fields_) {
    if (field.too_many) answer.fields_left_out.push_back(name);
    for (std::size_t i = 0; i < field.texts.size(); ++i) shares[{name, field.texts[i]}] = field.counts[i];
  }
  for (const auto& [what, counts] : shares) {
    Contrast contrast{.field = what.first, .value = what.second, .before = counts.count[0], .now = counts.count[1]};
    contrast.effect = cohens_h(totals[0] > 0 ? static_cast<double>(counts.count[0]) / totals[0] : 0,
                               totals[1] > 0 ? static_cast<double>(counts.count[1]) / totals[1] : 0);
    answer.changes.push_back(std::move(contrast));
  }
  std::erase_if(answer.changes, [](const Contrast& c) { return c.effect == 0 || c.before + c.now < kContrastEventsMin; });
  for (Contrast& contrast : answer.changes) {
    contrast.before_per_s = static_cast<double>(contrast.before) / seconds[0];
    contrast.now_per_s = static_cast<double>(contrast.now) / seconds[1];
  }
  // Sums in another order differ in their last digits: they must not decide the order.
  const auto rounded = [](double effect) { return std::round(std::abs(effect) * 1e6); };
  std::sort(answer.changes.begin(), answer.changes.end(), [&](const Contrast& a, const Contrast& b) {
    const double left = rounded(a.effect), right = rounded(b.effect);
    if (left != right) return left > right;
    return std::tie(a.field, a.value) < std::tie(b.field, b.value);
  });
  answer.left_out = answer.changes.size() > limit ? answer.changes.size() - limit : 0;
  if (answer.changes.size() > limit) answer.changes.resize(limit);
  return answer;
}

// ---- over any store's scan ----

Result<AggregateAnswer> EventStore::aggregate(const Aggregation& what) const {
  AggregateBuilder builder(what);
  ASSIGN(const Completeness completeness, scan(what.where, [&](const Event& event) {
           builder.add(view_of(event));
           return true;
         }));
  return builder.finish(completeness);
}

Result<ContrastAnswer> EventStore::contrast(const Query& filter, Window before, Window now, std::size_t limit) const {
  if (before.from_ns >= before.to_ns || now.from_ns >= now.to_ns) return fail(Code::Invalid, "empty window");
  ContrastBuilder builder(before, now);
  Completeness seen[2];
  for (int window = 0; window < 2; ++window) {
    Query query = filter;
    query.from_ns = window == 0 ? before.from_ns : now.from_ns;
    query.to_ns = window == 0 ? before.to_ns : now.to_ns;
    ASSIGN(seen[window], scan(query, [&](const Event& event) {
             builder.add(window, view_of(event));
             builder.add_attributes(window, event.attributes.coded(), 1);
             return true;
           }));
  }
  return builder.finish(limit, seen[0], seen[1]);
}

}  // namespace culprit::stream
