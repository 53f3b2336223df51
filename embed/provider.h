// Provider: an embedder outside, any OpenAI-compatible POST /v1/embeddings (Ollama, vLLM, llama.cpp). Off unless
// configured; for templates and descriptions, never for raw lines, never on a hot path.
//
// A provider that does not answer in time, or answers nonsense, is an error of that call: the caller goes on with the
// words alone or with the built-in model. After kFailuresMax failures in a row it is left alone for kPause, so that a dead
// endpoint costs one time-out and not one a question. Only hosts of the allow-list are spoken to; redirects are not followed.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "embed/model.h"

namespace culprit::embed {

struct ProviderOptions {
  std::string url{};                      // "http://127.0.0.1:11434/v1/embeddings"
  std::string model{};                    // "nomic-embed-text"
  std::string key{};                      // sent as bearer token, if any
  std::vector<std::string> allowed{};     // "host" or "host:port"; empty = loopback only
  std::size_t dimensions = 0;             // of its vectors; 0 = asked once when it is made
  std::size_t batch = 32;                 // texts a request
  std::chrono::milliseconds timeout{5'000};
  std::chrono::milliseconds pause{60'000};  // after kFailuresMax failures in a row
};

// {"data": [{"index": 0, "embedding": [...]}, ...]}, in any order, as one normalised vector a text. `dimensions`: 0 = any.
// Errors: Corrupt.
Result<std::vector<std::vector<float>>> parse_embeddings(std::string_view answer, std::size_t texts, std::size_t dimensions);

class Provider final : public Embedder {
 public:
  static constexpr int kFailuresMax = 3;
  // Errors: Invalid (URL, options), Denied (host not allowed), and those of embed() if it has to ask for the dimensions.
  static Result<std::unique_ptr<Provider>> create(ProviderOptions options);

  // Errors: Busy (left alone for now), Io (no connection, time-out, status other than 200), Corrupt (no such answer).
  Result<std::vector<std::vector<float>>> embed(std::span<const std::string> texts) const override;
  std::size_t dimensions() const override { return options_.dimensions; }
  std::string_view name() const override { return name_; }  // "http <model> <host:port>"

 private:
  explicit Provider(ProviderOptions options);
  Result<std::string> post(const std::string& body) const;
  Result<void> request(std::span<const std::string> texts, std::vector<std::vector<float>>& vectors) const;

  ProviderOptions options_;
  std::string name_;
  mutable std::mutex mutex_;  // of the two below
  mutable int failures_ = 0;
  mutable std::chrono::steady_clock::time_point resume_{};
};

}  // namespace culprit::embed
