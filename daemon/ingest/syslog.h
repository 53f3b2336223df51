// Syslog: RFC 5424 and RFC 3164 messages over UDP, TCP (octet counting and newlines, RFC 6587) and Unix sockets.
//
// The event's entity is the service of the sender's program (its tag), or what the source's `service` says. UDP and Unix
// datagrams cannot come again: without room they are dropped and counted. Over TCP nothing is read while there is no room.
// Limits: Limits::connections_max connections (senders may be silent for hours, so none is ended for that; but when there is no room for another,
// the one that was silent longest goes, if it was for Limits::idle_ns), kSyslogBytesMax bytes of a message.
#pragma once

#include <memory>

#include "daemon/base/fd.h"
#include "daemon/ingest/source.h"

namespace culprit::ingest {

inline constexpr std::size_t kSyslogBytesMax = 64U << 10U;

// RFC 5424, table 2 (0 emergency ... 7 debug), as OpenTelemetry's numbers.
std::uint8_t severity_of_syslog(unsigned priority);

// One message, without its frame. Anything is a message; what has no header is all text.
void decode_syslog(std::string_view message, const std::string& service, const Context& context, Decoded& out);

// Cuts a stream into messages. Octet counting ("83 <34>1 ...") and newlines may alternate.
class SyslogFramer {
 public:
  // Calls `each` with every whole message; of one beyond kSyslogBytesMax with its begin, and the stream goes on behind it.
  void add(std::string_view bytes, const std::function<void(std::string_view)>& each);
  void finish(const std::function<void(std::string_view)>& each);  // the stream ended: a last line without newline
  std::uint64_t take_cut() { return std::exchange(cut_, 0); }      // messages beyond the limit, since it was asked last

 private:
  std::string rest_;
  std::size_t skip_bytes_ = 0;  // of a message beyond the limit that was told by its length
  bool skip_line_ = false;      // the same, one that ends with its line
  std::uint64_t cut_ = 0;
};

class SyslogServer {
 public:
  struct Limits {
    std::size_t connections_max = 256;
    std::int64_t idle_ns = 300 * kNsPerSecond;
  };
  struct Sockets {
    Fd datagram, stream;  // either may be absent
  };
  // "udp", "tcp", "both"; of a path "unix" (datagrams) or "unix-stream". Errors: Invalid; Busy.
  static Result<Sockets> open(const std::string& address, const std::string& protocol);
  static std::unique_ptr<SyslogServer> start(Sockets sockets, std::string service, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver, const Limits& limits);
  static std::unique_ptr<SyslogServer> start(Sockets sockets, std::string service, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver) {
    return start(std::move(sockets), std::move(service), std::move(source), intake, clock, resolver, Limits{});
  }
  ~SyslogServer();

 private:
  struct Impl;
  explicit SyslogServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::ingest
