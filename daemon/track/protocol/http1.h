// HTTP/1.x: follows one direction of a connection through what the probes saw of it (RFC 9112).
//
// Only the start of each read or write is captured, together with how many bytes it moved, so the parser counts
// through bodies instead of reading them, and often does not see the end of a message: then the message is `open
// ended` until the next one starts at the beginning of a call. It may join a connection in the middle.
// Kept: method, path without query, status, body length, trace context. Never kept: anything else.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::track {

struct TraceContext {
  std::uint64_t trace_id[2] = {0, 0};  // 0, 0: none
  std::uint64_t span_id = 0;
};

// "00-<32 hex>-<16 hex>-<2 hex>" (W3C Trace Context). False if it is no valid one.
bool parse_traceparent(std::string_view text, TraceContext& out);

struct HttpEvent {
  enum class Type : std::uint8_t {
    Begin,     // the first line of a message is known
    Head,      // its headers are known, as far as they were seen
    End,       // its last byte passed
    OpenEnded  // its end cannot be seen; comes instead of End, after Head
  };
  Type type = Type::Begin;
  std::uint16_t status = 0;  // of a response; 1xx never shows
  bool upgraded = false;     // End: what follows is another protocol
  std::string method, path;  // of a request, with Begin: the raw path without query, at most 512 bytes
  TraceContext trace;        // of a request, with Head
};

class Http1Parser {
 public:
  enum class Side : std::uint8_t { Requests, Responses };
  static constexpr std::size_t kLineBytesMax = 2'048;  // of a line in pieces; the rest of it is skipped
  static constexpr std::size_t kEventsPerCall = 64;    // messages in one call beyond this are not told apart

  explicit Http1Parser(Side side) : side_(side) {}

  // Would a message of this side begin so? At least the method and the target, or the version, must be there.
  static bool starts_message(Side side, std::string_view bytes);

  // One read or write: its first bytes and how many there were (>= captured.size()).
  void feed(std::string_view captured, std::uint64_t bytes, std::vector<HttpEvent>& out);

  // Responses: the request that the next response answers was HEAD, or CONNECT.
  void expect(bool head, bool connect) {
    expect_head_ = head;
    expect_connect_ = connect;
  }
  bool in_message() const { return state_ != State::Start && state_ != State::Tunnel; }
  bool upgraded() const { return state_ == State::Tunnel; }
  std::uint64_t resyncs() const { return resyncs_; }
  std::uint64_t truncated() const { return truncated_; }

 private:
  enum class State : std::uint8_t {
    Start,       // before a first line
    Headers,
    Body,        // left_ bytes to go
    ChunkSize,   // a line with the size of the next chunk
    ChunkData,   // left_ bytes to go, the line end after it included
    Trailers,
    Open,        // no known end: until the connection closes or a message starts
    Tunnel       // another protocol from now on
  };

  void reset_message();
  bool take_line(std::string_view& rest, std::string_view& line);
  void first_line(std::string_view line, std::vector<HttpEvent>& out);
  void header(std::string_view line);
  void end_of_headers(std::vector<HttpEvent>& out);
  void headers_cut(std::vector<HttpEvent>& out);
  void end(std::vector<HttpEvent>& out);
  void emit(HttpEvent::Type type, std::vector<HttpEvent>& out);

  Side side_;
  State state_ = State::Start;
  bool expect_head_ = false, expect_connect_ = false;
  // Of the current message.
  bool begun_ = false, has_length_ = false, chunked_ = false, connect_ = false;
  std::uint16_t status_ = 0;
  std::uint64_t length_ = 0, left_ = 0;
  bool quick_end_ = false;   // a request whose method has no body
  TraceContext trace_;
  std::string line_;         // the part of a line that earlier calls brought
  bool line_overflow_ = false;
  std::uint64_t resyncs_ = 0, truncated_ = 0;
};

}  // namespace culprit::track
