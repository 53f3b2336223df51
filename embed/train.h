// Training: the rows of a model from texts that belong together, contrastive, deterministic (one thread, fixed seed,
// no library function whose rounding differs between machines).
//
// A row begins as a sparse signed random projection times how rare its features are in the texts (which alone is a
// usable model), then moves: of a batch of pairs from different groups, each text should be more like its own partner than like
// the others' (InfoNCE; van den Oord, Li and Vinyals, 2018).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "embed/model.h"

namespace culprit::embed {

// Texts about one thing: [0] is how it is described, the others are ways to say it.
struct TextGroup {
  std::vector<std::string> texts;
};

struct TrainOptions {
  std::size_t rows = 1U << 13U;  // a power of two, at most kModelRowsMax
  std::size_t epochs = 28;
  std::size_t batch = 64;
  float rate = 0.05F;
  float temperature = 0.12F;
};

struct Trained {
  std::vector<float> rows;  // rows × kDimensions
  std::uint64_t input_hash = 0;
  double loss_first = 0, loss_last = 0;  // mean of the first and of the last epoch
};

// Errors: Invalid if no group has two texts.
Result<Trained> train(std::span<const TextGroup> groups, const TrainOptions& options);

// The vector that unquantised rows give, to measure what INT8 costs.
Vector float_vector(const Trained& trained, std::string_view text);

}  // namespace culprit::embed
