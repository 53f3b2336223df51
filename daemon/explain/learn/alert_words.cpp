#include "daemon/explain/learn/alert_words.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "daemon/explain/evidence/metric_family.h"
#include "daemon/explain/learn/alert_calls.h"
#include "daemon/explain/learn/alert_said.h"

namespace culprit::explain {

std::string_view group_of(std::string_view instance) {
  std::string_view group = instance;
  while (!group.empty() && group.back() >= '0' && group.back() <= '9') group.remove_suffix(1);
  while (!group.empty() && group.back() == '-') group.remove_suffix(1);
  return group.empty() ? instance : group;
}

bool names_somebody(std::string_view feature) {
  if (feature.starts_with("instance ") || feature.starts_with("service ") || feature.starts_with(kIncidentWide)) return true;
  if (!feature.starts_with("alert ")) return false;
  const auto colon = feature.find(':');
  if (colon == std::string_view::npos) return false;
  for (const std::string_view plain : {"alert M:", "alert alone M:", "alert sides:", "alert alone sides:"}) {
    if (feature.starts_with(plain)) return false;
  }
  return true;
}

void learn_habits(const RecordedCase& c, Habits& habits) {
  ++habits.cases;
  const std::vector<AlertWords> said = alert_words_of(c);
  for (std::size_t i = 0; i < said.size(); ++i) {
    const std::string& name = c.name(c.candidates[i]);
    for_each_source(said[i], [&](std::string_view source, const Words& words) {
      for (const std::string& word : words) ++habits.counts[fmt::format("{}|{}:{}", name, source, word)];
    });
  }
}

std::vector<Features> alert_features(const RecordedCase& c, const Habits& habits) {
  if (c.alerts.empty()) return {};
  const std::vector<AlertWords> said = alert_words_of(c);
  std::vector<Features> out(said.size());
  std::map<std::string_view, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < said.size(); ++i) groups[group_of(c.name(c.candidates[i]))].push_back(i);
  std::map<std::string, double, std::less<>> raised_by;  // word -> candidates
  for (const AlertWords& one : said) {
    for (const std::string& word : one.metric) raised_by[word] += 1;
  }
  std::map<std::string_view, double> families;  // likewise
  for (const AlertWords& one : said) {
    for (const std::string& word : one.family) families[word] += 1;
  }
  const std::vector<CallAlerts> calls = call_alerts_of(c, said, habits);
  std::vector<std::map<std::string, double>> near = neighbour_features(c, said, habits);
  struct Sum {
    double all = 0, rare = 0;
  };
  std::vector<std::map<std::string_view, Sum>> sums(said.size());
  // Who raised what anywhere in the incident, the same for all candidates: what an alert of one means depends on the others'. A sum of
  // weights cannot use it, trees can.
  std::set<std::string> raised;
  for (std::size_t i = 0; i < said.size(); ++i) {
    const std::string& name = c.name(c.candidates[i]);
    const std::string_view group = group_of(name);
    std::map<std::string, double> features = std::move(near[i]);
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
          features[fmt::format("alert {} L:{}", group, word)] = 1;
          if (has_twin && !twin) features[fmt::format("alert alone L:{}", word)] = 1;
          raised.insert(fmt::format("{}{} L:{}", kIncidentWide, name, word));
        } else {
          const std::string plain = without_digits(word);
          features[fmt::format("alert {}:{}", source, plain)] = 1;
          features[fmt::format("alert {} {}:{}", group, source, plain)] = 1;
          raised.insert(fmt::format("{}{} {}:{}", kIncidentWide, group, source, plain));
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
    for (const std::string& word : said[i].sides) {
      features[fmt::format("alert sides:{}", word)] = 1;
      features[fmt::format("alert {} sides:{}", group, word)] = 1;
      const auto raises = [&](std::size_t other) { return other != i && said[other].sides.contains(word); };
      if (groups[group].size() > 1 && std::ranges::none_of(groups[group], raises)) features[fmt::format("alert alone sides:{}", word)] = 1;
    }
    if (features.contains("alert only F")) features["alert only F"] /= 5;
    if (calls[i].sole > 0) features["alert sole caller"] = calls[i].sole / 5;
    for (const auto& [kind, share] : calls[i].share) features[fmt::format("alert callers/{}", kind)] = share;
    if (calls[i].leaf) features["alert leaf"] = 1;
    features[fmt::format("instance {}", name)] = 1;
    features[fmt::format("service {}", group)] = 1;
    for (auto& [key, value] : features) out[i].push_back({key, value});
  }
  for (Features& one : out) {
    for (const std::string& name : raised) one.push_back({name, 1});
  }
  // The sums, as shares of the largest of the case: how many alerts an incident raises is no clue to whose it is.
  for (const std::string_view source : {"M", "T>", "T<", "T", "L", "F", "all"}) {
    double most = 0, most_rare = 0, second_rare = 0;
    for (auto& by_source : sums) {
      most = std::max(most, by_source[source].all);
      const double rare = by_source[source].rare;
      second_rare = std::max(second_rare, std::min(rare, most_rare));
      most_rare = std::max(most_rare, rare);
    }
    if (most <= 0) continue;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const Sum& sum = sums[i][source];
      if (sum.all > 0) out[i].push_back({fmt::format("alerts {} surprise", source), sum.all / most});
      if (sum.rare > 0) out[i].push_back({fmt::format("alerts {} rarity", source), sum.rare / most_rare});
      if (sum.rare > 0) out[i].push_back({fmt::format("alerts {} amount", source), std::log1p(sum.rare) / 5});
      if (sum.rare > 0) out[i].push_back({fmt::format("alerts {} bits", source), sum.rare / 100});
      if (sum.rare == most_rare && most_rare > second_rare) out[i].push_back({fmt::format("alerts {} ahead", source), 1 - second_rare / most_rare});
    }
  }
  return out;
}

}  // namespace culprit::explain
