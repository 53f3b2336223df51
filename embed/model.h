// Embedding: text -> vector, by a small built-in model that needs no network and no model file.
//
// Words, word pairs and character n-grams are hashed; each feature, weighted by how telling it is, is
// added with hashed signs to a few of kDimensions sums (a sparse signed random projection), and the sum is
// normalised. Texts that share words or word parts come close: "fsync is slow" and "slow fsyncs". The same text gives
// the same vector on every machine. Cost: below 50 us a log line (tests/bench/retrieval).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace culprit::embed {

inline constexpr std::size_t kDimensions = 256;
inline constexpr std::size_t kTextBytesMax = 8'192;  // the rest is not looked at

using Vector = std::array<float, kDimensions>;  // L2-normalised; all zero if the text has no words

// Seam for an external provider (an OpenAI-compatible endpoint) and for tests.
class Embedder {
 public:
  virtual ~Embedder() = default;
  virtual Result<Vector> embed(std::string_view text) const = 0;
  virtual std::string_view name() const = 0;  // with its version: vectors of different names do not compare
};

// The built-in model. Threads: const methods from any thread.
class Model final : public Embedder {
 public:
  Model() = default;
  // Learns from the texts to be found which features are common and therefore say little. Call before
  // embedding either side; a model that learned nothing weighs features by length alone.
  void learn(std::span<const std::string_view> texts);
  Result<Vector> embed(std::string_view text) const override { return vector(text); }
  Vector vector(std::string_view text) const;
  std::string_view name() const override { return "culprit-hash-256-1"; }

 private:
  std::vector<std::uint16_t> document_counts_;  // by feature hash; empty = not learned
  std::uint32_t documents_ = 0;
};

float dot(const Vector& a, const Vector& b);

}  // namespace culprit::embed
