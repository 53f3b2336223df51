// What a parsed filter consists of; only filter.cpp (meaning) and filter_parse.cpp (text) see it.
#pragma once

#include <optional>

#include "daemon/stream/filter.h"

namespace re2 {
class RE2;
}

namespace culprit::stream {

enum class Field { Kind, Entity, Name, Service, Severity, Value, Body, TraceId, SpanId, Attribute };
enum class Op { Equal, Less, LessEqual, More, MoreEqual, Contains, Regex, Has, Near };  // "!=" is a Not around Equal

struct Pattern {
  std::string text;  // in lower case for Contains
  bool glob = false;
};

struct Node {
  enum class Type { And, Or, Not, Test } type = Type::Test;
  std::vector<std::size_t> children = {};  // of And, Or, Not: indexes of nodes
  Field field = Field::Body;
  Op op = Op::Equal;
  std::size_t column = 0;              // where the text says it, from 1
  std::string attribute = {};
  std::vector<Pattern> patterns = {};  // any of these
  double number = 0;
  std::uint32_t kinds = 0;
  std::uint8_t severity_from = 0, severity_to = 255;
  std::vector<std::array<std::uint64_t, 2>> ids = {};
  std::shared_ptr<const re2::RE2> regex = {};  // shared by the copies of a filter; RE2 may be used by many threads
  unsigned hops = 0;
};

struct Filter::Program {
  std::vector<Node> nodes;
  std::size_t root = 0;
  // Found by finish().
  Bounds bounds;
  bool reads_attributes = false, reads_body = false, reads_ids = false, needs_topology = false;

  void finish();
};

// "0.2", "200ms" (0.2), "64MiB", "5%". Nothing if it is no number, or not finite.
std::optional<double> parse_number(std::string_view text);

}  // namespace culprit::stream
