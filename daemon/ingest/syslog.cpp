#include "daemon/ingest/syslog.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <thread>

#include "daemon/ingest/accept.h"
#include "daemon/ingest/http_server.h"
#include "daemon/ingest/line_time.h"
#include "daemon/logs/header.h"
#include "daemon/ingest/source_thread.h"

namespace culprit::ingest {
namespace {

constexpr std::size_t kBatchEvents = 1'000;
constexpr int kWaitMs = 1'000;
constexpr int kPollMs = 500;

constexpr std::uint8_t kSeverities[] = {stream::kFatal, stream::kFatal, stream::kFatal, stream::kError, stream::kWarn, stream::kInfo, stream::kInfo, stream::kDebug};

std::string_view word(std::string_view& text) {
  const std::size_t end = std::min(text.find(' '), text.size());
  const std::string_view found = text.substr(0, end);
  text.remove_prefix(std::min(text.size(), end + 1));
  return found;
}

// [id a="b" ...][id2 ...] or -
void structured_data(std::string_view& text, stream::Event& event, Decoded& out) {
  if (text.starts_with('-')) {
    text.remove_prefix(std::min<std::size_t>(text.size(), 2));
    return;
  }
  while (text.starts_with('[')) {
    text.remove_prefix(1);
    std::size_t at = text.find_first_of(" ]");
    if (at == std::string_view::npos) return;
    text.remove_prefix(at);
    while (text.starts_with(' ')) {
      text.remove_prefix(1);
      const std::size_t equals = text.find("=\"");
      if (equals == std::string_view::npos) return;
      const std::string_view key = text.substr(0, equals);
      text.remove_prefix(equals + 2);
      std::string value;
      while (!text.empty() && text.front() != '"') {
        if (text.front() == '\\' && text.size() > 1) text.remove_prefix(1);
        value += text.front();
        text.remove_prefix(1);
      }
      if (!text.empty()) text.remove_prefix(1);
      add_attribute(event.attributes, key, value, out);
    }
    if (!text.starts_with(']')) return;
    text.remove_prefix(1);
  }
  if (text.starts_with(' ')) text.remove_prefix(1);
}

// Letters and what programs have in their names; a number, JSON or a sentence is no tag.
bool is_tag(std::string_view text) {
  constexpr std::string_view kOthers = "_-./@+()#~";
  bool letter = false;
  for (const char c : text) {
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    letter = letter || is_letter;
    if (!is_letter && !(c >= '0' && c <= '9') && kOthers.find(c) == std::string_view::npos && (c & 0x80) == 0) return false;
  }
  return letter;
}

// How long the time of RFC 3164 at the begin is, with what devices add to it: "Nov 23 14:02:08", "Nov 23 2026 14:02:08.123".
std::size_t bsd_time(std::string_view text) {
  std::size_t size = 15;
  if (text.size() > 21 && text[3] == ' ' && text[6] == ' ' && text[11] == ' ' && text[14] == ':') size = 20;
  else if (text.size() <= 16 || text[3] != ' ' || text[6] != ' ' || text[9] != ':') return 0;
  if (text[size] == '.') size = std::min(text.find_first_not_of("0123456789", size + 1), text.size());
  return size < text.size() && (text[size] == ' ' || text[size] == ':') ? size : 0;
}

// "tag[123]: message" or "tag: message"
void tag(std::string_view& text, std::string_view& program, std::string_view& pid) {
  std::size_t end = 0;
  while (end < text.size() && end < 64 && text[end] != ' ' && text[end] != ':' && text[end] != '[') ++end;
  if (end == 0 || end == text.size() || text[end] == ' ' || !is_tag(text.substr(0, end))) return;
  std::string_view rest = text.substr(end);
  std::string_view number;
  if (rest.starts_with('[')) {
    const std::size_t close = rest.find(']');
    if (close == std::string_view::npos) return;
    number = rest.substr(1, close - 1);
    rest.remove_prefix(close + 1);
  }
  if (!rest.starts_with(':')) return;
  rest.remove_prefix(1);
  if (rest.starts_with(' ')) rest.remove_prefix(1);
  program = text.substr(0, end);
  pid = number;
  text = rest;
}

}  // namespace

std::uint8_t severity_of_syslog(unsigned priority) { return kSeverities[priority % 8]; }

void decode_syslog(std::string_view message, const std::string& service, const Context& context, Decoded& out) {
  while (!message.empty() && (message.back() == '\n' || message.back() == '\r' || message.back() == '\0')) message.remove_suffix(1);
  if (message.empty()) return;
  ++out.records;
  stream::Event event;
  event.kind = stream::Kind::Log;
  event.value = 1;
  std::string_view rest = message, host, program, pid;
  std::int64_t wall = 0;
  const std::int64_t now_wall = context.now_ns + context.wall_offset_ns;
  unsigned priority = 13;  // user.notice, what RFC 3164 takes for granted
  if (rest.starts_with('<')) {
    unsigned value = 0;
    const auto [end, error] = std::from_chars(rest.data() + 1, rest.data() + std::min<std::size_t>(rest.size(), 5), value);
    if (error == std::errc() && value <= 191 && end < rest.data() + rest.size() && *end == '>') {
      priority = value;
      rest.remove_prefix(static_cast<std::size_t>(end - rest.data()) + 1);
    }
  }
  event.severity = severity_of_syslog(priority);
  const auto present = [](std::string_view text) { return text == "-" ? std::string_view() : text; };
  if (rest.starts_with("1 ")) {
    rest.remove_prefix(2);
    wall = line_time(word(rest), now_wall).value_or(0);
    host = present(word(rest));
    program = present(word(rest));
    pid = present(word(rest));
    if (const auto id = present(word(rest)); !id.empty()) add_attribute(event.attributes, "syslog.msgid", id, out);
    structured_data(rest, event, out);
    if (rest.starts_with("\xEF\xBB\xBF")) rest.remove_prefix(3);
  } else {
    // "Nov 23 14:02:08 " or an RFC 3339 time, as rsyslog can be told to write
    if (const std::size_t size = bsd_time(rest); size > 0) {
      wall = line_time(rest.substr(0, size), now_wall).value_or(0);
      if (wall > 0) rest.remove_prefix(size + 1);
      if (wall > 0 && rest.starts_with(' ')) rest.remove_prefix(1);
    } else if (const auto time = line_time(rest.substr(0, rest.find(' ')), now_wall)) {
      wall = *time;
      (void)word(rest);
    }
    if (wall > 0) {
      // A host, unless this word is a tag already (messages of this host have none).
      const std::string_view first = rest.substr(0, rest.find(' '));
      if (!first.ends_with(':') && first.find('[') == std::string_view::npos) host = word(rest);
    }
    if (rest.starts_with(": ")) rest.remove_prefix(2);
    tag(rest, program, pid);
  }
  event.time_ns = stream_time(wall == 0 ? now_wall : wall, context, out);
  std::uint32_t number = 0;
  std::string named;
  const bool here = context.resolver != nullptr && (host.empty() || host == context.resolver->host_name());
  if (here && std::from_chars(pid.data(), pid.data() + pid.size(), number).ec == std::errc()) named = context.resolver->service_of_pid(number);
  if (named.empty()) named = service;
  if (named.empty()) named = program.substr(program.rfind('/') + 1);
  event.entity = named.empty() ? "host" : "service:" + bounded_text(named, kNameBytesMax, out);
  event.body = bounded_text(rest, kBodyBytesMax, out);
  (void)find_trace_id(event.body, event.trace_id, event.span_id);
  const auto put = [&](std::string_view key, std::string_view value) {
    if (!value.empty()) add_attribute(event.attributes, key, value, out);
  };
  put("host.name", host);
  put("process.command", program);
  put("process.pid", pid);
  put("syslog.facility", fmt::to_string(priority / 8));
  out.events.push_back(std::move(event));
}

void SyslogFramer::add(std::string_view bytes, const std::function<void(std::string_view)>& each) {
  rest_ += bytes;
  std::string_view text = rest_;
  while (!text.empty()) {
    if (skip_bytes_ > 0) {
      const std::size_t size = std::min(skip_bytes_, text.size());
      skip_bytes_ -= size;
      text.remove_prefix(size);
      continue;
    }
    if (!skip_line_ && text[0] >= '1' && text[0] <= '9') {
      std::size_t size = 0;
      const auto [end, error] = std::from_chars(text.data(), text.data() + std::min<std::size_t>(text.size(), 7), size);
      const auto digits = static_cast<std::size_t>(end - text.data());
      if (error == std::errc() && digits < text.size() && text[digits] == ' ') {
        const std::size_t kept = std::min(size, kSyslogBytesMax);
        if (text.size() < digits + 1 + kept) break;
        each(text.substr(digits + 1, kept));
        text.remove_prefix(digits + 1 + kept);
        skip_bytes_ = size - kept;
        cut_ += skip_bytes_ > 0 ? 1 : 0;
        continue;
      }
      if (digits == text.size() && digits < 6) break;  // the length may go on
    }
    const std::size_t end = text.find_first_of(std::string_view("\n\0", 2));
    if (end == std::string_view::npos && text.size() <= kSyslogBytesMax && !skip_line_) break;
    const std::string_view line = text.substr(0, end);
    if (!skip_line_ && !line.empty()) {
      each(line.substr(0, kSyslogBytesMax));
      cut_ += line.size() > kSyslogBytesMax ? 1 : 0;
    }
    skip_line_ = end == std::string_view::npos;
    text.remove_prefix(skip_line_ ? text.size() : end + 1);
  }
  rest_.erase(0, rest_.size() - text.size());
}

void SyslogFramer::finish(const std::function<void(std::string_view)>& each) {
  if (!rest_.empty()) each(rest_);
  rest_.clear();
}

struct SyslogServer::Impl {
  struct Connection {
    Fd fd;
    SyslogFramer framer;
    std::int64_t heard_ns = 0;
  };
  Fd datagram;
  Acceptor acceptor;
  std::string service;
  SourcePtr source;
  Intake& intake;
  const Clock& clock;
  const Resolver& resolver;
  Limits limits;
  Fd wake;
  std::map<int, Connection> connections;
  std::jthread thread;  // last: ends before what it uses

