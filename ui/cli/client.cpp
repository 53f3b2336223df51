#include "ui/cli/client.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>

#include "daemon/base/handle.h"

namespace culprit::cli {
namespace {

using Curl = Handle<CURL, curl_easy_cleanup>;
using HeaderList = Handle<curl_slist, curl_slist_free_all>;

std::size_t on_bytes(char* data, std::size_t size, std::size_t count, void* body) {
  auto& text = *static_cast<std::string*>(body);
  if (text.size() + size * count > kAnswerBytesMax) return 0;  // ends the transfer
  text.append(data, size * count);
  return size * count;
}

std::unexpected<Error> no_answer(CURLcode code, int os_error, const std::string& path) {
  constexpr std::string_view kStart = "start it with `sudo ./dev run` or `sudo systemctl start culprit`";
  if (code == CURLE_COULDNT_CONNECT) {
    if (os_error == EACCES || os_error == EPERM) {
      return fail(Code::Denied, fmt::format("you may not open '{}': run with sudo, or join its group (sudo "
                                            "usermod -aG culprit $USER, then log in again)",
                                            path));
    }
    if (os_error == ENOENT) {
      return fail(
          Code::Busy,
          fmt::format(
              "culpritd is not running ('{}' does not exist): {}; if it listens elsewhere, say --socket PATH",
              path, kStart));
    }
    return fail(Code::Busy, fmt::format("culpritd does not answer on '{}' ({}): {}", path,
                                        os_error == 0 ? "cannot connect" : std::strerror(os_error), kStart));
  }
  if (code == CURLE_OPERATION_TIMEDOUT) {
    return fail(
        Code::Busy,
        fmt::format(
            "culpritd on '{}' did not answer within {} s: look at its log (journalctl -u culprit -n 50)",
            path, kAnswerSeconds));
  }
  if (code == CURLE_WRITE_ERROR)
    return fail(Code::Exhausted,
                fmt::format("the answer is longer than {} bytes: ask for less", kAnswerBytesMax));
  return fail(
      Code::Busy,
      fmt::format("culpritd on '{}' broke off its answer ({}): look at its log (journalctl -u culprit -n 50)",
                  path, curl_easy_strerror(code)));
}

// {"error": {...}} back to an Error.
std::unexpected<Error> told_error(long status, const std::string& body) {
  const Json document = Json::parse(body, nullptr, false);
  const Json& error = field(document, "error");
  std::string message = text(error, "message");
  if (message.empty())
    return fail(Code::Corrupt, fmt::format("the answer is none of culpritd's (HTTP status {})", status));
  const std::vector<std::string> suggestions = texts(error, "suggestions");
  for (std::size_t i = 0; i < suggestions.size(); ++i)
    message += (i == 0 ? "; did you mean " : ", ") + fmt::format("'{}'", suggestions[i]);
  if (!suggestions.empty()) message += "?";
  const std::string code = text(error, "code");
  if (code == "not_found") return fail(Code::NotFound, message);
  if (code == "invalid" || code == "too_large" || code == "method") return fail(Code::Invalid, message);
  if (code == "denied") return fail(Code::Denied, message);
  if (code == "busy") return fail(Code::Busy, message);
  if (code == "exhausted") return fail(Code::Exhausted, message);
  if (code == "unsupported") return fail(Code::Unsupported, message);
  return fail(Code::Io, message);
}

}  // namespace

std::string escape(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '-' || c == '_' || c == '.' || c == '~';
    if (plain)
      result += c;
    else
      result += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return result;
}

Result<std::string> Client::get(std::string_view path, const Parameters& parameters) const {
  std::string target(path);
  for (std::size_t i = 0; i < parameters.size(); ++i) {
    target += fmt::format("{}{}={}", i == 0 ? "?" : "&", parameters[i].first, escape(parameters[i].second));
  }
  return ask(target, nullptr);
}

Result<std::string> Client::post(std::string_view path, const Json& body) const {
  const std::string text = body.dump(-1, ' ', false, Json::error_handler_t::replace);
  return ask(std::string(path), &text);
}

Result<std::string> Client::ask(const std::string& target, const std::string* body) const {
  const Curl curl(curl_easy_init());
  if (!curl) return fail(Code::Exhausted, "libcurl did not start");
  std::string answer;
  HeaderList headers;
  CURL* handle = curl.get();
  curl_easy_setopt(handle, CURLOPT_UNIX_SOCKET_PATH, socket_path_.c_str());
  curl_easy_setopt(handle, CURLOPT_URL, ("http://localhost" + target).c_str());
  curl_easy_setopt(handle, CURLOPT_PROXY, "");  // whatever the environment says
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl_easy_setopt(handle, CURLOPT_TIMEOUT, kAnswerSeconds);
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &on_bytes);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &answer);
  if (body != nullptr) {
    headers.reset(curl_slist_append(nullptr, "Content-Type: application/json"));
    curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(handle, CURLOPT_POSTFIELDSIZE, static_cast<long>(body->size()));
    curl_easy_setopt(handle, CURLOPT_POSTFIELDS, body->c_str());
  }
  const CURLcode code = curl_easy_perform(handle);
  if (code != CURLE_OK) {
    long os_error = 0;
    curl_easy_getinfo(handle, CURLINFO_OS_ERRNO, &os_error);
    struct stat status{};
    // A path too long or missing does not reach connect(); say what is there instead.
    if (os_error == 0 && ::stat(socket_path_.c_str(), &status) != 0) os_error = errno;
    return no_answer(code, static_cast<int>(os_error), socket_path_);
  }
  long http_status = 0;
  curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &http_status);
  if (http_status != 200) return told_error(http_status, answer);
  return answer;
}

Result<Json> parse_document(const std::string& text) {
  Json document = Json::parse(text, nullptr, false);
  if (!document.is_object()) return fail(Code::Corrupt, "the answer is no JSON object: is this culpritd?");
  if (number_or(document, "api", 0) != 1) {
    return fail(
        Code::Unsupported,
        "the daemon speaks another version of the API: install culprit and culpritd of the same release");
  }
  return document;
}

}  // namespace culprit::cli
