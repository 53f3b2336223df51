#include "daemon/explain/learn/calibrate.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "daemon/explain/learn/model.h"

namespace culprit::explain {

namespace {

constexpr std::size_t kParts = 3, kOffset = 2;  // lead, agree, offset
using Parts = std::array<double, kParts>;

Parts parts_of(const Standing& standing) { return {standing.lead, standing.agree, 1}; }
Parts parts_of(const Calibration& one) { return {one.lead, one.agree, one.offset}; }

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

double dot(const Parts& a, const Parts& b) {
  double sum = 0;
  for (std::size_t i = 0; i < kParts; ++i) sum += a[i] * b[i];
  return sum;
}

// x of a x = b; `a` symmetric and positive definite (what the prior holds is), so that no pivot is 0.
Parts solve(std::array<Parts, kParts> a, Parts b) {
  for (std::size_t i = 0; i < kParts; ++i) {
    for (std::size_t k = i + 1; k < kParts; ++k) {
      const double factor = a[k][i] / a[i][i];
      for (std::size_t j = i; j < kParts; ++j) a[k][j] -= factor * a[i][j];
      b[k] -= factor * b[i];
    }
  }
  for (std::size_t i = kParts; i-- > 0;) {
    for (std::size_t j = i + 1; j < kParts; ++j) b[i] -= a[i][j] * b[j];
    b[i] /= a[i][i];
  }
  return b;
}

struct Row {
  const Answered* answer;
  double weight;  // the answer's own, and less where there are too many of its kind
};

// Penalised maximum likelihood by Newton's method. Platt's targets keep a handful of cases from claiming certainty.
// `prior` is what the parts are held to, as firmly as `hold` says.
Calibration platt(const std::vector<Row>& rows, const Calibration& prior, const Parts& hold) {
  double right = 0, wrong = 0;
  for (const Row& row : rows) (row.answer->right ? right : wrong) += row.answer->weight;
  const double high = (right + 1) / (right + 2), low = 1 / (wrong + 2);
  const Parts before = parts_of(prior);
  Parts now = before;
  for (int step = 0; step < 100; ++step) {
    Parts gradient{};
    std::array<Parts, kParts> hessian{};
    for (std::size_t i = 0; i < kParts; ++i) gradient[i] = hold[i] * (now[i] - before[i]), hessian[i][i] = hold[i];
    for (const Row& row : rows) {
      const Parts x = parts_of(row.answer->standing);
      const double p = logistic(dot(now, x)), off = row.weight * (p - (row.answer->right ? high : low)), w = row.weight * p * (1 - p);
      for (std::size_t i = 0; i < kParts; ++i) {
        gradient[i] += off * x[i];
        for (std::size_t j = 0; j < kParts; ++j) hessian[i][j] += w * x[i] * x[j];
      }
    }
    // No part is negative: nobody is less sure for a larger lead. One that would be stays at 0 while the others are solved.
    for (std::size_t i = 0; i < kOffset; ++i) {
      if (now[i] > 0 || gradient[i] < 0) continue;
      for (std::size_t j = 0; j < kParts; ++j) hessian[i][j] = hessian[j][i] = 0;
      hessian[i][i] = 1, gradient[i] = 0;
    }
    const Parts change = solve(hessian, gradient);
    double most = 0;
    for (std::size_t i = 0; i < kParts; ++i) {
      now[i] = std::clamp(now[i] - std::clamp(change[i], -1.0, 1.0), i < kOffset ? 0.0 : -5.0, 5.0);
      most = std::max(most, std::fabs(change[i]));
    }
    if (most < 1e-9) break;
  }
  return {now[0], now[1], now[2]};
}

std::vector<Row> rows_of(const std::vector<Answered>& answered, std::string_view evidence) {
  std::vector<Row> out;
  for (const Answered& one : answered) {
    if (one.evidence == evidence) out.push_back({&one, one.weight});
  }
  return out;
}

// What kind of evidence says by this feature that its candidate comes first; "" = none does.
std::string_view puts_first(const Feature& feature) {
  std::string_view name = feature.name;
  if (name.ends_with(" lead")) return name.substr(0, name.find('.'));
  if (name.starts_with("alerts ") && name.ends_with(" rarity") && feature.value >= 1) return name;  // who raised what: each is its own
  return {};
}

}  // namespace

Standing standing_of(const std::vector<double>& chances, const std::vector<Features>& features) {
  if (chances.empty()) return {};
  const auto first = static_cast<std::size_t>(std::ranges::max_element(chances) - chances.begin());
  const double best = std::clamp(chances[first], 1e-6, 1 - 1e-6);
  std::set<std::string_view> kinds;
  for (const Feature& feature : features[first]) {
    if (const std::string_view kind = puts_first(feature); !kind.empty()) kinds.insert(kind);
  }
  return {std::log(best / (1 - best)), static_cast<double>(kinds.size())};
}

double Calibration::chance(const Standing& standing) const { return logistic(dot(parts_of(*this), parts_of(standing))); }

const Calibration& Calibrations::of(std::string_view evidence) const {
  const auto own = by_evidence.find(evidence);
  return own == by_evidence.end() ? common : own->second;
}

// Each kind's own is held to the one for all: a lead that rests on alerts is not worth what one is that rests on traces.
Calibrations calibrate(const std::vector<Answered>& answered, const Calibrations* start) {
  Calibrations out;
  if (start != nullptr) {
    // Held in the measure of what is answered: else one sure answer that was wrong would make every answer unsure.
    const auto moved = [](const std::vector<Row>& rows, const Calibration& before) {
      constexpr double kHold = 10;
      Parts hold{};
      for (const Row& row : rows) {
        const Parts x = parts_of(row.answer->standing);
        for (std::size_t i = 0; i < kParts; ++i) hold[i] += x[i] * x[i] / static_cast<double>(rows.size());
      }
      for (double& one : hold) one = kHold * std::max(1.0, one / 4);  // a case's p (1 - p) is at most 1/4
      return platt(rows, before, hold);
    };
    std::vector<Row> all;
    for (const Answered& one : answered) all.push_back({&one, one.weight});
    out.common = moved(all, start->common);
    for (const auto& [kind, before] : start->by_evidence) out.by_evidence[kind] = moved(rows_of(answered, kind), before);
    return out;
  }
  // The common one is for the kinds, not for the kind of which there are most.
  constexpr double kKindMax = 100;
  std::map<std::string_view, double> count;
  for (const Answered& one : answered) count[one.evidence] += one.weight;
  std::vector<Row> all;
  for (const Answered& one : answered) all.push_back({&one, one.weight * std::min(1.0, kKindMax / count[one.evidence])});
  out.common = platt(all, {}, {1, 3, 0.1});
  for (const auto& [kind, cases] : count) {
    if (!kind.empty()) out.by_evidence[std::string(kind)] = platt(rows_of(answered, kind), out.common, {3, 3, 1});
  }
  return out;
}

}  // namespace culprit::explain
