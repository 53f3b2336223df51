#include "daemon/explain/learn/alert_reasons.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "daemon/explain/learn/alert_words.h"

namespace culprit::explain {

namespace {

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

// "cpu_usage/up" -> "cpu_usage up"
std::string measure(std::string_view word) {
  std::string out(word);
  if (const auto slash = out.rfind('/'); slash != std::string::npos) out[slash] = ' ';
  return out;
}

// "/orders/PD" -> "/orders (PD)"
std::string call(std::string_view word) {
  const auto slash = word.rfind('/');
  return slash == std::string_view::npos ? std::string(word) : fmt::format("{} ({})", word.substr(0, slash), word.substr(slash + 1));
}

// As said of whoever raised it: "M:cpu_usage/up", "T>:geo-0>/Nearby/PD", "T<*/PD", "T/PD", "L:34", "L", "cpu/up".
std::string said(std::string_view word) {
  if (take(word, "M:")) return measure(word);
  if (take(word, "L:")) return fmt::format("log template {}", word);
  if (word == "L") return "log alerts";
  if (take(word, "sides:")) {
    const auto both = word.find(" & ");
    if (both != std::string_view::npos) return fmt::format("{} and {} at once", measure(word.substr(0, both)), measure(word.substr(both + 3)));
  }
  for (const auto& [source, what] : {std::pair("T>", "calls that it makes"), std::pair("T<", "calls to it"), std::pair("T", "work inside it")}) {
    if (!take(word, source)) continue;
    if (take(word, ":")) return fmt::format("{}: {}", what, call(word));
    if (take(word, "*/") || take(word, "/")) return fmt::format("{}: {}", what, word);
  }
  return measure(word);
}

constexpr std::array kSums = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"M", "metric alerts"}, {"T>", "alerts on calls that it makes"}, {"T<", "alerts on calls to it"}, {"T", "alerts on work inside it"},
    {"L", "log alerts"}, {"F", "kinds of metric alerts"}, {"all", "alerts"},
});

// Begin what follows "alert " or "alert rare ", and end with its kind: "gap share/PD".
constexpr std::array kCalls = std::to_array<std::pair<std::string_view, std::string_view>>({
    {"gap share/", "where calls meet that only the client's side complains of"},
    {"gap centre/", "where calls meet that only the client's side complains of"},
    {"gap caller/", "a call that it makes, of which only its own side complains"},
    {"gap/", "a call to it, of which only the client's side complains"},
    {"client/", "a call to it, of which the client's side complains"},
    {"both ends/", "a call to it, of which both sides complain"},
    {"server only/", "a call to it, of which only the server's side complains"},
    {"callers/", "how many of its callers complain of it"},
});

// What follows "alert ".
std::string raised_by_it(std::string_view rest) {
  if (rest == "leaf") return "complained of, and complains of nobody";
  if (rest == "sole caller") return "of many callers it alone complains";
  const bool rare = take(rest, "rare ");
  for (const auto& [name, what] : kCalls) {
    if (take(rest, name)) return fmt::format("{}: {}", what, rest);
  }
  if (rare) return fmt::format("{}, unusual for it", said(rest));
  if (take(rest, "alone ")) return fmt::format("{}, at none of its twins", said(rest));
  if (take(rest, "callee ")) return fmt::format("whom it calls: {}", said(rest));
  if (take(rest, "caller ")) return fmt::format("who calls it: {}", said(rest));
  // "carts M:cpu_usage/up": of a service or an instance what is said of any too.
  const auto space = rest.find(' '), colon = rest.find(':');
  if (space < colon && colon != std::string_view::npos) {
    const std::string_view source = rest.substr(space + 1, colon - space - 1);
    for (const std::string_view known : {"M", "T>", "T<", "T", "L", "sides"}) {
      if (source == known) return said(rest.substr(space + 1));
    }
  }
  return said(rest);
}

}  // namespace

std::string reason_of_alerts(std::string_view feature, bool raised) {
  std::string_view rest = feature;
  if (rest.starts_with("instance ") || rest.starts_with("service ")) return "which service it is";
  if (take(rest, "alerts ")) {
    for (const auto& [source, what] : kSums) {
      if (rest.substr(0, rest.find(' ')) == source) return fmt::format("how unusual its {} are", what);
    }
    return std::string(feature);
  }
  std::string out;
  if (take(rest, kIncidentWide)) {
    const auto space = rest.find(' ');
    if (space == std::string_view::npos) return std::string(feature);
    out = fmt::format("{} raised {}", rest.substr(0, space), said(rest.substr(space + 1)));
  } else if (take(rest, "alert ")) {
    if (rest == "spread" || rest == "only F") return "how few others raise what it raises";
    out = raised_by_it(rest);
  } else {
    return std::string(feature);
  }
  return raised ? out : fmt::format("not: {}", out);
}

std::string rarest_alerts(const AlertWords& raised, std::string_view service, const Habits& habits) {
  if (habits.cases == 0) return "";
  std::vector<std::pair<std::uint64_t, std::string>> alerts;  // in how many incidents, what
  for_each_source(raised, [&](std::string_view source, const Words& words) {
    if (source == "F") return;  // which M says more exactly
    for (const std::string& word : words) {
      const auto counted = habits.counts.find(fmt::format("{}|{}:{}", service, source, word));
      alerts.emplace_back(counted == habits.counts.end() ? 0 : counted->second, said(fmt::format("{}:{}", source, word)));
    }
  });
  std::ranges::sort(alerts);
  std::string out;
  for (std::size_t i = 0; i < std::min<std::size_t>(2, alerts.size()); ++i) {
    out += i == 0 ? fmt::format("{} (in {} of {} incidents)", alerts[i].second, alerts[i].first, habits.cases) : fmt::format(", {} (in {})", alerts[i].second, alerts[i].first);
  }
  return out;
}

}  // namespace culprit::explain
