// YAML as checked data: text -> a plain tree with line numbers, and a reader for maps that reports every
// mistake with file:line and the nearest key. The one place that calls yaml-cpp and catches its exceptions.
// Limits: kYamlNodesMax nodes after aliases are copied, so that no small file can grow large.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace culprit::graph {

inline constexpr std::size_t kYamlNodesMax = 500'000;
inline constexpr std::size_t kFindingsMax = 50;  // per file; the rest is one line with their number

// A place in a file, both from 1; column 0 = only the line is known.
struct Place {
  constexpr Place(int line_of, int column_of = 0) : line(line_of), column(column_of) {}  // NOLINT: a line is a place
  int line = 0;
  int column = 0;
};

struct Yaml {
  enum class Kind : std::uint8_t { Null, Scalar, List, Map };
  struct Key {
    std::string text;
    int line = 0;
    int column = 0;
    Place place() const { return {line, column}; }
  };
  Kind kind = Kind::Null;
  bool quoted = false;
  int line = 0;    // from 1
  int column = 0;  // from 1
  Place place() const { return {line, column}; }
  std::string text;
  std::vector<Key> keys;    // maps: keys[i] names items[i]
  std::vector<Yaml> items;  // maps and lists

  const Yaml* find(std::string_view key) const;  // null if absent or no map
};

// The first document. Errors: Invalid "name:line: what"; Exhausted.
Result<Yaml> parse_yaml(std::string_view name, std::string_view text);
// All documents, e.g. Kubernetes manifests.
Result<std::vector<Yaml>> parse_yaml_all(std::string_view name, std::string_view text);
class Findings;
// The same, with the mistake among the findings, so that it can show its line; nothing then.
std::optional<std::vector<Yaml>> parse_yaml_all(std::string_view text, Findings& findings);
std::optional<Yaml> parse_yaml(std::string_view text, Findings& findings);

std::optional<double> parse_number(std::string_view text);  // the whole text

// Mistakes of one file. With the file's text, each says line and column and shows the line with a caret below it.
class Findings {
 public:
  explicit Findings(std::string file) : file_(std::move(file)) {}
  Findings(std::string file, std::string_view text) : file_(std::move(file)), text_(text) {}  // `text` must outlive it
  void add(Place at, std::string_view what);
  void add_whole(std::string finding);  // has its file:line already
  bool empty() const { return lines_.empty(); }
  std::size_t size() const { return lines_.size() + held_back_; }
  std::string where(int line) const;  // "file:line"
  Result<void> result() const;        // Invalid with all of them

 private:
  std::string file_;
  std::string_view text_;
  std::vector<std::string> lines_;
  std::size_t held_back_ = 0;
};

enum class Need : std::uint8_t { Optional, Required };

// A map being read: ask for each key by name, then done() reports the keys nobody asked for.
class Fields {
 public:
  Fields(const Yaml& node, std::string_view what, Findings& findings);
  int line() const { return node_.line; }
  Place place() const { return node_.place(); }
  Findings& findings() { return findings_; }

  const Yaml* find(std::string_view key, Need need = Need::Optional);
  const Yaml* list(std::string_view key, Need need = Need::Optional);
  const Yaml* map(std::string_view key, Need need = Need::Optional);
  std::string text(std::string_view key, Need need = Need::Optional);
  std::vector<std::string> texts(std::string_view key);  // a list of scalars
  std::optional<double> number(std::string_view key, double least, double most, Need need = Need::Optional);
  std::optional<bool> flag(std::string_view key);
  // One of `choices`; nothing if absent or wrong.
  std::optional<std::size_t> choice(std::string_view key, std::span<const std::string_view> choices, Need need = Need::Optional);
  int line_of(std::string_view key) const { return place_of(key).line; }
  Place place_of(std::string_view key) const;  // of the key's name; of the map if it is not there
  void done();

 private:
  const Yaml& node_;
  std::string what_;
  Findings& findings_;
  std::vector<std::string> asked_;
};

// "did you mean 'x'?" for messages, empty if nothing is near.
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

// A short stable hash of texts (FNV-1a, 64 bits, hex): tells whether files changed, nothing more.
std::string hash_texts(std::span<const std::string_view> texts);

}  // namespace culprit::graph
