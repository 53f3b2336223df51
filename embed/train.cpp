#include "embed/train.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace culprit::embed {
namespace {

constexpr std::uint64_t kSeed = 0x2545F4914F6CDD1DULL;
constexpr std::size_t kSums = 8;  // dimensions that a row begins in

class Random {
 public:
  std::size_t below(std::size_t limit) {
    state_ += 0x9E3779B97F4A7C15ULL;
    return static_cast<std::size_t>(mix(state_) % limit);
  }

 private:
  std::uint64_t state_ = kSeed;
};

// exp and log whose bits are the same everywhere, which the C library does not promise: e^x = (e^(x/1024))^1024.
double steady_exp(double x) {
  if (x < -40) return 0;
  double term = 1;
  double sum = 1;
  const double y = x / 1024;
  for (int n = 1; n < 8; ++n) {
    term *= y / n;
    sum += term;
  }
  for (int i = 0; i < 10; ++i) sum *= sum;
  return sum;
}

double steady_log(double x) {
  int exponent = 0;
  const double m = std::frexp(x, &exponent);  // exact
  const double z = (m - 1) / (m + 1);
  double power = z;
  double sum = 0;
  for (int n = 1; n < 60; n += 2) {
    sum += power / n;
    power *= z * z;
  }
  return 2 * sum + exponent * 0.693147180559945309417;
}

struct Sample {
  std::vector<Feature> features;  // hash is the row
};

class Trainer {
 public:
  Trainer(std::span<const TextGroup> groups, const TrainOptions& options) : options_(options), mask_(static_cast<std::uint32_t>(options.rows) - 1) {
    for (const TextGroup& group : groups) {
      std::vector<Sample> samples;
      for (const std::string& text : group.texts) {
        Sample sample;
        extract_features(text, sample.features);
        for (Feature& feature : sample.features) feature.hash &= mask_;
        samples.push_back(std::move(sample));
      }
      groups_.push_back(std::move(samples));
    }
  }

