// The one file that calls libcurl and parses what comes from outside.
#include "embed/provider.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "daemon/base/handle.h"

namespace culprit::embed {
namespace {

constexpr std::size_t kAnswerBytesMax = 64U << 20U;
constexpr std::size_t kProviderTextMax = 8'192;  // bytes of one text that are sent
constexpr std::size_t kDimensionsMax = 4'096;
constexpr std::size_t kBatchMax = 1'024;

using Curl = Handle<CURL, curl_easy_cleanup>;
using Url = Handle<CURLU, curl_url_cleanup>;
using Headers = Handle<curl_slist, curl_slist_free_all>;

// libcurl's global state must be made before threads use it.
bool curl_ready() {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return ready;
}

std::string part(CURLU* url, CURLUPart what) {
  char* value = nullptr;
  if (curl_url_get(url, what, &value, CURLU_DEFAULT_PORT) != CURLUE_OK) return {};
  std::string text = value;
  curl_free(value);
  return text;
}

struct Answer {
  std::string bytes;
  bool too_long = false;
};

std::size_t receive(char* data, std::size_t size, std::size_t count, void* user) {
  auto& answer = *static_cast<Answer*>(user);
  const std::size_t bytes = size * count;
  if (answer.bytes.size() + bytes > kAnswerBytesMax) {
    answer.too_long = true;
    return 0;
  }
  answer.bytes.append(data, bytes);
  return bytes;
}

}  // namespace

Provider::Provider(ProviderOptions options) : options_(std::move(options)) {}

Result<std::unique_ptr<Provider>> Provider::create(ProviderOptions options) {
  if (!curl_ready()) return fail(Code::Exhausted, "libcurl does not start");
  const Url url(curl_url());
  if (!url || curl_url_set(url.get(), CURLUPART_URL, options.url.c_str(), 0) != CURLUE_OK) return fail(Code::Invalid, fmt::format("embedding provider: '{}' is no URL", options.url));
  const std::string scheme = part(url.get(), CURLUPART_SCHEME);
  const std::string host = part(url.get(), CURLUPART_HOST);
  const std::string port = part(url.get(), CURLUPART_PORT);
  if (scheme != "http" && scheme != "https") return fail(Code::Invalid, fmt::format("embedding provider: '{}' is neither http nor https", options.url));
  if (!part(url.get(), CURLUPART_USER).empty()) return fail(Code::Invalid, "embedding provider: no user in the URL; the key has its own setting");
  if (options.model.empty()) return fail(Code::Invalid, "embedding provider: which model? (model)");
  if (options.batch == 0 || options.batch > kBatchMax || options.dimensions > kDimensionsMax) return fail(Code::Invalid, fmt::format("embedding provider: batch is 1 to {}, dimensions at most {}", kBatchMax, kDimensionsMax));
  const bool allowed = options.allowed.empty() ? host == "127.0.0.1" || host == "[::1]" || host == "localhost"
                                               : std::ranges::any_of(options.allowed, [&](const std::string& one) { return one == host || one == host + ":" + port; });
  if (!allowed) return fail(Code::Denied, fmt::format("embedding provider: '{}:{}' is not on the list of allowed hosts", host, port));
  std::unique_ptr<Provider> provider(new Provider(std::move(options)));
  provider->name_ = fmt::format("http {} {}:{}", provider->options_.model, host, port);
  if (provider->options_.dimensions == 0) {
    const std::string probe[] = {"connection refused"};
    std::vector<std::vector<float>> vectors;
    TRY(provider->request(probe, vectors));
    provider->options_.dimensions = vectors.front().size();
  }
  return provider;
}

Result<std::string> Provider::post(const std::string& body) const {
  const Curl curl(curl_easy_init());
  if (!curl) return fail(Code::Exhausted, "libcurl has no handle");
  Answer answer;
  curl_slist* list = curl_slist_append(nullptr, "Content-Type: application/json");
  if (!options_.key.empty()) list = curl_slist_append(list, ("Authorization: Bearer " + options_.key).c_str());
  const Headers headers(list);
  curl_easy_setopt(curl.get(), CURLOPT_URL, options_.url.c_str());
  curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl.get(), CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(curl.get(), CURLOPT_PROXY, "");  // the allow-list names the host that is spoken to
  curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(options_.timeout.count()));
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.data());
  curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, receive);
  curl_easy_setopt(curl.get(), CURLOPT_WRITEDATA, &answer);
  const CURLcode code = curl_easy_perform(curl.get());
  if (answer.too_long) return fail(Code::Corrupt, fmt::format("embedding provider '{}': answer of more than {} bytes", options_.url, kAnswerBytesMax));
  if (code != CURLE_OK) return fail(Code::Io, fmt::format("embedding provider '{}': {}", options_.url, curl_easy_strerror(code)));
  long status = 0;
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) return fail(Code::Io, fmt::format("embedding provider '{}': HTTP status {}", options_.url, status));
  return std::move(answer.bytes);
}