  Context context() const { return {clock.now_ns(), clock.wall_offset_ns(), &resolver, nullptr}; }
  void read_datagrams();
  bool read_stream(Connection& connection, const std::stop_token& stop);
  bool store(Decoded&& out, const std::stop_token& stop);
  bool make_room(std::int64_t now_ns, const std::stop_token& stop);
  void loop(const std::stop_token& stop);
};

void SyslogServer::Impl::read_datagrams() {
  Decoded out;
  std::string buffer(kSyslogBytesMax, '\0');
  const Context now = context();
  for (std::size_t i = 0; i < kBatchEvents; ++i) {
    const ssize_t got = ::recv(datagram.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (got < 0) break;
    ++source->requests;
    source->bytes += static_cast<std::uint64_t>(got);
    decode_syslog(std::string_view(buffer.data(), static_cast<std::size_t>(got)), service, now, out);
  }
  source->note(out);
  if (!out.events.empty()) intake.offer(source, std::move(out.events));
}

// False when the connection is over.
bool SyslogServer::Impl::read_stream(Connection& connection, const std::stop_token& stop) {
  std::string buffer(kSyslogBytesMax, '\0');
  const ssize_t got = ::recv(connection.fd.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR;
  Decoded out;
  const Context now = context();
  const auto each = [&](std::string_view message) { decode_syslog(message, service, now, out); };
  if (got == 0) {
    connection.framer.finish(each);
  } else {
    source->bytes += static_cast<std::uint64_t>(got);
    connection.framer.add(std::string_view(buffer.data(), static_cast<std::size_t>(got)), each);
    out.cut += connection.framer.take_cut();
  }
  connection.heard_ns = now.now_ns;
  return store(std::move(out), stop) && got > 0;
}

// False when the stream is over.
bool SyslogServer::Impl::store(Decoded&& out, const std::stop_token& stop) {
  source->note(out);
  while (!out.events.empty()) {
    const auto taken = intake.submit(source, std::move(out.events), kWaitMs, stop);
    if (taken) break;
    if (taken.error().code != Code::Busy || stop.stop_requested()) {
      if (taken.error().code == Code::Busy) intake.offer(source, std::move(out.events));  // counted
      return false;
    }
    ++source->refused;
  }
  return true;
}

// For one more connection; false if all are in use.
bool SyslogServer::Impl::make_room(std::int64_t now_ns, const std::stop_token& stop) {
  if (connections.size() < limits.connections_max) return true;
  const auto silent = std::ranges::min_element(connections, {}, [](const auto& entry) { return entry.second.heard_ns; });
  if (silent == connections.end() || now_ns - silent->second.heard_ns < limits.idle_ns) return false;
  Decoded out;
  const Context now = context();
  silent->second.framer.finish([&](std::string_view message) { decode_syslog(message, service, now, out); });
  (void)store(std::move(out), stop);
  connections.erase(silent);
  return true;
}

void SyslogServer::Impl::loop(const std::stop_token& stop) {
  const std::stop_callback awake(stop, [this] {
    const std::uint64_t one = 1;
    (void)!::write(wake.get(), &one, sizeof(one));
  });
  while (!stop.stop_requested()) {
    std::vector<pollfd> waits = {{wake.get(), POLLIN, 0}, {datagram.get(), POLLIN, 0}, {acceptor.poll_fd(clock.now_ns()), POLLIN, 0}};
    for (const auto& [fd, connection] : connections) waits.push_back({fd, POLLIN, 0});
    if (::poll(waits.data(), waits.size(), kPollMs) <= 0) continue;
    if (waits[1].revents != 0) read_datagrams();
    if (waits[2].revents != 0) {
      const std::int64_t now_ns = clock.now_ns();
      Fd accepted = acceptor.accept(now_ns);
      if (accepted && !make_room(now_ns, stop)) {
        ++source->refused;
        source->set_error(fmt::format("more than {} connections, and none was silent for {} s", limits.connections_max, limits.idle_ns / kNsPerSecond));
      } else if (accepted) {
        ++source->requests;
        const int fd = accepted.get();
        connections.insert_or_assign(fd, Connection{std::move(accepted), {}, now_ns});
      }
    }
    for (std::size_t i = 3; i < waits.size(); ++i) {
      if (waits[i].revents == 0) continue;
      const auto found = connections.find(waits[i].fd);
      if (found != connections.end() && !read_stream(found->second, stop)) connections.erase(found);
    }
  }
}

Result<SyslogServer::Sockets> SyslogServer::open(const std::string& address, const std::string& protocol) {
  Sockets sockets;
  if (protocol != "udp" && protocol != "tcp" && protocol != "both" && protocol != "unix" && protocol != "unix-stream") return fail(Code::Invalid, fmt::format("protocol '{}': udp, tcp, both, unix or unix-stream", protocol));
  const bool is_path = address.starts_with('/') || address.starts_with("unix:");
  if (is_path != protocol.starts_with("unix")) return fail(Code::Invalid, fmt::format("listen '{}' does not go with protocol '{}': a path has unix or unix-stream", address, protocol));
  if (protocol != "tcp" && protocol != "unix-stream") {
    ASSIGN(sockets.datagram, bind_datagram(address));
  }
  if (protocol == "tcp" || protocol == "both" || protocol == "unix-stream") {
    ASSIGN(sockets.stream, listen_stream(address));
  }
  return sockets;
}

SyslogServer::SyslogServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SyslogServer::~SyslogServer() = default;

std::unique_ptr<SyslogServer> SyslogServer::start(Sockets sockets, std::string service, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver, const Limits& limits) {
  auto impl = std::unique_ptr<Impl>(new Impl{std::move(sockets.datagram), Acceptor(std::move(sockets.stream), source), std::move(service), std::move(source), intake, clock, resolver, limits, Fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), {}, {}});
  Impl* self = impl.get();
  impl->thread = start_source_thread("syslog", "syslog", {impl->source}, [self](const std::stop_token& stop) { self->loop(stop); });
  return std::unique_ptr<SyslogServer>(new SyslogServer(std::move(impl)));
}

}  // namespace culprit::ingest
