#include "daemon/explain/learn/trees.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <unordered_map>

#include "daemon/explain/learn/fit.h"

namespace culprit::explain {

namespace {

constexpr std::size_t kBins = 8;
constexpr double kGainMin = 1e-4;

double value_of(const Features& features, const std::string& name) {
  const auto found = std::ranges::lower_bound(features, name, {}, &Feature::name);
  return found != features.end() && found->name == name ? found->value : 0;
}

// All candidates of all examples as rows; each feature in at most kBins steps.
struct Table {
  std::vector<std::vector<std::uint8_t>> bins;   // feature -> row
  std::vector<std::vector<double>> thresholds;   // feature -> upper end of each bin but the last
  // Most features are 0 at most candidates: the commonest bin, and the rows of all others.
  std::vector<std::uint8_t> common;
  std::vector<std::vector<std::uint32_t>> others;
  std::vector<std::size_t> begin;                // example -> its first row; one more at the end
};

Table table_of(const std::vector<const Example*>& examples, const std::vector<std::string>& names) {
  Table out;
  out.begin.push_back(0);
  for (const Example* example : examples) out.begin.push_back(out.begin.back() + example->features.size());
  std::unordered_map<std::string_view, std::size_t> place;
  for (std::size_t f = 0; f < names.size(); ++f) place.emplace(names[f], f);
  std::vector<std::vector<float>> values(names.size(), std::vector<float>(out.begin.back()));
  for (std::size_t e = 0; e < examples.size(); ++e) {
    for (std::size_t k = 0; k < examples[e]->features.size(); ++k) {
      for (const Feature& feature : examples[e]->features[k]) {
        const auto found = place.find(feature.name);
        if (found != place.end()) values[found->second][out.begin[e] + k] = static_cast<float>(feature.value);
      }
    }
  }
  out.bins.resize(names.size());
  out.thresholds.resize(names.size());
  for (std::size_t f = 0; f < names.size(); ++f) {
    std::vector<float> sorted = values[f];
    std::ranges::sort(sorted);
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    for (std::size_t b = 1; b < kBins && sorted.size() > 1; ++b) {
      const std::size_t at = b * sorted.size() / kBins;
      if (at == 0) continue;
      const double middle = (static_cast<double>(sorted[at - 1]) + static_cast<double>(sorted[at])) / 2;
      if (out.thresholds[f].empty() || middle > out.thresholds[f].back()) out.thresholds[f].push_back(middle);
    }
    for (const float value : values[f]) {
      const auto above = std::ranges::lower_bound(out.thresholds[f], static_cast<double>(value));
      out.bins[f].push_back(static_cast<std::uint8_t>(above - out.thresholds[f].begin()));
    }
    std::array<std::size_t, kBins> count{};
    for (const std::uint8_t bin : out.bins[f]) ++count[bin];
    out.common.push_back(static_cast<std::uint8_t>(std::ranges::max_element(count) - count.begin()));
    std::vector<std::uint32_t>& rare = out.others.emplace_back();
    for (std::uint32_t row = 0; row < out.bins[f].size(); ++row) {
      if (out.bins[f][row] != out.common[f]) rare.push_back(row);
    }
  }
  return out;
}

// The rows of the node that is being split, and sums of theirs by the bins of a feature: of the rows outside of its commonest bin only, where
// those are fewer than the node's; what they leave of the node's sum is the commonest bin's.
class Node {
 public:
  explicit Node(const Table& table) : table_(table), node_of_(table.begin.back()) {}
  void enter(const std::vector<std::uint32_t>& rows) {
    ++now_;
    rows_ = rows;
    for (const std::uint32_t row : rows) node_of_[row] = now_;
  }
  template <typename Sum, typename Each>
  std::array<Sum, kBins> by_bin(std::size_t f, const Sum& all, const Each& each) const {
    std::array<Sum, kBins> out{};
    const std::vector<std::uint8_t>& of = table_.bins[f];
    if (table_.others[f].size() >= rows_.size()) {
      for (const std::uint32_t row : rows_) out[of[row]] += each(row);
      return out;
    }
    for (const std::uint32_t row : table_.others[f]) {
      if (node_of_[row] == now_) out[of[row]] += each(row);
    }
    Sum& rest = out[table_.common[f]];
    Sum listed{};
    for (const Sum& one : out) listed += one;
    rest = all;
    rest -= listed;
    return out;
  }

