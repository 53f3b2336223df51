#include "rules/normal.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "daemon/base/text.h"

namespace culprit::rules {

std::shared_ptr<const stream::Event> Normals::marked(const stream::Event& sample) {
  auto copy = std::make_shared<stream::Event>(sample);
  copy->attributes.erase_if([](const auto& attribute) { return attribute.first == kNormalAttribute; });
  std::string key = sample.name;
  key += '\0';
  key += sample.entity;
  auto known = series_.find(key);
  if (known == series_.end()) {
    if (series_.size() >= kNormalSeriesMax) {
      ++left_out_;
      return copy;
    }
    known = series_.try_emplace(std::move(key)).first;
  }
  const std::int64_t slot = sample.time_ns / kNormalSlotNs;
  learn(known->second, slot, sample.value);
  if (const auto normal = normal_of(known->second, slot)) copy->attributes.emplace_back(kNormalAttribute, fmt::format("{:.6g}", *normal));
  return copy;
}

void Normals::learn(Series& series, std::int64_t slot, double value) {
  auto& slots = series.slots;
  auto at = slots.end();
  while (at != slots.begin() && (at - 1)->number >= slot) --at;  // nearly always the last
  if (at == slots.end() || at->number != slot) at = slots.insert(at, {slot, 0, 0});
  at->sum += value;
  ++at->count;
  while (slots.back().number - slots.front().number > kNormalNs / kNormalSlotNs) slots.pop_front();
}

std::optional<double> Normals::normal_of(Series& series, std::int64_t slot) {
  if (series.known_for == slot) return series.normal;
  series.known_for = slot;
  std::vector<double> means;
  for (const Slot& each : series.slots) {
    if (each.number < slot - kNormalGapNs / kNormalSlotNs) means.push_back(each.sum / each.count);
  }
  series.normal.reset();
  if (means.size() < kNormalSlotsMin) return std::nullopt;
  const auto middle = means.begin() + static_cast<std::ptrdiff_t>(means.size() / 2);
  std::ranges::nth_element(means, middle);
  series.normal = *middle;
  return series.normal;
}

void Normals::expire(std::int64_t before_ns) {
  std::erase_if(series_, [before_ns](const auto& series) { return (series.second.slots.back().number + 1) * kNormalSlotNs <= before_ns; });
}

std::optional<double> normal_of(const stream::Event& sample) {
  const std::string_view text = sample.attribute(kNormalAttribute);
  double normal = 0;
  if (text.empty() || std::from_chars(text.data(), text.data() + text.size(), normal).ec != std::errc{}) return std::nullopt;
  return normal;
}

bool uses_normals(const Rule& rule) {
  return std::ranges::any_of(rule.match, [](const MatchItem& item) { return item.times_normal.has_value(); });
}

void mark_normals(const Rule& rule, std::span<std::shared_ptr<const stream::Event>> events) {
  if (!uses_normals(rule)) return;
  Normals normals;
  for (auto& event : events) {
    const auto looks_at = [&event](const MatchItem& item) { return item.times_normal && item.kind == event->kind && (item.name.empty() || glob_match(item.name, event->name)); };
    if (std::ranges::any_of(rule.match, looks_at)) event = normals.marked(*event);
  }
}

}  // namespace culprit::rules