Result<std::vector<std::vector<float>>> parse_embeddings(std::string_view answer, std::size_t texts, std::size_t dimensions) {
  const auto corrupt = [&](std::string what) { return fail(Code::Corrupt, std::move(what)); };
  const auto json = nlohmann::json::parse(answer, nullptr, false);
  if (!json.is_object() || !json.contains("data") || !json["data"].is_array() || json["data"].size() != texts) return corrupt("no 'data' with one vector a text");
  std::vector<std::vector<float>> got(texts);
  for (std::size_t i = 0; i < texts; ++i) {
    const auto& one = json["data"][i];
    if (!one.is_object() || !one.contains("embedding") || !one["embedding"].is_array()) return corrupt("an entry has no 'embedding'");
    std::size_t at = i;
    if (one.contains("index") && one["index"].is_number_unsigned()) at = one["index"].get<std::size_t>();
    if (at >= got.size() || !got[at].empty()) return corrupt("an index is out of range or there twice");
    const auto& values = one["embedding"];
    if (values.empty() || values.size() > kDimensionsMax || (dimensions != 0 && values.size() != dimensions)) {
      return corrupt(fmt::format("a vector of {} numbers, {} are expected", values.size(), dimensions));
    }
    for (const auto& value : values) {
      if (!value.is_number()) return corrupt("a vector holds something that is no number");
      const float number = value.get<float>();
      if (!std::isfinite(number)) return corrupt("a vector is not finite");
      got[at].push_back(number);
    }
    normalise(got[at]);
  }
  return got;
}

Result<void> Provider::request(std::span<const std::string> texts, std::vector<std::vector<float>>& vectors) const {
  nlohmann::json input = nlohmann::json::array();
  for (const std::string& text : texts) input.push_back(text.substr(0, kProviderTextMax));
  const nlohmann::json asked = {{"model", options_.model}, {"input", std::move(input)}, {"encoding_format", "float"}};
  ASSIGN(const std::string bytes, post(asked.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
  auto got = parse_embeddings(bytes, texts.size(), options_.dimensions);
  if (!got) return std::unexpected(got.error().context(fmt::format("embedding provider '{}'", options_.url)));
  std::ranges::move(*got, std::back_inserter(vectors));
  return {};
}

Result<std::vector<std::vector<float>>> Provider::embed(std::span<const std::string> texts) const {
  {
    const std::scoped_lock lock(mutex_);
    if (failures_ >= kFailuresMax && std::chrono::steady_clock::now() < resume_) return fail(Code::Busy, fmt::format("embedding provider '{}' failed {} times and is left alone for a while", options_.url, failures_));
  }
  std::vector<std::vector<float>> vectors;
  for (std::size_t at = 0; at < texts.size(); at += options_.batch) {
    if (auto done = request(texts.subspan(at, std::min(options_.batch, texts.size() - at)), vectors); !done) {
      const std::scoped_lock lock(mutex_);
      if (++failures_ >= kFailuresMax) resume_ = std::chrono::steady_clock::now() + options_.pause;
      return std::unexpected(done.error());
    }
  }
  const std::scoped_lock lock(mutex_);
  failures_ = 0;
  return vectors;
}

}  // namespace culprit::embed
