// Template miner: turns log lines into templates (the line with its variable parts cut out), online.
//
//   line -> header off -> words -> each word masked ("10.0.0.7:80" -> <*>, "uid=0" -> uid=<*>)
//        -> known masked line? its template
//        -> else the template of as many words that agrees but for words that look like values: made more general
//        -> else a new template; when many templates differ in one word only, that word is a variable: they merge
//
// The second step is Drain's (He et al., ICWS 2017) with one difference: plain words are constants until there is
// evidence (several distinct ones at one place) that they are not, so that "VM Started" and "VM Stopped" stay two.
//
// Deterministic: the same lines in the same order give the same templates and ids. A template's id is the hash of
// its text when it was made; the text may become more general later, the id stays. Merged templates keep one id;
// resolve() tells it for those given out before. save() and load() carry all of this over a restart, so that an id means
// the same kind of line after it, whatever comes first then. Limits: templates_max templates, of which the one that was used
// longest ago makes room for a new one (counted; about 1 KB each with all indexes, docs/performance.md), words_max words and
// line_bytes_max bytes of a line are looked at. Threads: one owner.
#pragma once

#include <cstdint>
#include <istream>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/logs/header.h"

namespace culprit::logs {

std::string template_name(std::uint64_t id);  // "t:" and 16 hex digits: an event's name

struct MinerOptions {
  std::size_t templates_max = 100'000;
  std::size_t words_max = 256;
  std::size_t line_bytes_max = 8192;
  bool headers = true;       // take headers off first
  bool parameters = false;   // also say what stands at each <*>
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
  std::vector<std::string> parameters = {};    // if asked for: what stands at each <*> (of the words looked at)
};

struct MinerStats {
  std::uint64_t lines = 0, templates = 0;
  std::uint64_t evicted = 0;   // templates that made room for others
  std::uint64_t evicted_lines = 0;  // that these had
  std::uint64_t cut = 0;       // lines longer than what is looked at
  std::uint64_t merged = 0;    // templates that became part of another
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
  std::uint64_t resolve(std::uint64_t id) const;  // the id of the template that it is part of now; else itself
  // (id, what it became part of), in order, since the last call.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> take_merges();
  std::string_view text(std::uint64_t id) const;  // as it is now; empty if it is unknown or forgotten; valid until the next add()

  // Errors of load: Corrupt, with the offset.
  std::string save() const;
  static Result<Miner> load(std::string_view saved, MinerOptions options = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The templates of a whole file: `culprit templates FILE`. Lines may end in \r\n; errors: Io.
Result<std::vector<Template>> mine_file(std::istream& in, const MinerOptions& options = {});

}  // namespace culprit::logs
