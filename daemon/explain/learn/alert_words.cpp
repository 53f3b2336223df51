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
  Words family;  // of its metrics' alerts: "memory/up" once, however many series say it
};

std::string_view kind_of(std::string_view word) { return word.substr(word.rfind('/') + 1); }

std::string family_word(std::string_view name, std::string_view kind) {
  const Family family = family_of(name);
  return fmt::format("{}/{}", family == Family::Other ? without_digits(name) : std::string(name_of(family)), kind);
}

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
        if (self == nullptr) break;
        self->metric.insert(fmt::format("{}/{}", alert.name, alert.kind));
        self->family.insert(family_word(alert.name, alert.kind));
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
  each("F", said.family);
}

// What a call's alert says by who else raised it about the same callee: one caller of many points to the caller, all of
// them point to the callee; and who is complained about but complains of nobody is where the trouble ends.
struct Calls {
  double sole = 0;                      // surprise of complaints that only it has, of those whom others call too
  std::map<std::string, double> share;  // kind -> share of its callers that complain about it
  bool leaf = false;
};

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

namespace {

std::vector<Calls> calls_of(const RecordedCase& c, const std::vector<Said>& said, const Habits& habits) {
  std::vector<Calls> out(said.size());
  std::map<ServiceId, std::set<ServiceId>> callers;
  for (const auto& [caller, callee] : c.calls) callers[callee].insert(caller);
  std::map<std::pair<ServiceId, std::string_view>, std::set<ServiceId>> complain;  // (callee, kind) -> callers
  std::set<ServiceId> complaining, blamed;
  for (const RecordedAlert& alert : c.alerts) {
    if (alert.source != RecordedAlert::Source::Trace || alert.service == alert.callee || alert.callee == kNoService) continue;
    callers[alert.callee].insert(alert.service);
    complain[{alert.callee, alert.kind}].insert(alert.service);
    complaining.insert(alert.service);
    blamed.insert(alert.callee);
  }
  for (const auto& [about, who] : complain) {
    const auto& [callee, kind] = about;
    const std::set<ServiceId>& all = callers.at(callee);
    if (const std::int32_t at = c.candidate(callee); at >= 0) {
      out[static_cast<std::size_t>(at)].share[std::string(kind)] = static_cast<double>(who.size()) / static_cast<double>(all.size());
    }
    if (who.size() != 1 || all.size() < 2) continue;
    const std::int32_t at = c.candidate(*who.begin());
    if (at < 0) continue;
    // The most surprising of what it says about that callee.
    double most = 0;
    const std::string about_callee = fmt::format("{}>", c.name(callee));
    for (const std::string& word : said[static_cast<std::size_t>(at)].caller) {
      if (word.starts_with(about_callee) && kind_of(word) == kind) most = std::max(most, surprise(habits, c.name(*who.begin()), "T>", word));
    }
    out[static_cast<std::size_t>(at)].sole += most;
  }
  for (const ServiceId callee : blamed) {
    const std::int32_t at = c.candidate(callee);
    if (at >= 0) out[static_cast<std::size_t>(at)].leaf = !complaining.contains(callee);
  }
  return out;
}

}  // namespace

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
  std::map<std::string_view, double> families;  // likewise
  for (const Said& one : said) {
    for (const std::string& word : one.family) families[word] += 1;
  }
  const std::vector<Calls> calls = calls_of(c, said, habits);
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
        if (source != "F") {  // which says the same as M, once for each family
          Sum& total = sums[i]["all"];
          total.all += value;
          total.rare += value * value;
        }
        bool twin = false, has_twin = false;
        for (const std::size_t other : groups[group]) {
          if (other == i) continue;
          has_twin = true;
          for_each_source(said[other], [&](std::string_view other_source, const Words& other_words) {
            if (other_source == source && other_words.contains(word)) twin = true;
          });
        }
        if (source == "F") {
          features[fmt::format("alert rare {}", word)] = value / 5;
          double& only = features["alert only F"];
          only += value * (1 - (families[word] - 1) / std::max<double>(1, static_cast<double>(said.size()) - 1));
        } else if (source == "L") {
          features[fmt::format("alert {} L:{}", name, word)] = 1;
        } else {
          const std::string plain = without_digits(word);
          features[fmt::format("alert {}:{}", source, plain)] = 1;
          features[fmt::format("alert {} {}:{}", group, source, plain)] = 1;
          if (has_twin && !twin) features[fmt::format("alert alone {}:{}", source, plain)] = 1;
          if (source == "M") features[fmt::format("alert {}/{}", name_of(family_of(word)), kind_of(word))] = 1;
          else features[fmt::format("alert {}*/{}", source, kind_of(word))] = 1;
          if (source != "M") {
            double& rare = features[fmt::format("alert rare {}/{}", source, kind_of(word))];
            rare = std::max(rare, value / 5);
          }
        }
        if (source == "M") {
          double& only = features["alert spread"];
          only += std::log(static_cast<double>(said.size()) / raised_by[word]) / 4;
        }
      }
    });
    if (features.contains("alert only F")) features["alert only F"] /= 5;
    if (calls[i].sole > 0) features["alert sole caller"] = calls[i].sole / 5;
    for (const auto& [kind, share] : calls[i].share) features[fmt::format("alert callers/{}", kind)] = share;
    if (calls[i].leaf) features["alert leaf"] = 1;
    features[fmt::format("instance {}", name)] = 1;
    features[fmt::format("service {}", group)] = 1;
    for (auto& [key, value] : features) out[i].push_back({key, value});
  }
  // The sums, as shares of the largest of the case: how many alerts an incident raises is no clue to whose it is.
  for (const std::string_view source : {"M", "T>", "T<", "T", "L", "F", "all"}) {
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
