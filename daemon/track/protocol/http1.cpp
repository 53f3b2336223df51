#include "daemon/track/protocol/http1.h"

#include <algorithm>
#include <array>
#include <limits>

namespace culprit::track {

namespace {

constexpr std::size_t kPathBytesMax = 512;
constexpr std::array<std::string_view, 9> kMethods = {"GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "CONNECT", "TRACE"};

bool equals_lower(std::string_view text, std::string_view lower) {
  return text.size() == lower.size() && std::equal(text.begin(), text.end(), lower.begin(), [](char a, char b) {
           return (a >= 'A' && a <= 'Z' ? static_cast<char>(a + 32) : a) == b;
         });
}

bool contains_lower(std::string_view text, std::string_view lower) {
  for (std::size_t i = 0; i + lower.size() <= text.size(); ++i) {
    if (equals_lower(text.substr(i, lower.size()), lower)) return true;
  }
  return false;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Whole text as a number; false if it is none or too large.
bool parse_number(std::string_view text, unsigned base, std::uint64_t& out) {
  if (text.empty() || text.size() > 18) return false;
  std::uint64_t value = 0;
  for (const char c : text) {
    const int digit = hex_value(c);
    if (digit < 0 || static_cast<unsigned>(digit) >= base) return false;
    value = value * base + static_cast<unsigned>(digit);
  }
  out = value;
  return true;
}

std::string_view method_of(std::string_view bytes) {
  for (const std::string_view method : kMethods) {
    if (bytes.size() > method.size() && bytes.starts_with(method) && bytes[method.size()] == ' ') return method;
  }
  return {};
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

}  // namespace

bool parse_traceparent(std::string_view text, TraceContext& out) {
  text = trim(text);
  if (text.size() < 55 || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  if (text.substr(0, 2) == "ff" || (text.size() > 55 && text.substr(0, 2) == "00")) return false;
  std::array<std::uint64_t, 4> parts{};
  const std::array<std::string_view, 4> words = {text.substr(0, 2), text.substr(3, 16), text.substr(19, 16), text.substr(36, 16)};
  for (std::size_t i = 0; i < words.size(); ++i) {
    for (const char c : words[i]) {
      const int digit = hex_value(c);
      if (digit < 0 || (c >= 'A' && c <= 'F')) return false;
      parts[i] = parts[i] << 4 | static_cast<unsigned>(digit);
    }
  }
  if ((parts[1] == 0 && parts[2] == 0) || parts[3] == 0) return false;
  out = {{parts[1], parts[2]}, parts[3]};
  return true;
}

bool Http1Parser::starts_message(Side side, std::string_view bytes) {
  if (side == Side::Responses) {
    return bytes.size() >= 12 && bytes.starts_with("HTTP/1.") && is_digit(bytes[7]) && bytes[8] == ' ' && is_digit(bytes[9]) &&
           is_digit(bytes[10]) && is_digit(bytes[11]);
  }
  const std::string_view method = method_of(bytes);
  if (method.empty() || bytes.size() < method.size() + 2) return false;
  const char first = bytes[method.size() + 1];
  if (method == "CONNECT") return first > ' ' && first < 0x7f;
  return first == '/' || first == '*' || bytes.substr(method.size() + 1).starts_with("http");
}

void Http1Parser::reset_message() {
  begun_ = has_length_ = chunked_ = connect_ = quick_end_ = false;
  status_ = 0;
  length_ = left_ = 0;
  trace_ = {};
  line_.clear();
  line_overflow_ = false;
  state_ = State::Start;
}

void Http1Parser::emit(HttpEvent::Type type, std::vector<HttpEvent>& out) {
  HttpEvent event;
  event.type = type;
  event.status = status_;
  event.trace = trace_;
  out.push_back(std::move(event));
}

// The next line without its end. False: it is not complete, and what there is has been kept.
bool Http1Parser::take_line(std::string_view& rest, std::string_view& line) {
  const auto newline = rest.find('\n');
  const std::string_view piece = rest.substr(0, newline);
  if (newline == std::string_view::npos || !line_.empty()) {
    const std::size_t room = kLineBytesMax - std::min(line_.size(), kLineBytesMax);
    if (piece.size() > room) line_overflow_ = true;
    line_.append(piece.substr(0, room));
    if (newline == std::string_view::npos) {
      rest = {};
      return false;
    }
    line = line_;  // the caller clears line_ when it is done with it
  } else {
    line = piece;
  }
  rest.remove_prefix(newline + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return true;
}

void Http1Parser::first_line(std::string_view line, std::vector<HttpEvent>& out) {
  if (line.empty()) return;  // RFC 9112 2.2: empty lines before a request are ignored
  if (!starts_message(side_, line)) return;  // in the middle of something: wait for a start
  HttpEvent event;
  event.type = HttpEvent::Type::Begin;
  if (side_ == Side::Responses) {
    status_ = static_cast<std::uint16_t>((line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0'));
    event.status = status_;
    const bool informational = status_ >= 100 && status_ < 200 && status_ != 101;
    if (!informational) out.push_back(std::move(event));
  } else {
    const std::string_view method = method_of(line);
    std::string_view target = line.substr(method.size() + 1);
    target = target.substr(0, target.find(' '));
    target = target.substr(0, target.find_first_of("?#"));
    if (const auto scheme = target.find("://"); scheme < 6) {
      const auto slash = target.find('/', scheme + 3);
      target = slash == std::string_view::npos ? "/" : target.substr(slash);
    }
    connect_ = method == "CONNECT";
    quick_end_ = method == "GET" || method == "HEAD" || method == "DELETE" || method == "OPTIONS" || method == "TRACE" || connect_;
    event.method = method;
    event.path = connect_ ? std::string("*") : std::string(target.substr(0, kPathBytesMax));
    out.push_back(std::move(event));
  }
  begun_ = true;
  state_ = State::Headers;
}

void Http1Parser::header(std::string_view line) {
  const auto colon = line.find(':');
  if (colon == std::string_view::npos) return;
  const std::string_view name = line.substr(0, colon);
  const std::string_view value = trim(line.substr(colon + 1));
  if (equals_lower(name, "content-length")) {
    std::uint64_t length = 0;
    if (parse_number(value, 10, length)) {
      has_length_ = true;
      length_ = length;
    }
  } else if (equals_lower(name, "transfer-encoding")) {
    if (contains_lower(value, "chunked")) chunked_ = true;
  } else if (side_ == Side::Requests && equals_lower(name, "traceparent")) {
    (void)parse_traceparent(value, trace_);
  }
}

void Http1Parser::end(std::vector<HttpEvent>& out) {
  emit(HttpEvent::Type::End, out);
  reset_message();
}

void Http1Parser::end_of_headers(std::vector<HttpEvent>& out) {
  const bool response = side_ == Side::Responses;
  if (response && status_ >= 100 && status_ < 200 && status_ != 101) {
    reset_message();  // the final response follows
    return;
  }
  emit(HttpEvent::Type::Head, out);
  if (response && (status_ == 101 || (expect_connect_ && status_ >= 200 && status_ < 300))) {
    emit(HttpEvent::Type::End, out);
    out.back().upgraded = true;
    reset_message();
    state_ = State::Tunnel;
    return;
  }
  const bool bare = response ? status_ == 204 || status_ == 304 || expect_head_ : !chunked_ && !has_length_;  // no body
  if (bare) {
    end(out);
  } else if (chunked_) {
    state_ = State::ChunkSize;
  } else if (has_length_) {
    left_ = length_;
    state_ = State::Body;
    if (left_ == 0) end(out);
  } else {
    state_ = State::Open;
    emit(HttpEvent::Type::OpenEnded, out);
  }
}

// The headers go on beyond what was captured.
void Http1Parser::headers_cut(std::vector<HttpEvent>& out) {
  ++truncated_;
  if (side_ == Side::Responses && status_ >= 100 && status_ < 200) {
    reset_message();
    return;
  }
  emit(HttpEvent::Type::Head, out);
  const bool bodiless = side_ == Side::Requests ? quick_end_ && !has_length_ && !chunked_ : status_ == 204 || status_ == 304 || expect_head_;
  if (bodiless) {
    end(out);
    return;
  }
  line_.clear();
  line_overflow_ = false;
  state_ = State::Open;
  emit(HttpEvent::Type::OpenEnded, out);
}

void Http1Parser::feed(std::string_view captured, std::uint64_t bytes, std::vector<HttpEvent>& out) {
  if (state_ == State::Tunnel || bytes == 0) return;
  bytes = std::max<std::uint64_t>(bytes, captured.size());
  const std::uint64_t unseen = bytes - captured.size();
  if (state_ != State::Start && starts_message(side_, captured)) {
    // The one before did not end for us: bytes passed unseen (sendfile, a lost record), or its end is not known.
    if (state_ != State::Open) {
      ++resyncs_;
      if (state_ == State::Headers && begun_) emit(HttpEvent::Type::Head, out);
      emit(HttpEvent::Type::OpenEnded, out);
    }
    reset_message();
  } else if (state_ == State::Start && line_.empty() && !starts_message(side_, captured)) {
    // Not a start and not the rest of one. A start in small pieces ("G", "ET /") is not worth the false ones.
    std::string_view rest = captured;
    while (!rest.empty() && (rest.front() == '\r' || rest.front() == '\n')) rest.remove_prefix(1);
    if (!starts_message(side_, rest)) return;
    captured = rest;
  }
  const std::size_t events_before = out.size();
  std::string_view rest = captured;
  std::string_view line;
  while (!rest.empty()) {
    if (out.size() - events_before >= kEventsPerCall) break;
    switch (state_) {
      case State::Start:
      case State::Headers:
      case State::ChunkSize:
      case State::Trailers: {
        if (!take_line(rest, line)) break;
        const bool cut = line_overflow_;
        if (state_ == State::Start) {
          first_line(line, out);
          if (state_ == State::Start && !line.empty()) {  // no start after all: skip the rest of this call
            line_.clear();
            line_overflow_ = false;
            return;
          }
        } else if (state_ == State::Headers) {
          if (line.empty() && !cut) {
            line_.clear();
            end_of_headers(out);
          } else if (!cut) {
            header(line);
          }
        } else if (state_ == State::ChunkSize) {
          std::uint64_t size = 0;
          if (parse_number(trim(line.substr(0, line.find(';'))), 16, size) && !cut) {
            left_ = size + 2;
            state_ = size == 0 ? State::Trailers : State::ChunkData;
          } else {
            ++resyncs_;
            state_ = State::Open;
            emit(HttpEvent::Type::OpenEnded, out);
          }
        } else if (line.empty()) {
          line_.clear();
          end(out);
        }
        line_.clear();
        line_overflow_ = false;
        break;
      }
      case State::Body:
      case State::ChunkData: {
        const auto take = static_cast<std::size_t>(std::min<std::uint64_t>(left_, rest.size()));
        rest.remove_prefix(take);
        left_ -= take;
        if (left_ == 0) {
          if (state_ == State::Body) {
            end(out);
          } else {
            state_ = State::ChunkSize;
          }
        }
        break;
      }
      case State::Open:
      case State::Tunnel: rest = {}; break;
    }
  }
  if (unseen == 0 && rest.empty()) return;
  if (!rest.empty()) {  // more messages than we tell apart
    if (in_message() && state_ != State::Open) {
      if (state_ == State::Headers) emit(HttpEvent::Type::Head, out);
      emit(HttpEvent::Type::OpenEnded, out);
    }
    reset_message();
    return;
  }
  switch (state_) {
    case State::Headers: headers_cut(out); break;
    case State::Start:
      // A long first line that goes on unseen is one all the same; one that begins unseen is lost.
      if (!line_.empty()) {
        first_line(std::string(line_), out);
        if (state_ == State::Headers) headers_cut(out);
      }
      line_.clear();
      line_overflow_ = false;
      break;
    case State::Body:
      if (unseen >= left_) {
        end(out);
      } else {
        left_ -= unseen;
      }
      break;
    case State::ChunkData:
      if (unseen < left_) {
        left_ -= unseen;
        break;
      }
      [[fallthrough]];
    case State::ChunkSize:
    case State::Trailers:
      line_.clear();
      line_overflow_ = false;
      state_ = State::Open;
      emit(HttpEvent::Type::OpenEnded, out);
      break;
    case State::Open:
    case State::Tunnel: break;
  }
}

}  // namespace culprit::track
