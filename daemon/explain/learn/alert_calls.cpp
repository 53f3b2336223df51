#include "daemon/explain/learn/alert_calls.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace culprit::explain {

std::vector<CallAlerts> call_alerts_of(const RecordedCase& c, const std::vector<AlertWords>& said, const Habits& habits) {
  std::vector<CallAlerts> out(said.size());
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

namespace {

using Places = std::set<std::size_t>;  // candidates

struct Neighbourhood {
  std::vector<Places> callees, callers;
  std::map<std::string, Places, std::less<>> serves;  // operation -> who was called for it
};

// "callee>operation/kind", as a caller says it.
void learn_call(const std::map<std::string_view, std::size_t>& place, std::size_t caller, std::string_view word, Neighbourhood& out) {
  const auto arrow = word.find('>'), slash = word.rfind('/');
  if (arrow == std::string_view::npos || slash == std::string_view::npos || slash < arrow) return;
  const auto callee = place.find(word.substr(0, arrow));
  if (callee == place.end() || callee->second == caller) return;
  out.callees[caller].insert(callee->second);
  out.callers[callee->second].insert(caller);
  out.serves[std::string(word.substr(arrow + 1, slash - arrow - 1))].insert(callee->second);
}

Neighbourhood neighbourhood_of(const RecordedCase& c, const std::vector<AlertWords>& said, const Habits& habits) {
  Neighbourhood out{std::vector<Places>(said.size()), std::vector<Places>(said.size()), {}};
  std::map<std::string_view, std::size_t> place;
  for (std::size_t i = 0; i < said.size(); ++i) place.emplace(c.name(c.candidates[i]), i);
  for (std::size_t i = 0; i < said.size(); ++i) {
    for (const std::string& word : said[i].caller) learn_call(place, i, word, out);
    const std::string counted = c.name(c.candidates[i]) + "|T>:";
    for (auto at = habits.counts.lower_bound(counted); at != habits.counts.end() && at->first.starts_with(counted); ++at) {
      learn_call(place, i, std::string_view(at->first).substr(counted.size()), out);
    }
  }
  return out;
}

// What a neighbour says, in words that name nobody.
std::set<std::string> plain_words(const AlertWords& said) {
  std::set<std::string> out = said.family;
  for (const auto& [source, words] : {std::pair("T", &said.inside), std::pair("T>", &said.caller), std::pair("T<", &said.callee)}) {
    for (const std::string& word : *words) out.insert(fmt::format("{}/{}", source, kind_of(word)));
  }
  if (!said.log.empty()) out.insert("L");
  return out;
}

// Where calls with a gap meet. Of a service's calls, the share with a gap; and for each of those how likely the gap is this end's:
// one of as many as the other end has. A service that is cut off has a gap on all of its calls, its neighbours each only one.
void meet(const Neighbourhood& near, const std::map<std::string, std::vector<Places>>& gaps, std::vector<std::map<std::string, double>>& out) {
  for (const auto& [kind, behind] : gaps) {
    for (std::size_t i = 0; i < behind.size(); ++i) {
      if (behind[i].empty()) continue;
      Places all = near.callees[i];
      all.insert(near.callers[i].begin(), near.callers[i].end());
      out[i][fmt::format("alert gap share/{}", kind)] = static_cast<double>(behind[i].size()) / static_cast<double>(std::max<std::size_t>(1, all.size()));
      double& centre = out[i][fmt::format("alert gap centre/{}", kind)];
      for (const std::size_t other : behind[i]) centre += 1 / static_cast<double>(behind[other].size());
    }
  }
}

void raise(std::map<std::string, double>& features, const std::string& name, double value) {
  double& now = features[name];
  now = std::max(now, value);
}

}  // namespace

std::vector<std::map<std::string, double>> neighbour_features(const RecordedCase& c, const std::vector<AlertWords>& said, const Habits& habits) {
  std::vector<std::map<std::string, double>> out(said.size());
  const Neighbourhood near = neighbourhood_of(c, said, habits);
  std::map<std::string, std::vector<Places>> gaps;  // kind -> candidate -> whom it has a gap with
  for (std::size_t caller = 0; caller < said.size(); ++caller) {
    for (const std::string& word : said[caller].inside) {
      const std::string_view kind = kind_of(word);
      const auto served = near.serves.find(std::string_view(word).substr(0, word.size() - kind.size() - 1));
      if (served == near.serves.end()) continue;
      const double rare = surprise(habits, c.name(c.candidates[caller]), "T", word) / 5;
      for (const std::size_t callee : served->second) {
        if (callee == caller) continue;
        raise(out[callee], fmt::format("alert client/{}", kind), 1);
        raise(out[callee], fmt::format("alert rare client/{}", kind), rare);
        if (said[callee].callee.contains(word)) continue;
        for (const auto& [end, name] : {std::pair(callee, "gap"), std::pair(caller, "gap caller")}) {
          raise(out[end], fmt::format("alert {}/{}", name, kind), 1);
          raise(out[end], fmt::format("alert rare {}/{}", name, kind), rare);
        }
        std::vector<Places>& behind = gaps.try_emplace(std::string(kind), said.size()).first->second;
        behind[caller].insert(callee);
        behind[callee].insert(caller);
      }
    }
  }
  meet(near, gaps, out);
  for (const RecordedAlert& alert : c.alerts) {
    if (alert.source != RecordedAlert::Source::Trace || alert.service == alert.callee) continue;
    const std::int32_t caller = c.candidate(alert.service), callee = c.candidate(alert.callee);
    if (caller < 0 || callee < 0) continue;
    const bool both = said[static_cast<std::size_t>(caller)].inside.contains(fmt::format("{}/{}", alert.name, alert.kind));
    out[static_cast<std::size_t>(callee)][fmt::format("alert {}/{}", both ? "both ends" : "server only", alert.kind)] = 1;
  }
  std::vector<std::set<std::string>> plain;
  for (const AlertWords& one : said) plain.push_back(plain_words(one));
  for (std::size_t i = 0; i < said.size(); ++i) {
    for (const auto& [relation, others] : {std::pair("callee", &near.callees[i]), std::pair("caller", &near.callers[i])}) {
      for (const std::size_t other : *others) {
        for (const std::string& word : plain[other]) out[i][fmt::format("alert {} {}", relation, word)] += 1 / static_cast<double>(others->size());
      }
    }
  }
  return out;
}

}  // namespace culprit::explain
