// Client: the JSON API over its Unix socket. Errors are made for a person: what failed, why, what to run
// next.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "daemon/base/result.h"
#include "ui/cli/document.h"

namespace culprit::cli {

inline constexpr long kConnectSeconds = 3;
inline constexpr long kAnswerSeconds = 30;  // `why` over an hour takes about one
inline constexpr std::size_t kAnswerBytesMax = 256U << 20U;

class Client {
 public:
  using Parameters = std::vector<std::pair<std::string, std::string>>;

  explicit Client(std::string socket_path) : socket_path_(std::move(socket_path)) {}

  // The body of a 200 answer, as sent. Errors: Busy if the daemon does not answer, Denied if the socket may
  // not be opened, else what the daemon's error says, its suggestions in the message.
  Result<std::string> get(std::string_view path, const Parameters& parameters = {}) const;
  Result<std::string> post(std::string_view path, const Json& body) const;
  Result<std::string> post_bytes(const std::string& target, const std::string& bytes) const { return ask(target, &bytes); }

 private:
  Result<std::string> ask(const std::string& target, const std::string* body) const;

  std::string socket_path_;
};

// An answer's document. Corrupt if it is no JSON object of API version 1.
Result<Json> parse_document(const std::string& text);

// Percent-encoding of one parameter or path part.
std::string escape(std::string_view text);

}  // namespace culprit::cli
