#include "embed/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>

#include "embed/kernels.h"

namespace culprit::embed {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");
constexpr char kMagic[8] = {'C', 'U', 'L', 'P', 'M', 'O', 'D', '1'};

struct Header {
  char magic[8];
  std::uint32_t version;
  std::uint32_t dimensions;
  std::uint32_t rows;
  std::uint32_t zero;
  std::uint64_t input_hash;
};
static_assert(sizeof(Header) == 32);

}  // namespace

std::uint64_t fnv1a(std::string_view bytes, std::uint64_t seed) {
  std::uint64_t hash = seed;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

float dot(std::span<const float> a, std::span<const float> b) { return kernels().dot(a.data(), b.data(), std::min(a.size(), b.size())); }

void normalise(std::span<float> vector) {
  const float square = dot(vector, vector);
  if (!(square > 0)) return;
  const float scale = 1.0F / std::sqrt(square);
  for (float& value : vector) value *= scale;
}

std::string encode_model(std::span<const float> rows, std::uint64_t input_hash) {
  const std::size_t count = rows.size() / kDimensions;
  Header header{.magic = {}, .version = kModelVersion, .dimensions = kDimensions, .rows = static_cast<std::uint32_t>(count), .zero = 0, .input_hash = input_hash};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  std::vector<float> scales(count);
  std::vector<std::int8_t> values(count * kDimensions);
  for (std::size_t row = 0; row < count; ++row) {
    const auto from = rows.subspan(row * kDimensions, kDimensions);
    float largest = 0;
    for (const float value : from) largest = std::max(largest, std::abs(value));
    scales[row] = largest / 127.0F;
    for (std::size_t i = 0; i < kDimensions && largest > 0; ++i) {
      values[row * kDimensions + i] = static_cast<std::int8_t>(std::lround(from[i] / scales[row]));
    }
  }
  std::string bytes(reinterpret_cast<const char*>(&header), sizeof(header));
  bytes.append(reinterpret_cast<const char*>(scales.data()), scales.size() * sizeof(float));
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size());
  const std::uint64_t sum = fnv1a(bytes);
  bytes.append(reinterpret_cast<const char*>(&sum), sizeof(sum));
  return bytes;
}

Result<Model> Model::decode(std::string_view bytes, std::string_view origin) {
  const auto corrupt = [&](std::string_view what) { return fail(Code::Corrupt, fmt::format("model '{}': {}", origin, what)); };
  Header header{};
  if (bytes.size() < sizeof(header) + sizeof(std::uint64_t) || std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0) return corrupt("no embedding model");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.version != kModelVersion || header.dimensions != kDimensions) {
    return fail(Code::Unsupported, fmt::format("model '{}' has version {} and {} dimensions; this program reads version {} with {}; train it anew: culprit knowledge train",
                                               origin, header.version, header.dimensions, kModelVersion, kDimensions));
  }
  if (!std::has_single_bit(header.rows) || header.rows > kModelRowsMax) return corrupt(fmt::format("{} rows; a power of two up to {} is expected", header.rows, kModelRowsMax));
  const std::size_t expected = sizeof(header) + header.rows * (sizeof(float) + kDimensions) + sizeof(std::uint64_t);
  if (bytes.size() != expected) return corrupt(fmt::format("{} bytes instead of {}", bytes.size(), expected));
  std::uint64_t sum = 0;
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof(sum), sizeof(sum));
  const std::string_view body = bytes.substr(0, bytes.size() - sizeof(sum));
  if (sum != fnv1a(body)) return corrupt("checksum differs");
  auto data = std::make_shared<Data>();
  data->input_hash = header.input_hash;
  data->scales.resize(header.rows);
  data->rows.resize(header.rows * kDimensions);
  std::memcpy(data->scales.data(), body.data() + sizeof(header), data->scales.size() * sizeof(float));
  std::memcpy(data->rows.data(), body.data() + sizeof(header) + data->scales.size() * sizeof(float), data->rows.size());
  constexpr float kScaleMax = 1e6F;  // sums of rows stay finite
  if (!std::ranges::all_of(data->scales, [](float scale) { return scale >= 0 && scale <= kScaleMax; })) return corrupt("a scale is not between 0 and 1,000,000");
  data->name = fmt::format("culprit-ngram-{}-{:016x}", kModelVersion, sum);
  return Model(std::move(data));
}

Result<Model> Model::load(const std::filesystem::path& file) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  if (error) return fail_errno(error.value(), "read model '" + file.string() + "'");
  if (size > kModelBytesMax) return fail(Code::Corrupt, fmt::format("model '{}' has {} bytes, at most {}", file.string(), size, kModelBytesMax));
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  if (!stream && !stream.eof()) return fail(Code::Io, "read model '" + file.string() + "'");
  return decode(bytes, file.string());
}

Vector Model::vector(std::string_view text) const {
  thread_local std::vector<Feature> features;  // its memory is used again: this runs for each new log template
  extract_features(text, features);
  Vector sums{};
  const std::uint32_t mask = static_cast<std::uint32_t>(data_->scales.size()) - 1;
  const auto add_row = kernels().add_row;
  for (std::size_t i = 0; i < features.size(); ++i) {
    if (i + 8 < features.size()) {
      const char* ahead = reinterpret_cast<const char*>(&data_->rows[(features[i + 8].hash & mask) * kDimensions]);
      for (std::size_t line = 0; line < kDimensions; line += 64) __builtin_prefetch(ahead + line);
    }
    const std::uint32_t row = features[i].hash & mask;
    add_row(sums.data(), &data_->rows[row * kDimensions], features[i].weight * data_->scales[row], kDimensions);
  }
  normalise(sums);
  return sums;
}

Result<std::vector<std::vector<float>>> Model::embed(std::span<const std::string> texts) const {
  std::vector<std::vector<float>> vectors;
  vectors.reserve(texts.size());
  for (const std::string& text : texts) {
    const Vector one = vector(text);
    vectors.emplace_back(one.begin(), one.end());
  }
  return vectors;
}

}  // namespace culprit::embed
