// Handler: one HTTP request in, one HTTP response out; no sockets, no threads. The server carries its bytes.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "daemon/api/backend.h"

namespace culprit::api {

// Where a request came in decides what it may ask (docs/api.md, "Who may ask what").
enum class Door {
  Socket,    // the Unix socket: its file mode is the check
  Loopback,  // TCP on 127.0.0.1: any local user and, through it, any page in a local browser
};

// A file of the page, in memory for the life of the process.
struct Asset {
  std::string_view path;  // "/", "/page.js"
  std::string_view content_type;
  std::string_view bytes;
};

struct Request {
  Door door = Door::Socket;
  std::string method = {};
  std::string target = {};  // as sent: path and query, escaped
  std::string body = {};
  // Headers; empty if absent.
  std::string host = {}, origin = {}, content_type = {}, fetch_site = {};
};

struct Response {
  unsigned status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::string allow = {};  // for 405
};

// Never throws, whatever the request holds.
Response handle(const Request& request, Backend& backend, std::span<const Asset> page);

// {"error": {...}} with the status of its code.
Response error_response(const Error& error, std::vector<std::string> suggestions = {});
Response error_response(unsigned status, std::string_view code, std::string message,
                        std::vector<std::string> suggestions = {});

// What every response carries besides its own headers; no script, style or image from elsewhere runs in the
// page.
inline constexpr std::pair<const char*, const char*> kResponseHeaders[] = {
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
     "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {"Referrer-Policy", "no-referrer"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Cache-Control", "no-store"},
};

}  // namespace culprit::api
