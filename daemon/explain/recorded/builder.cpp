#include "daemon/explain/recorded/builder.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "daemon/explain/recorded/read_case.h"

namespace culprit::explain {

ServiceId CaseBuilder::service(std::string_view name) {
  const auto [found, fresh] = services_.try_emplace(std::string(name), static_cast<ServiceId>(out.names.size()));
  if (fresh) out.names.emplace_back(name);
  return found->second;
}

std::uint32_t CaseBuilder::word(std::string_view text) {
  if (text.empty()) return 0;
  const auto [found, fresh] = words_.try_emplace(std::string(text), static_cast<std::uint32_t>(out.words.size()));
  if (fresh) out.words.emplace_back(text);
  return found->second;
}

Result<void> CaseBuilder::candidates(const nlohmann::json& names) {
  if (!names.is_array() || names.size() > kServicesMax) return fail(Code::Invalid, "\"services\" is not a list of names");
  for (const auto& name : names) {
    if (!name.is_string()) return fail(Code::Invalid, "\"services\" is not a list of names");
    declared_.push_back(service(name.get_ref<const std::string&>()));
  }
  return {};
}

RecordedCase CaseBuilder::finish() {
  if (declared_.empty()) {
    for (std::size_t i = 0; i < out.names.size(); ++i) declared_.push_back(static_cast<ServiceId>(i));
  }
  std::ranges::sort(declared_, {}, [&](ServiceId id) { return out.name(id); });
  declared_.erase(std::unique(declared_.begin(), declared_.end()), declared_.end());
  out.candidates = std::move(declared_);
  out.candidate_of.assign(out.names.size(), -1);
  for (std::size_t i = 0; i < out.candidates.size(); ++i) out.candidate_of[static_cast<std::size_t>(out.candidates[i])] = static_cast<std::int32_t>(i);
  const auto by_trace = [](const RecordedSpan& a, const RecordedSpan& b) {
    return std::tie(a.trace, a.start_ns, a.id) < std::tie(b.trace, b.start_ns, b.id);
  };
  std::ranges::sort(out.spans, by_trace);
  std::ranges::sort(out.reference_spans, by_trace);
  std::ranges::stable_sort(out.logs, {}, &RecordedLog::time_ns);
  std::ranges::stable_sort(out.reference_logs, {}, &RecordedLog::time_ns);
  std::ranges::stable_sort(out.changes, {}, &RecordedChange::time_ns);
  return std::move(out);
}

std::uint64_t hash_id(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a, so that the same text has the same number on every machine
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash == 0 ? 1 : hash;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::optional<std::int64_t> parse_whole(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<std::int64_t> seconds_to_ns(double seconds) {
  if (!(std::fabs(seconds) < 4e9)) return std::nullopt;
  return static_cast<std::int64_t>(std::llround(seconds * 1e3)) * 1'000'000;  // no file says more than milliseconds
}

std::string text_of(const nlohmann::json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace culprit::explain
