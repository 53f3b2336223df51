// Embedding: text -> vector, by a small model of our own that needs no network and answers in microseconds.
//
// Each feature of a text (embed/features.h) is hashed to one of the model's rows; the rows, times the weights of the
// features, are added and the sum is normalised. Rows are trained (embed/train.h): how telling a feature is, and which
// others it goes with, is in them. They are stored as INT8 with one scale a row. The same model and text give the same
// vector, bit for bit, on every machine: sums run in a fixed order, without fused multiply-add.
//
// File, little-endian: magic "CULPMOD1" | version u32 | dimensions u32 | rows u32 | 0 u32 | hash of what it was trained
// from u64 | rows × f32 scales | rows × dimensions INT8 | FNV-1a u64 of all before.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "embed/features.h"

namespace culprit::embed {

inline constexpr std::size_t kDimensions = 256;
inline constexpr std::uint32_t kModelVersion = 1;
inline constexpr std::size_t kModelRowsMax = 1U << 15U;
inline constexpr std::size_t kModelBytesMax = 8'700'000;

using Vector = std::array<float, kDimensions>;  // L2-normalised; all zero if the text has no words

// Seam: the built-in model, an external provider (embed/provider.h), and fakes in tests.
class Embedder {
 public:
  virtual ~Embedder() = default;
  // One vector a text, each of dimensions() floats, L2-normalised.
  virtual Result<std::vector<std::vector<float>>> embed(std::span<const std::string> texts) const = 0;
  virtual std::size_t dimensions() const = 0;
  virtual std::string_view name() const = 0;  // with its version: vectors of different names do not compare
};

// The built-in model. Threads: const methods from any thread. Copies share the rows.
class Model final : public Embedder {
 public:
  // Errors: Corrupt, Unsupported (another version or dimensions).
  static Result<Model> decode(std::string_view bytes, std::string_view origin);
  static Result<Model> load(const std::filesystem::path& file);  // and NotFound, Io

  Vector vector(std::string_view text) const;
  Result<std::vector<std::vector<float>>> embed(std::span<const std::string> texts) const override;
  std::size_t dimensions() const override { return kDimensions; }
  std::string_view name() const override { return data_->name; }  // "culprit-ngram-1-<hash of its rows>"
  std::uint64_t input_hash() const { return data_->input_hash; }
  std::size_t bytes() const { return data_->rows.size() + data_->scales.size() * sizeof(float); }

 private:
  struct Data {
    std::string name;
    std::uint64_t input_hash = 0;
    std::vector<float> scales;
    std::vector<std::int8_t> rows;
  };
  explicit Model(std::shared_ptr<const Data> data) : data_(std::move(data)) {}
  std::shared_ptr<const Data> data_;  // read-only, shared by copies
};

// The bytes of a model file from float rows (rows × kDimensions).
std::string encode_model(std::span<const float> rows, std::uint64_t input_hash);

float dot(std::span<const float> a, std::span<const float> b);  // of equal length
void normalise(std::span<float> vector);                        // all zero stays

std::uint64_t fnv1a(std::string_view bytes, std::uint64_t seed = 0xcbf29ce484222325ULL);

}  // namespace culprit::embed