 private:
  const Table& table_;
  std::vector<std::uint32_t> node_of_;
  std::uint32_t now_ = 0;
  std::vector<std::uint32_t> rows_;
};

struct Sums {
  double g = 0, h = 0, rows = 0;
  Sums& operator+=(const Sums& other) { return g += other.g, h += other.h, rows += other.rows, *this; }
  Sums& operator-=(const Sums& other) { return g -= other.g, h -= other.h, rows -= other.rows, *this; }
};

struct Split {
  double gain = 0;
  std::size_t feature = 0, bin = 0;
};

class Grower {
 public:
  Grower(const Table& table, const std::vector<std::string>& names, const TreeOptions& options, const std::vector<double>& g, const std::vector<double>& h)
      : table_(table), names_(names), options_(options), g_(g), h_(h), node_(table), said_(g.size()) {}

  Tree grow(std::size_t offset) {
    offset_ = offset;
    std::vector<std::uint32_t> rows(g_.size());
    std::iota(rows.begin(), rows.end(), 0U);
    add(rows, options_.depth);
    return std::move(tree_);
  }
  const std::vector<double>& said() const { return said_; }  // by row: what the tree says of it

 private:
  std::int32_t add(const std::vector<std::uint32_t>& rows, int depth) {
    Sums all;
    for (const std::uint32_t row : rows) all += {g_[row], h_[row], 1};
    const auto at = static_cast<std::int32_t>(tree_.size());
    tree_.push_back({"", 0, -1, -1, options_.rate * all.g / (all.h + options_.penalty)});
    for (const std::uint32_t row : rows) said_[row] = tree_.back().value;
    if (depth == 0 || tree_.size() + 2 > kTreeNodesMax) return at;
    node_.enter(rows);
    const Split split = best(all);
    if (split.gain < kGainMin) return at;
    std::vector<std::uint32_t> low, high;
    for (const std::uint32_t row : rows) (table_.bins[split.feature][row] <= split.bin ? low : high).push_back(row);
    const std::int32_t left = add(low, depth - 1);
    const std::int32_t right = add(high, depth - 1);
    TreeNode& node = tree_[static_cast<std::size_t>(at)];
    node.feature = names_[split.feature];
    node.threshold = table_.thresholds[split.feature][split.bin];
    node.left = left;
    node.right = right;
    return at;
  }

  Split best(const Sums& all) const {
    Split out;
    const double whole = all.g * all.g / (all.h + options_.penalty);
    for (std::size_t f = offset_ % options_.share; f < names_.size(); f += options_.share) {
      const std::array<Sums, kBins> bins = node_.by_bin(f, all, [this](std::uint32_t row) { return Sums{g_[row], h_[row], 1}; });
      Sums low;
      for (std::size_t b = 0; b < table_.thresholds[f].size(); ++b) {
        low += bins[b];
        const Sums high{all.g - low.g, all.h - low.h, all.rows - low.rows};
        if (low.rows < static_cast<double>(options_.rows_min) || high.rows < static_cast<double>(options_.rows_min)) continue;
        const double gain = low.g * low.g / (low.h + options_.penalty) + high.g * high.g / (high.h + options_.penalty) - whole;
        if (gain > out.gain + 1e-12) out = {gain, f, b};
      }
    }
    return out;
  }

