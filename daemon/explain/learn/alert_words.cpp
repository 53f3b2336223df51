#include "daemon/explain/learn/alert_words.h"

#include <fmt/format.h>

#include <cmath>
#include <map>
#include <set>

#include "daemon/explain/evidence/metric_family.h"

namespace culprit::explain {

namespace {

using Words = std::set<std::string>;

// The digits of a name say which of many equal things it is ("core_10"), not what it is.
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

struct Said {
  Words metric, caller, callee, inside, log;
};

std::vector<Said> words_of(const RecordedCase& c) {
  std::vector<Said> out(c.candidates.size());
  const auto place = [&](ServiceId who) -> Said* {
    const std::int32_t at = c.candidate(who);
    return at < 0 ? nullptr : &out[static_cast<std::size_t>(at)];
  };
  for (const RecordedAlert& alert : c.alerts) {
    Said* self = place(alert.service);
    switch (alert.source) {
      case RecordedAlert::Source::Metric:
        if (self != nullptr) self->metric.insert(fmt::format("{}/{}", alert.name, alert.kind));
        break;
      case RecordedAlert::Source::Log:
        if (self != nullptr) self->log.insert(alert.name);
        break;
      case RecordedAlert::Source::Trace: {
        if (alert.service == alert.callee) {
          if (self != nullptr) self->inside.insert(fmt::format("{}/{}", alert.name, alert.kind));
          break;
        }
        if (self != nullptr) self->caller.insert(fmt::format("{}>{}/{}", c.name(alert.callee), alert.name, alert.kind));
        if (Said* callee = place(alert.callee); callee != nullptr) callee->callee.insert(fmt::format("{}/{}", alert.name, alert.kind));
        break;
      }
    }
  }
  return out;
}

double surprise(const Habits& habits, std::string_view service, std::string_view source, std::string_view word) {
  if (habits.cases == 0) return 1;
  const auto seen = habits.counts.find(fmt::format("{}|{}:{}", service, source, word));
  const double count = seen == habits.counts.end() ? 0 : static_cast<double>(seen->second);
  return -std::log((std::min(count, static_cast<double>(habits.cases)) + 0.5) / (static_cast<double>(habits.cases) + 1));
}

template <typename Each>
void for_each_source(const Said& said, const Each& each) {
  each("M", said.metric);
  each("T>", said.caller);
  each("T<", said.callee);
  each("T", said.inside);
  each("L", said.log);
}

std::string_view kind_of(std::string_view word) { return word.substr(word.rfind('/') + 1); }

}  // namespace

std::string_view group_of(std::string_view instance) {
  std::string_view group = instance;
  while (!group.empty() && group.back() >= '0' && group.back() <= '9') group.remove_suffix(1);
  while (!group.empty() && group.back() == '-') group.remove_suffix(1);
  return group.empty() ? instance : group;
}

void learn_habits(const RecordedCase& c, Habits& habits) {
  ++habits.cases;
  const std::vector<Said> said = words_of(c);
  for (std::size_t i = 0; i < said.size(); ++i) {
    const std::string& name = c.name(c.candidates[i]);
    for_each_source(said[i], [&](std::string_view source, const Words& words) {
      for (const std::string& word : words) ++habits.counts[fmt::format("{}|{}:{}", name, source, word)];
    });
  }
}

std::vector<Features> alert_features(const RecordedCase& c, const Habits& habits) {
  if (c.alerts.empty()) return {};
  const std::vector<Said> said = words_of(c);
  std::vector<Features> out(said.size());
  std::map<std::string_view, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < said.size(); ++i) groups[group_of(c.name(c.candidates[i]))].push_back(i);
  std::map<std::string, double, std::less<>> raised_by;  // word -> candidates
  for (const Said& one : said) {
    for (const std::string& word : one.metric) raised_by[word] += 1;
  }
  struct Sum {
    double all = 0, rare = 0;
  };
  std::vector<std::map<std::string_view, Sum>> sums(said.size());
  for (std::size_t i = 0; i < said.size(); ++i) {
    const std::string& name = c.name(c.candidates[i]);
    const std::string_view group = group_of(name);
    std::map<std::string, double> features;
    for_each_source(said[i], [&](std::string_view source, const Words& words) {
      Sum& sum = sums[i][source];
      for (const std::string& word : words) {
        const double value = surprise(habits, name, source, word);
        sum.all += value;
        sum.rare += value * value;
        bool twin = false, has_twin = false;
        for (const std::size_t other : groups[group]) {
          if (other == i) continue;
          has_twin = true;
          for_each_source(said[other], [&](std::string_view other_source, const Words& other_words) {
            if (other_source == source && other_words.contains(word)) twin = true;
          });
        }
        if (source == "L") {
          features[fmt::format("alert {} L:{}", name, word)] = 1;
        } else {
          const std::string plain = without_digits(word);
          features[fmt::format("alert {}:{}", source, plain)] = 1;
          features[fmt::format("alert {} {}:{}", group, source, plain)] = 1;
          if (has_twin && !twin) features[fmt::format("alert alone {}:{}", source, plain)] = 1;
          if (source == "M") features[fmt::format("alert {}/{}", name_of(family_of(word)), kind_of(word))] = 1;
          else features[fmt::format("alert {}*/{}", source, kind_of(word))] = 1;
        }
        if (source == "M") {
          double& only = features["alert spread"];
          only += std::log(static_cast<double>(said.size()) / raised_by[word]) / 4;
        }
      }
    });
    features[fmt::format("instance {}", name)] = 1;
    features[fmt::format("service {}", group)] = 1;
    for (auto& [key, value] : features) out[i].push_back({key, value});
  }
  // The sums, as shares of the largest of the case: how many alerts an incident raises is no clue to whose it is.
  for (const std::string_view source : {"M", "T>", "T<", "T", "L"}) {
    double most = 0, most_rare = 0;
    for (auto& by_source : sums) {
      most = std::max(most, by_source[source].all);
      most_rare = std::max(most_rare, by_source[source].rare);
    }
    if (most <= 0) continue;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const Sum& sum = sums[i][source];
      if (sum.all > 0) out[i].push_back({fmt::format("alerts {} surprise", source), sum.all / most});
      if (sum.rare > 0) out[i].push_back({fmt::format("alerts {} rarity", source), sum.rare / most_rare});
      if (sum.rare > 0) out[i].push_back({fmt::format("alerts {} amount", source), std::log1p(sum.rare) / 5});
      if (sum.rare > 0) out[i].push_back({fmt::format("alerts {} bits", source), sum.rare / 100});
    }
  }
  return out;
}

}  // namespace culprit::explain
