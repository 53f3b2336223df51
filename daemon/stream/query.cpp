#include "daemon/stream/query.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

std::string to_lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return text;
}

// Nearest rank: the smallest value that at least this share of the values does not exceed.
double quantile(const std::vector<double>& sorted, double share) {
  const auto rank = static_cast<std::size_t>(std::ceil(share * static_cast<double>(sorted.size())));
  return sorted[std::max<std::size_t>(rank, 1) - 1];
}

template <typename T>
bool by_key(const T& a, const T& b) {
  return std::tie(a.entity, a.name) < std::tie(b.entity, b.name);
}

}  // namespace

TextFilter::TextFilter(std::span<const std::string> patterns) : all_(patterns.empty()) {
  for (const std::string& pattern : patterns) {
    if (pattern.ends_with('*')) {
      prefixes_.push_back(pattern.substr(0, pattern.size() - 1));
    } else {
      exact_.push_back(pattern);
    }
  }
  std::sort(exact_.begin(), exact_.end());
}

bool TextFilter::matches(std::string_view text) const {
  if (all_ || std::binary_search(exact_.begin(), exact_.end(), text)) return true;
  return std::any_of(prefixes_.begin(), prefixes_.end(),
                     [&](const std::string& prefix) { return text.starts_with(prefix); });
}

Matcher::Matcher(const Query& query)
    : from_ns_(query.from_ns),
      to_ns_(query.to_ns),
      kinds_(query.kinds.empty() ? ~0u : 0u),
      severity_min_(std::max(query.severity_min, query.filter.bounds().severity_min)),
      entities_(query.entities),
      names_(query.names),
      bound_entities_(query.filter.bounds().entities),
      bound_names_(query.filter.bounds().names),
      text_(to_lower(query.text)),
      attributes_(query.attributes),
      bound_attributes_(query.filter.bounds().attributes),
      bound_texts_(query.filter.bounds().texts.begin(), query.filter.bounds().texts.end()),
      sample_(query.sample),
      minutes_(query.minutes),
      filter_(query.filter) {
  for (const Kind each : query.kinds) kinds_ |= kind_bit(each);
  kinds_ &= query.filter.bounds().kinds;
}

bool Matcher::detail(const Attributes& attributes, std::string_view body) const {
  for (const auto& wanted : attributes_) {
    if (!holds_attribute(attributes.coded(), wanted.first, wanted.second)) return false;
  }
  return text_.in(body);
}

bool Matcher::detail(const Detail* detail) const {
  for (const auto* wanted : {&attributes_, &bound_attributes_}) {
    for (const auto& [name, text] : *wanted) {
      if (detail == nullptr || !holds_attribute(detail->attributes(), name, text)) return false;
    }
  }
  const std::string_view body = detail == nullptr ? std::string_view() : detail->body();
  return text_.in(body) && std::all_of(bound_texts_.begin(), bound_texts_.end(), [&](const LowerText& text) { return text.in(body); });
}

bool Matcher::event(const Event& event) const {
  return time(event.time_ns) && kind(event.kind) && severity(event.severity) && key(event.entity, event.name) &&
         detail(event.attributes, event.body) && filter_.matches(event) &&
         sampled(event.time_ns, event.entity, event.name);
}

bool Matcher::sampled(std::int64_t time_ns, std::string_view entity, std::string_view name) const {
  return sample_ <= 1 || hash_bytes(name, hash_bytes(entity, static_cast<std::uint64_t>(time_ns))) % sample_ == 0;
}

std::vector<std::string_view> Matcher::texts() const {
  std::vector<std::string_view> texts;
  texts.reserve(bound_texts_.size());
  for (const LowerText& text : bound_texts_) texts.push_back(text.text());
  if (!text_.text().empty()) texts.push_back(text_.text());
  return texts;
}

std::uint32_t Grouper::slot(std::string_view entity, std::string_view name) {
  const std::uint32_t slot = keys_.intern(entity, name);
  if (slot == values_.size()) values_.emplace_back();
  return slot;
}

void Grouper::add(std::uint32_t slot, std::int64_t time_ns, double value) {
  Values& values = values_[slot];
  values.first_ns = values.count == 0 ? time_ns : std::min(values.first_ns, time_ns);
  values.last_ns = values.count == 0 ? time_ns : std::max(values.last_ns, time_ns);
  ++values.count;
  if (!std::isnan(value)) values.numbers.push_back(value);
}

std::vector<Group> Grouper::finish() {
  std::vector<Group> groups;
  for (std::size_t i = 0; i < values_.size(); ++i) {
    Values& values = values_[i];
    if (values.count == 0) continue;
    Group group{.entity = keys_[i].entity, .name = keys_[i].name, .count = values.count};
    group.first_ns = values.first_ns;
    group.last_ns = values.last_ns;
    if (!values.numbers.empty()) {
      std::sort(values.numbers.begin(), values.numbers.end());
      for (const double number : values.numbers) group.sum += number;
      group.min = values.numbers.front();
      group.max = values.numbers.back();
      group.p50 = quantile(values.numbers, 0.50);
      group.p99 = quantile(values.numbers, 0.99);
    }
    groups.push_back(std::move(group));
  }
  std::sort(groups.begin(), groups.end(), by_key<Group>);
  return groups;
}

std::vector<Difference> compare(const std::vector<Group>& before, double before_s, const std::vector<Group>& now,
                                double now_s) {
  std::vector<Difference> differences;
  auto old = before.begin();
  auto fresh = now.begin();
  while (old != before.end() || fresh != now.end()) {
    const bool has_old = fresh == now.end() || (old != before.end() && !by_key(*fresh, *old));
    const bool has_fresh = old == before.end() || (fresh != now.end() && !by_key(*old, *fresh));
    Difference difference{.entity = has_old ? old->entity : fresh->entity,
                          .name = has_old ? old->name : fresh->name};
    if (has_old) {
      const auto count = static_cast<double>(old->count);
      difference.before_per_s = count / before_s;
      difference.before_mean = old->sum / count;
      ++old;
    }
    if (has_fresh) {
      const auto count = static_cast<double>(fresh->count);
      difference.now_per_s = count / now_s;
      difference.now_mean = fresh->sum / count;
      difference.first_now_ns = fresh->first_ns;
      ++fresh;
    }
    differences.push_back(std::move(difference));
  }
  return differences;
}

}  // namespace culprit::stream