  const Table& table_;
  const std::vector<std::string>& names_;
  const TreeOptions& options_;
  const std::vector<double>&g_, &h_;
  Node node_;
  std::vector<double> said_;
  Tree tree_;
  std::size_t offset_ = 0;
};

// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the same numbers everywhere, which std's distributions do not promise.
class Sequence {
 public:
  explicit Sequence(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ULL) {}
  std::size_t below(std::size_t limit) {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27U)) * 0x94d049bb133111ebULL;
    return static_cast<std::size_t>((z ^ (z >> 31U)) % limit);
  }

 private:
  std::uint64_t state_;
};

// Counts only, no sums of fractions: the order of rows decides nothing.
class RandomGrower {
 public:
  RandomGrower(const Table& table, const std::vector<std::string>& names, const ForestOptions& options, const std::vector<std::uint8_t>& right)
      : table_(table), names_(names), options_(options), right_(right), order_(names.size()), node_(table) {
    std::iota(order_.begin(), order_.end(), std::size_t{0});
    all_right_ = static_cast<double>(std::ranges::count(right, std::uint8_t{1}));
  }

  Tree grow(std::uint64_t seed) {
    Sequence random(seed);
    tree_.clear();
    std::vector<std::uint32_t> rows(right_.size());
    std::iota(rows.begin(), rows.end(), 0U);
    add(rows, options_.depth, random);
    return std::move(tree_);
  }

 private:
  struct Counts {
    std::uint32_t rows = 0, right = 0;
    Counts& operator+=(const Counts& other) { return rows += other.rows, right += other.right, *this; }
    Counts& operator-=(const Counts& other) { return rows -= other.rows, right -= other.right, *this; }
  };
  struct Cut {
    double impurity = 0;
    std::size_t feature = 0, bin = 0;
    bool found = false;
  };

  double value_of_leaf(double right, double rows) const {
    const double share = all_right_ / static_cast<double>(right_.size());
    const double chance = (right + share) / (rows + 1);
    return (std::log(chance / (1 - chance)) - std::log(share / (1 - share))) / static_cast<double>(options_.trees);
  }

  std::int32_t add(const std::vector<std::uint32_t>& rows, int depth, Sequence& random) {
    std::size_t right = 0;
    for (const std::uint32_t row : rows) right += right_[row];
    const auto at = static_cast<std::int32_t>(tree_.size());
    tree_.push_back({"", 0, -1, -1, value_of_leaf(static_cast<double>(right), static_cast<double>(rows.size()))});
    if (depth == 0 || right == 0 || right == rows.size() || rows.size() < 2 * options_.rows_min || tree_.size() + 2 > kTreeNodesMax) return at;
    node_.enter(rows);
    const Cut cut = best({static_cast<std::uint32_t>(rows.size()), static_cast<std::uint32_t>(right)}, random);
    if (!cut.found) return at;
    std::vector<std::uint32_t> low, high;
    for (const std::uint32_t row : rows) (table_.bins[cut.feature][row] <= cut.bin ? low : high).push_back(row);
    const std::int32_t to_low = add(low, depth - 1, random);
    const std::int32_t to_high = add(high, depth - 1, random);
    TreeNode& node = tree_[static_cast<std::size_t>(at)];
    node.feature = names_[cut.feature];
    node.threshold = table_.thresholds[cut.feature][cut.bin];
    node.left = to_low;
    node.right = to_high;
    return at;
  }

  // Features are drawn without putting them back; those that are the same in all rows do not count.
  Cut best(const Counts& all, Sequence& random) {
    Cut out;
    const std::size_t wanted = std::max<std::size_t>(1, names_.size() / options_.share);
    std::size_t looked = 0;
    for (std::size_t k = 0; k < order_.size() && looked < wanted; ++k) {
      std::swap(order_[k], order_[k + random.below(order_.size() - k)]);
      const std::size_t f = order_[k];
      const std::array<Counts, kBins> bins = node_.by_bin(f, all, [this](std::uint32_t row) { return Counts{1, right_[row]}; });
      std::size_t first = kBins, last = 0;
      for (std::size_t b = 0; b < kBins; ++b) {
        if (bins[b].rows == 0) continue;
        first = std::min(first, b);
        last = b;
      }
      if (first >= last) continue;
      ++looked;
      const std::size_t cut = first + random.below(last - first);
      double low = 0, low_right = 0;
      for (std::size_t b = 0; b <= cut; ++b) low += bins[b].rows, low_right += bins[b].right;
      const double high = all.rows - low, high_right = all.right - low_right;
      if (low < static_cast<double>(options_.rows_min) || high < static_cast<double>(options_.rows_min)) continue;
      const double impurity = low_right * (low - low_right) / low + high_right * (high - high_right) / high;
      if (!out.found || impurity < out.impurity) out = {impurity, f, cut, true};
    }
    return out;
  }

