#include "daemon/base/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

namespace culprit {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substitute = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substitute});
    }
  }
  return row[b.size()];
}

std::vector<std::string> nearest(std::string_view word, std::span<const std::string> candidates,
                                 std::size_t limit) {
  std::vector<std::pair<std::size_t, std::string>> scored;
  const std::size_t furthest = std::max<std::size_t>(2, word.size() / 2);
  for (const std::string& candidate : candidates) {
    if (word.size() > candidate.size() + furthest) continue;  // so far apart at least, however long the word is
    std::size_t distance = edit_distance(word, candidate);
    if (!word.empty() && candidate.find(word) != std::string::npos) distance = 1;
    if (distance <= furthest) scored.emplace_back(distance, candidate);
  }
  std::ranges::sort(scored);
  std::vector<std::string> result;
  for (auto& [distance, candidate] : scored) {
    if (result.size() == limit) break;
    result.push_back(std::move(candidate));
  }
  return result;
}

bool glob_match(std::string_view pattern, std::string_view text) {
  std::size_t p = 0;
  std::size_t t = 0;
  std::size_t star = std::string_view::npos;
  std::size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::optional<std::int64_t> parse_duration_ns(std::string_view text) {
  struct Unit {
    std::string_view name;
    double ns;
  };
  static constexpr Unit kUnits[] = {{"ns", 1},   {"us", 1e3},   {"ms", 1e6},    {"s", 1e9},
                                    {"m", 60e9}, {"h", 3600e9}, {"d", 86400e9}};
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    std::size_t digits = 0;
    double value = 0;
    double scale = 0;
    while (digits < text.size() && ((text[digits] >= '0' && text[digits] <= '9') || (text[digits] == '.' && scale == 0))) {
      if (text[digits] == '.') {
        scale = 1;
      } else {
        value = value * 10 + (text[digits] - '0');
        if (scale > 0) scale *= 10;
      }
      ++digits;
    }
    if (digits == 0) return std::nullopt;
    if (scale > 0) value /= scale;
    text.remove_prefix(digits);
    std::size_t letters = 0;
    while (letters < text.size() && text[letters] >= 'a' && text[letters] <= 'z') ++letters;
    const auto* unit = std::ranges::find(kUnits, text.substr(0, letters), &Unit::name);
    if (unit == std::end(kUnits)) return std::nullopt;
    total += value * unit->ns;
    text.remove_prefix(letters);
  }
  if (total >= 9.2e18) return std::nullopt;
  return static_cast<std::int64_t>(total);
}

std::string group_digits(std::uint64_t value) {
  std::string digits = std::to_string(value);
  for (std::size_t i = digits.size(); i > 3; i -= 3) digits.insert(i - 3, ",");
  return digits;
}

std::string format_seconds(double seconds) {
  const double size = std::fabs(seconds);
  const auto significant = [](double value, std::string_view unit) {
    const int decimals = value >= 100 ? 0 : value >= 10 ? 1 : 2;
    std::string text = fmt::format("{:.{}f}", value, decimals);
    if (text.find('.') != std::string::npos) {
      while (text.back() == '0') text.pop_back();
      if (text.back() == '.') text.pop_back();
    }
    return fmt::format("{} {}", text, unit);
  };
  const std::string sign = seconds < 0 ? "-" : "";
  if (size == 0) return "0 s";
  if (size >= 0.9995) return sign + significant(size, "s");
  if (size >= 0.0009995) return sign + significant(size * 1e3, "ms");
  return sign + significant(size * 1e6, "us");
}

std::string format_bytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  while (std::fabs(bytes) >= 1024 && unit + 1 < std::size(kUnits)) {
    bytes /= 1024;
    ++unit;
  }
  return fmt::format("{:.{}f} {}", bytes, unit == 0 ? 0 : 1, kUnits[unit]);
}

std::string sanitize_utf8(std::string_view text) {
  static constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string result;
  result.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    std::size_t length = 0;
    std::uint32_t code = 0;
    if (lead < 0x80) {
      if ((lead >= 0x20 && lead != 0x7F) || lead == '\t' || lead == '\n') {
        result += text[i];
      } else {
        result += kReplacement;
      }
      ++i;
      continue;
    }
    if (lead >= 0xC2 && lead <= 0xDF) { length = 2; code = lead & 0x1FU; }
    else if (lead >= 0xE0 && lead <= 0xEF) { length = 3; code = lead & 0x0FU; }
    else if (lead >= 0xF0 && lead <= 0xF4) { length = 4; code = lead & 0x07U; }
    bool valid = length != 0 && i + length <= text.size();
    for (std::size_t k = 1; valid && k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      valid = (next & 0xC0U) == 0x80U;
      code = (code << 6U) | (next & 0x3FU);
    }
    // Overlong forms, surrogates and values past U+10FFFF are not UTF-8.
    if (valid && ((length == 3 && code < 0x800) || (length == 4 && code < 0x10000) ||
                  (code >= 0xD800 && code <= 0xDFFF) || code > 0x10FFFF)) {
      valid = false;
    }
    if (valid) {
      result.append(text.substr(i, length));
      i += length;
    } else {
      result += kReplacement;
      ++i;
    }
  }
  return result;
}

}  // namespace culprit
