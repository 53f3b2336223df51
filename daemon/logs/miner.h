// Template miner: turns log lines into templates (the line with its variable parts cut out), online.
//
// The idea is Drain's (He et al., ICWS 2017): lines of equal length in words that agree in most words are one
// template. Before that, words that look like numbers, addresses, paths, times and other values are masked, and
// the header that programs put before a message (time, host, pid, level, logger) is taken off.
//
// Deterministic: the same lines in the same order give the same templates and ids. A template's id is the hash
// of its text when it was made; the text may become more general later, the id never changes.
// Limits: templates_max templates (further new ones fall into the template "<overflow>", counted), words_max
// words and line_bytes_max bytes of a line are looked at. Threads: one owner.
#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/stream/event.h"

namespace culprit::logs {

// A line without its header. Everything borrows from the line.
struct Message {
  std::string_view text;                          // the message; JSON lines: see split_header
  std::uint8_t severity = stream::kUnset;         // as the header says it
  std::string_view program;                       // syslog's tag, a logger's name; may be empty
};

// Takes the header off: syslog (RFC 3164, RFC 5424), nginx and Apache error logs, PostgreSQL, Redis, Java
// (logback, log4j), Python logging, klog, plain ISO times, logfmt and JSON lines (their message field; `buffer`
// then holds the unescaped text). A line with no known header is all message.
Message split_header(std::string_view line, std::string& buffer);

// Severity by header, else by the words of the line; kUnset if neither says.
std::uint8_t severity_of(std::string_view line);

std::string template_name(std::uint64_t id);  // "t:" and 16 hex digits: an event's name

struct MinerOptions {
  std::size_t templates_max = 20'000;
  std::size_t words_max = 256;
  std::size_t line_bytes_max = 8192;
  double similarity = 0.5;   // share of equal words from which a line belongs to a template
  bool headers = true;       // take headers off first
};

struct Template {
  std::uint64_t id = 0;
  std::string text;          // "Accepted password for <*> from <*> port <*> ssh2"
  std::uint64_t lines = 0;
  std::uint8_t severity = stream::kUnset;  // of its first line
  std::string example;       // its first message
};

struct Match {
  std::uint64_t template_id = 0;
  std::string_view text;     // the template's text; valid until the next add()
  bool is_new = false;       // made by this line
  std::uint8_t severity = stream::kUnset;  // severity_of(line)
  std::vector<std::string_view> parameters;  // what stands at each <*>; borrows from the line, else empty
};

struct MinerStats {
  std::uint64_t lines = 0, templates = 0, overflow = 0, cut = 0;
};

class Miner {
 public:
  explicit Miner(MinerOptions options = {});
  ~Miner();
  Miner(Miner&&) noexcept;
  Miner& operator=(Miner&&) noexcept;

  Match add(std::string_view line);
  std::vector<Template> templates() const;  // most lines first, then by text
  MinerStats stats() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The templates of a whole file: `culprit templates FILE`. Lines may end in \r\n; errors: Io.
Result<std::vector<Template>> mine_file(std::istream& in, const MinerOptions& options = {});

}  // namespace culprit::logs
