// Page: text on a terminal. Widths count characters, not bytes; lines stay within `width` as far as words
// allow. Colour marks what words say already, and only where the style allows it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::cli {

inline constexpr std::size_t kWidth = 100;

struct Style {
  bool color = false;
  std::size_t width = kWidth;
  std::int64_t now_wall_ns = 0;  // decides which times need their date
};

enum class Paint { Bold, Dim, Red, Yellow, Green };

std::string paint(const Style& style, Paint color, std::string_view text);

std::size_t display_width(std::string_view text);  // characters; escape sequences of paint() are free
std::string pad(std::string_view text, std::size_t width);       // spaces behind
std::string pad_left(std::string_view text, std::size_t width);  // spaces before
std::string cut(std::string_view text, std::size_t width);       // "…" stands for what was cut off

// Words of `text` in lines of at most `width`; a longer word gets a line of its own.
std::vector<std::string> wrap(std::string_view text, std::size_t width);

// `left` and `right` at both ends of a line; `left` wraps before `right` would be touched.
std::string both_ends(std::string_view left, std::string_view right, std::size_t indent, std::size_t width);

// "14:02:08", or "11-22 14:02:08" if it is not of the same local day as `now`; "-" for nothing.
std::string local_time(std::int64_t wall_ns, std::int64_t now_wall_ns);
std::string local_date_time(std::int64_t wall_ns);  // "11-22 14:02:08"
std::string span_text(double seconds);              // "26 h 3 min", "12 s"
std::string share_text(double share);               // 0.999 -> "99.9 %"
std::string rate_text(double per_s);                // 410 -> "410/s"

// Rows under headings, columns as wide as their content. Empty tables have no lines at all.
class Table {
 public:
  enum class Align { Left, Right };
  struct Column {
    std::string heading;
    Align align = Align::Left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
  bool empty() const { return rows_.empty(); }
  // The last column takes what is left of the width and wraps there.
  std::string text(const Style& style, std::size_t indent = 1) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace culprit::cli
