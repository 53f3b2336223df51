// embed_bench: the built-in model and the vector index, one JSON object a line.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "daemon/recall/groups.h"
#include "daemon/recall/recall.h"
#include "embed/kernels.h"

namespace {

using namespace culprit;
using Clock = std::chrono::steady_clock;

void print(std::string_view id, std::string_view workload, double ours, std::string_view unit, double asked, bool less) {
  fmt::print(R"({{"id":"{}","workload":"{}","ours":{:.4f},"opponent":null,"ratio":null,"unit":"{}","asked":{},"ok":{}}})" "\n", id, workload, ours, unit, asked, less ? ours <= asked : ours >= asked);
}

template <typename Work>
double microseconds(Work work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

// The three descriptions that are most like each paraphrase: how many of the float model's does the INT8 model keep?
double kept_by_int8(const graph::Knowledge& known) {
  const auto groups = recall::text_groups(known);
  const embed::Trained trained = *embed::train(groups, {});
  const embed::Model model = *embed::Model::decode(embed::encode_model(trained.rows, trained.input_hash), "trained here");
  std::vector<embed::Vector> floats, bytes;
  for (const auto& group : groups) {
    floats.push_back(embed::float_vector(trained, group.texts[0]));
    bytes.push_back(model.vector(group.texts[0]));
  }
  const auto top3 = [](const embed::Vector& query, const std::vector<embed::Vector>& vectors) {
    std::vector<std::pair<float, std::size_t>> near;
    for (std::size_t i = 0; i < vectors.size(); ++i) near.emplace_back(-embed::dot(query, vectors[i]), i);
    std::ranges::partial_sort(near, near.begin() + 3);
    return std::array{near[0].second, near[1].second, near[2].second};
  };
  std::size_t hits_float = 0, hits_int8 = 0;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    for (std::size_t t = 1; t < groups[g].texts.size(); ++t) {
      const auto of_float = top3(embed::float_vector(trained, groups[g].texts[t]), floats);
      if (std::ranges::find(of_float, g) == of_float.end()) continue;
      ++hits_float;
      const auto of_int8 = top3(model.vector(groups[g].texts[t]), bytes);
      if (std::ranges::find(of_int8, g) != of_int8.end()) ++hits_int8;
    }
  }
  return static_cast<double>(hits_int8) / static_cast<double>(hits_float);
}

int run() {
  const embed::Model model = *recall::built_in_model();
  print("model-bytes", fmt::format("built-in, kernels '{}'", embed::kernels().name), static_cast<double>(model.bytes()) / 1e6, "MB", 8.7, true);
  const auto known = graph::Knowledge::load({}).value();
  print("int8", "top-3 hits of the float model that INT8 keeps", kept_by_int8(*known), "share", 0.992, false);

  const std::string lines[] = {
      R"(127.0.0.1 - - [23/Nov/2026:10:00:00 +0000] "GET /items/7?page=2 HTTP/1.1" 200 512 "-" "wrk/4.1" 0.012)",
      "2026-11-23 10:00:00.123 UTC [4211] shop@shop LOG:  duration: 12.345 ms  statement: SELECT id, name, price FROM items WHERE id = $1",
      "2026-11-23 10:00:00.123 UTC [4212] shop@shop FATAL:  sorry, too many clients already",
      "INFO shop.api request finished method=GET path=/items/12 status=200 duration_ms=4.2 trace_id=4bf92f3577b34da6a3ce929d0e0e4736",
      "nginx: upstream timed out (110: Connection timed out) while reading response header from upstream"};
  std::vector<double> took;
  float sum = 0;
  for (int i = 0; i < 50'000; ++i) {
    const std::string& line = lines[static_cast<std::size_t>(i) % std::size(lines)];
    took.push_back(microseconds([&] { sum += model.vector(line)[0]; }));
  }
  std::ranges::sort(took);
  print("embed-median", sum == 12345 ? "" : "log lines", took[took.size() / 2], "us/line", 5, true);
  print("embed-p99", "log lines", took[took.size() * 99 / 100], "us/line", 50, true);

  // Vectors as texts have them: around as many centres as there are failure modes.
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  constexpr std::size_t kVectors = 13'000;
  std::vector<embed::Vector> centres(231);
  for (auto& centre : centres) {
    for (float& value : centre) value = normal(random);
    embed::normalise(centre);
  }
  std::vector<std::int64_t> ids;
  std::vector<float> values;
  for (std::size_t i = 0; i < kVectors; ++i) {
    embed::Vector vector = centres[i % centres.size()];
    for (float& value : vector) value += normal(random) * 0.04F;
    embed::normalise(vector);
    ids.push_back(static_cast<std::int64_t>(i));
    values.insert(values.end(), vector.begin(), vector.end());
  }
  embed::Index index = std::move(*embed::Index::create());
  const double build = microseconds([&] { (void)index.add(ids, values); });
  std::vector<double> query;
  std::size_t agree = 0, asked = 0;
  for (std::size_t i = 0; i < 2'000; ++i) {
    const auto vector = std::span(values).subspan(i * 6 * embed::kDimensions, embed::kDimensions);
    std::vector<embed::Neighbour> near;
    query.push_back(microseconds([&] { near = *index.search(vector, 10); }));
    if (i % 20 != 0) continue;
    const auto exact = *index.search_among(vector, ids, 10);
    for (const auto& one : exact) {
      ++asked;
      agree += std::ranges::any_of(near, [&](const auto& other) { return other.id == one.id; }) ? 1U : 0U;
    }
  }
  std::ranges::sort(query);
  print("index-build", "13,000 vectors", build / 1e6, "s", 10, true);
  print("index-query", "the ten nearest of 13,000, median", query[query.size() / 2] / 1e3, "ms", 0.2, true);
  print("index-recall", "share of the exact ten nearest", static_cast<double>(agree) / static_cast<double>(asked), "share", 0.95, false);
  return 0;
}

}  // namespace

int main() { return run(); }
