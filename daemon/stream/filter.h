// Filter: the language that says which events are meant, for `culprit events`, the API and rules. One parser.
//
//   kind = log and severity >= error and "too many clients"
//   service = shop and (name = request.duration.* and value > 200ms or kind in (change, alert))
//   entity near service:shop/2 and not process.pid = 4211 and body ~ "timeout after [0-9]+"
//
// docs/events.md gives the grammar and its meaning. parse_filter() compiles the text once; matches() then looks at an
// event in place, allocates nothing and never fails. bounds() tells a store what every match must have, so
// that it can leave out blocks and columns before it looks at rows.
//
// Threads: a Filter never changes after parse_filter() and resolve(); copies share its program.
// Limits: kFilterBytesMax of text, kFilterTermsMax comparisons, kFilterDepthMax brackets and nots.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/stream/event.h"

namespace culprit::stream {

inline constexpr std::size_t kFilterBytesMax = 16 << 10;
inline constexpr std::size_t kFilterTermsMax = 1000;
inline constexpr std::size_t kFilterDepthMax = 50;
inline constexpr unsigned kFilterHopsMax = 5;

// One event, wherever it is kept. Borrows everything.
struct RowView {
  std::int64_t time_ns = 0;
  Kind kind = Kind::Sample;
  std::uint8_t severity = kUnset;
  double value = 0;
  std::string_view entity = {}, name = {}, body = {};
  std::uint64_t trace_id[2] = {0, 0};
  std::uint64_t span_id = 0;
  // The value of an attribute, or null data if there is none; `attributes` is handed back to `find`.
  const void* attributes = nullptr;
  std::string_view (*find)(const void* attributes, std::string_view name) = nullptr;

  std::string_view attribute(std::string_view key) const { return find == nullptr ? std::string_view() : find(attributes, key); }
};
RowView view_of(const Event& event);

// Who is how far from whom. The graph knows; the stream does not include it.
class Topology {
 public:
  virtual ~Topology() = default;
  // The entity itself and all within so many hops along calls, runs-on and uses, in any direction. NotFound
  // if there is no such entity.
  virtual Result<std::vector<std::string>> within(std::string_view entity, unsigned hops) const = 0;
};

class Filter {
 public:
  Filter() = default;  // matches everything

  bool empty() const { return program_ == nullptr; }
  bool matches(const RowView& row) const;
  bool matches(const Event& event) const { return empty() || matches(view_of(event)); }

  // What each match surely has; an empty field says nothing.
  struct Bounds {
    std::uint32_t kinds = ~0u;  // bit n: Kind n may match
    std::uint8_t severity_min = 0;
    std::vector<std::string> entities, names;  // one of these; exact, or a prefix if it ends in '*'
    std::vector<std::pair<std::string, std::string>> attributes;  // all of these
    std::vector<std::string> texts;            // all of these are in the body; ASCII case does not matter
  };
  const Bounds& bounds() const;
  bool reads_attributes() const;  // so that columns that nobody reads need not be decoded
  bool reads_body() const;
  bool reads_ids() const;

  // `near` needs the topology before the filter can be used; until then it matches nothing.
  bool needs_topology() const;
  // The same filter with each `near` replaced by its entities. Errors: those of Topology::within, with the place.
  Result<Filter> resolve(const Topology& topology) const;

  struct Program;

 private:
  friend class FilterParser;
  explicit Filter(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
  std::shared_ptr<const Program> program_;  // shared by copies; never changed
};

// An empty text (or only spaces) matches everything. Invalid: "filter, column 12: ..." (columns count bytes from 1).
Result<Filter> parse_filter(std::string_view text);

// Whether `text` holds `lower`, which is in lower case; ASCII case of `text` does not matter.
bool contains_lower(std::string_view text, std::string_view lower);

// The same for many texts: looks for the rarest character of `lower` first.
class LowerText {
 public:
  explicit LowerText(std::string lower);
  const std::string& text() const { return lower_; }
  bool in(std::string_view text) const;

 private:
  std::string lower_;
  std::size_t pivot_ = 0;
};

}  // namespace culprit::stream