  Trained run() {
    begin();
    trained_.loss_first = trained_.loss_last = 0;
    std::vector<std::pair<std::size_t, std::size_t>> order;  // group, text
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      for (std::size_t t = 1; t < groups_[g].size(); ++t) order.emplace_back(g, t);
    }
    for (std::size_t epoch = 0; epoch < options_.epochs; ++epoch) {
      for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random_.below(i)]);
      // The rate falls to nothing, so that the last steps do not undo each other.
      rate_ = options_.rate * (1.0F - static_cast<float>(epoch) / static_cast<float>(options_.epochs));
      double loss = 0;
      std::size_t batches = 0;
      for (std::size_t at = 0; at < order.size(); at += options_.batch) {
        loss += step(std::span(order).subspan(at, std::min(options_.batch, order.size() - at)));
        ++batches;
      }
      trained_.loss_last = loss / static_cast<double>(batches);
      if (epoch == 0) trained_.loss_first = trained_.loss_last;
    }
    return std::move(trained_);
  }

 private:
  // Sparse signs, times the rarity of the row's features among the texts.
  void begin() {
    std::vector<std::uint32_t> seen(options_.rows, 0);
    std::uint32_t texts = 0;
    for (const auto& group : groups_) {
      for (const Sample& sample : group) {
        ++texts;
        std::uint32_t last = UINT32_MAX;
        std::vector<std::uint32_t> rows;
        rows.reserve(sample.features.size());
        for (const Feature& feature : sample.features) rows.push_back(feature.hash);
        std::ranges::sort(rows);
        for (const std::uint32_t row : rows) {
          if (row != last) ++seen[row];
          last = row;
        }
      }
    }
    trained_.rows.assign(options_.rows * kDimensions, 0);
    const double rarest = steady_log(1.0 + texts);
    for (std::size_t row = 0; row < options_.rows; ++row) {
      const float weight = static_cast<float>((rarest - steady_log(1.0 + seen[row])) / rarest);
      std::uint64_t bits = mix(row * 0xD1342543DE82EF95ULL + kSeed);
      for (std::size_t i = 0; i < kSums; ++i) {
        bits = mix(bits + i);
        trained_.rows[row * kDimensions + bits % kDimensions] += (bits & 0x100000U) != 0 ? weight : -weight;
      }
    }
  }

  // The raw sum of a text; answers its length.
  float forward(const Sample& sample, Vector& out) const {
    out.fill(0);
    for (const Feature& feature : sample.features) {
      const float* row = &trained_.rows[feature.hash * kDimensions];
      for (std::size_t i = 0; i < kDimensions; ++i) out[i] += row[i] * feature.weight;
    }
    const float length = std::sqrt(dot(out, out));
    if (length > 0) {
      for (float& value : out) value /= length;
    }
    return length;
  }

  // Moves the rows of a text along the gradient with respect to its normalised vector.
  void backward(const Sample& sample, const Vector& vector, float length, const Vector& gradient) {
    if (!(length > 0)) return;
    const float along = dot(vector, gradient);
    Vector move;
    for (std::size_t i = 0; i < kDimensions; ++i) move[i] = rate_ * (gradient[i] - vector[i] * along);
    for (const Feature& feature : sample.features) {
      float* row = &trained_.rows[feature.hash * kDimensions];
      for (std::size_t i = 0; i < kDimensions; ++i) row[i] -= move[i] * feature.weight;
    }
  }

  double step(std::span<const std::pair<std::size_t, std::size_t>> batch) {
    const std::size_t n = batch.size();
    std::vector<const Sample*> anchors(n);
    std::vector<const Sample*> partners(n);
    std::vector<Vector> a(n), b(n), ga(n, Vector{}), gb(n, Vector{});
    std::vector<float> la(n), lb(n);
    for (std::size_t i = 0; i < n; ++i) {
      const auto& group = groups_[batch[i].first];
      anchors[i] = &group[batch[i].second];
      // Half of the time the description, half of the time another way to say it.
      std::size_t other = group.size() > 2 && random_.below(2) == 1 ? 1 + random_.below(group.size() - 1) : 0;
      if (other == batch[i].second) other = 0;
      partners[i] = &group[other];
      la[i] = forward(*anchors[i], a[i]);
      lb[i] = forward(*partners[i], b[i]);
    }
    double loss = 0;
    std::vector<double> share(n);
    for (std::size_t i = 0; i < n; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < n; ++j) {
        // Another text of the same group is no wrong answer.
        share[j] = j != i && batch[j].first == batch[i].first ? 0 : steady_exp((static_cast<double>(dot(a[i], b[j])) - 1) / options_.temperature);
        sum += share[j];
      }
      if (!(sum > 0)) continue;
      loss -= steady_log(std::max(share[i] / sum, 1e-12));
      for (std::size_t j = 0; j < n; ++j) {
        const float pull = static_cast<float>((share[j] / sum - (i == j ? 1.0 : 0.0)) / options_.temperature) / static_cast<float>(n);
        if (pull == 0) continue;
        for (std::size_t d = 0; d < kDimensions; ++d) {
          ga[i][d] += pull * b[j][d];
          gb[j][d] += pull * a[i][d];
        }
      }
    }
    for (std::size_t i = 0; i < n; ++i) {
      backward(*anchors[i], a[i], la[i], ga[i]);
      backward(*partners[i], b[i], lb[i], gb[i]);
    }
    return loss / static_cast<double>(n);
  }

  TrainOptions options_;
  std::uint32_t mask_;
  float rate_ = 0;
  std::vector<std::vector<Sample>> groups_;
  Random random_;
  Trained trained_;
};

}  // namespace

Result<Trained> train(std::span<const TextGroup> groups, const TrainOptions& options) {
  if (!std::has_single_bit(options.rows) || options.rows > kModelRowsMax || options.batch < 2) return fail(Code::Invalid, "train: rows must be a power of two and a batch at least 2");
  if (std::ranges::none_of(groups, [](const TextGroup& group) { return group.texts.size() > 1; })) return fail(Code::Invalid, "train: no group has two texts");
  std::uint64_t hash = fnv1a("");
  for (const TextGroup& group : groups) {
    for (const std::string& text : group.texts) hash = fnv1a("\x1f", fnv1a(text, hash));
    hash = fnv1a("\x1e", hash);
  }
  Trained trained = Trainer(groups, options).run();
  trained.input_hash = hash;
  return trained;
}

Vector float_vector(const Trained& trained, std::string_view text) {
  std::vector<Feature> features;
  extract_features(text, features);
  Vector sums{};
  const std::size_t mask = trained.rows.size() / kDimensions - 1;
  for (const Feature& feature : features) {
    const float* row = &trained.rows[(feature.hash & mask) * kDimensions];
    for (std::size_t i = 0; i < kDimensions; ++i) sums[i] += row[i] * feature.weight;
  }
  normalise(sums);
  return sums;
}

}  // namespace culprit::embed
