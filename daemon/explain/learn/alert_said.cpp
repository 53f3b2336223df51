#include "daemon/explain/learn/alert_said.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "daemon/explain/evidence/metric_family.h"

namespace culprit::explain {

std::string without_digits(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c >= '0' && c <= '9') {
      if (!out.ends_with('#')) out += '#';
    } else {
      out += c;
    }
  }
  return out;
}

namespace {

std::string family_word(std::string_view name, std::string_view kind) {
  const Family family = family_of(name);
  return fmt::format("{}/{}", family == Family::Other ? without_digits(name) : std::string(name_of(family)), kind);
}

std::string_view log_word(std::string_view name, std::string_view service) {
  if (name.size() <= service.size() + 1 || !name.starts_with(service)) return name;
  const char between = name[service.size()];
  return between == '-' || between == '_' || between == '.' || between == ':' || between == '/' ? name.substr(service.size() + 1) : name;
}

// "src_p50/up" -> "_p#": what is measured, without the side that reports it.
std::string_view measure_of(std::string_view word) {
  const auto first = word.find('_'), slash = word.rfind('/');
  return first == std::string_view::npos || first > slash ? std::string_view() : word.substr(first, slash - first);
}

constexpr std::size_t kSidesMax = 16;  // of one measure; what more report are not sides of calls, and pairs grow with the square

// One kind of fault slows the answers that a service gives, another those that it waits for, and a cut line both: what the sides say
// together means more than the sum of it.
Words sides_of(const Words& metric) {
  std::map<std::pair<std::string, Family>, Words> reported;  // measure -> by whom
  for (const std::string& word : metric) {
    const std::string plain = without_digits(word);
    if (const std::string_view measure = measure_of(plain); !measure.empty()) reported[{std::string(measure), family_of(plain)}].insert(plain);
  }
  Words out;
  for (const auto& [measure, words] : reported) {
    if (words.size() > kSidesMax) continue;
    for (auto one = words.begin(); one != words.end(); ++one) {
      for (auto other = std::next(one); other != words.end(); ++other) {
        if (other->substr(0, other->find('_')) != one->substr(0, one->find('_'))) out.insert(fmt::format("{} & {}", *one, *other));
      }
    }
  }
  return out;
}

}  // namespace

std::vector<AlertWords> alert_words_of(const RecordedCase& c) {
  std::vector<AlertWords> out(c.candidates.size());
  const auto place = [&](ServiceId who) -> AlertWords* {
    const std::int32_t at = c.candidate(who);
    return at < 0 ? nullptr : &out[static_cast<std::size_t>(at)];
  };
  for (const RecordedAlert& alert : c.alerts) {
    AlertWords* self = place(alert.service);
    switch (alert.source) {
      case RecordedAlert::Source::Metric:
        if (self == nullptr) break;
        self->metric.insert(fmt::format("{}/{}", alert.name, alert.kind));
        self->family.insert(family_word(alert.name, alert.kind));
        break;
      case RecordedAlert::Source::Log:
        if (self != nullptr) self->log.insert(std::string(log_word(alert.name, c.name(alert.service))));
        break;
      case RecordedAlert::Source::Trace: {
        if (alert.service == alert.callee) {
          if (self != nullptr) self->inside.insert(fmt::format("{}/{}", alert.name, alert.kind));
          break;
        }
        if (self != nullptr) self->caller.insert(fmt::format("{}>{}/{}", c.name(alert.callee), alert.name, alert.kind));
        if (AlertWords* callee = place(alert.callee); callee != nullptr) callee->callee.insert(fmt::format("{}/{}", alert.name, alert.kind));
        break;
      }
    }
  }
  for (AlertWords& one : out) one.sides = sides_of(one.metric);
  return out;
}

double surprise(const Habits& habits, std::string_view service, std::string_view source, std::string_view word) {
  if (habits.cases == 0) return 1;
  const auto seen = habits.counts.find(fmt::format("{}|{}:{}", service, source, word));
  const double count = seen == habits.counts.end() ? 0 : static_cast<double>(seen->second);
  return -std::log((std::min(count, static_cast<double>(habits.cases)) + 0.5) / (static_cast<double>(habits.cases) + 1));
}

}  // namespace culprit::explain