  const Table& table_;
  const std::vector<std::string>& names_;
  const ForestOptions& options_;
  const std::vector<std::uint8_t>& right_;
  std::vector<std::size_t> order_;
  Node node_;
  double all_right_ = 0;
  Tree tree_;
};

const TreeNode& step(const Tree& tree, const TreeNode& node, const Features& features) {
  return tree[static_cast<std::size_t>(value_of(features, node.feature) > node.threshold ? node.right : node.left)];
}

}  // namespace

std::vector<Tree> fit_trees(const std::vector<const Example*>& examples, const std::vector<std::string>& features, const TreeOptions& options) {
  std::vector<Tree> out;
  const Table table = table_of(examples, features);
  const std::size_t rows = table.begin.back();
  std::vector<double> score(rows), g(rows), h(rows);
  for (std::size_t round = 0; round < options.trees; ++round) {
    for (std::size_t e = 0; e < examples.size(); ++e) {
      const auto from = table.begin[e];
      const std::vector<double> chances = softmax({score.begin() + static_cast<std::ptrdiff_t>(from), score.begin() + static_cast<std::ptrdiff_t>(table.begin[e + 1])});
      for (std::size_t k = 0; k < chances.size(); ++k) {
        g[from + k] = examples[e]->truth < 0 ? 0 : (static_cast<std::int32_t>(k) == examples[e]->truth ? 1.0 : 0.0) - chances[k];
        h[from + k] = std::max(1e-6, chances[k] * (1 - chances[k]));
      }
    }
    Grower grower(table, features, options, g, h);
    out.push_back(grower.grow(round));
    for (std::size_t row = 0; row < rows; ++row) score[row] += grower.said()[row];
  }
  return out;
}

std::vector<Tree> fit_forest(const std::vector<const Example*>& examples, const std::vector<std::string>& features, const ForestOptions& options) {
  std::vector<Tree> out;
  const Table table = table_of(examples, features);
  std::vector<std::uint8_t> right(table.begin.back());
  for (std::size_t e = 0; e < examples.size(); ++e) {
    if (examples[e]->truth >= 0) right[table.begin[e] + static_cast<std::size_t>(examples[e]->truth)] = 1;
  }
  const auto hits = static_cast<std::size_t>(std::ranges::count(right, std::uint8_t{1}));
  if (hits == 0 || hits == right.size()) return out;
  for (std::size_t i = 0; i < options.trees; ++i) out.push_back(RandomGrower(table, features, options, right).grow(i + 1));
  return out;
}

double tree_score(const std::vector<Tree>& trees, const Features& features) {
  double sum = 0;
  for (const Tree& tree : trees) {
    if (tree.empty()) continue;
    const TreeNode* node = tree.data();
    while (!node->feature.empty()) node = &step(tree, *node, features);
    sum += node->value;
  }
  return sum;
}

std::map<std::string, double> tree_parts(const std::vector<Tree>& trees, const Features& features) {
  std::map<std::string, double> out;
  for (const Tree& tree : trees) {
    if (tree.empty()) continue;
    const TreeNode* node = tree.data();
    while (!node->feature.empty()) {
      const TreeNode& next = step(tree, *node, features);
      out[node->feature] += next.value - node->value;
      node = &next;
    }
  }
  return out;
}

}  // namespace culprit::explain
