#include <fmt/format.h>

#include <fstream>

#include "daemon/recall/recall.h"

namespace culprit::recall {

Result<std::unique_ptr<embed::Provider>> provider_of(const Config& config, std::chrono::milliseconds timeout) {
  if (config.embedding_url == "off") return std::unique_ptr<embed::Provider>();
  std::string key;
  if (!config.embedding_key_file.empty()) {
    std::ifstream file(config.embedding_key_file);
    if (!file || !std::getline(file, key)) return fail(Code::NotFound, fmt::format("embedding_key_file: '{}' cannot be read, or is empty", config.embedding_key_file));
  }
  return embed::Provider::create({.url = config.embedding_url, .model = config.embedding_model, .key = std::move(key), .allowed = config.embedding_allowed, .timeout = timeout});
}

}  // namespace culprit::recall
