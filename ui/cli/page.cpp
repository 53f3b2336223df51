#include "ui/cli/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>

#include "daemon/base/clock.h"

namespace culprit::cli {
namespace {

constexpr std::size_t kGap = 2;             // between columns
constexpr std::size_t kLeftMin = 10;        // of both_ends
constexpr std::size_t kLastColumnMin = 20;  // a last column is never squeezed below this

bool starts_character(char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }

std::tm local(std::int64_t wall_ns) {
  const std::time_t seconds = wall_ns / kNsPerSecond;
  std::tm tm{};
  ::localtime_r(&seconds, &tm);
  return tm;
}

void trim_end(std::string& line) {
  while (!line.empty() && line.back() == ' ') line.pop_back();
}

}  // namespace

std::string paint(const Style& style, Paint color, std::string_view text) {
  if (!style.color || text.empty()) return std::string(text);
  static constexpr const char* kCodes[] = {"1", "2", "31", "33", "32"};
  return fmt::format("\x1b[{}m{}\x1b[0m", kCodes[static_cast<std::size_t>(color)], text);
}

std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\x1b') {
      const std::size_t end = text.find('m', i);
      if (end == std::string_view::npos) break;
      i = end;
    } else if (starts_character(text[i])) {
      ++width;
    }
  }
  return width;
}

std::string pad(std::string_view text, std::size_t width) {
  const std::size_t used = display_width(text);
  return std::string(text) + std::string(width > used ? width - used : 0, ' ');
}

std::string pad_left(std::string_view text, std::size_t width) {
  const std::size_t used = display_width(text);
  return std::string(width > used ? width - used : 0, ' ') + std::string(text);
}

std::string cut(std::string_view text, std::size_t width) {
  if (display_width(text) <= width) return std::string(text);
  std::size_t bytes = 0;
  for (std::size_t characters = 0; bytes < text.size(); ++bytes) {
    if (starts_character(text[bytes]) && characters++ == (width == 0 ? 0 : width - 1)) break;
  }
  return std::string(text.substr(0, bytes)) + "…";
}

std::vector<std::string> wrap(std::string_view text, std::size_t width) {
  std::vector<std::string> lines;
  std::string line;
  while (!text.empty()) {
    const std::size_t start = text.find_first_not_of(' ');
    if (start == std::string_view::npos) break;
    text.remove_prefix(start);
    const std::size_t end = std::min(text.find(' '), text.size());
    const std::string_view word = text.substr(0, end);
    text.remove_prefix(end);
    if (!line.empty() && display_width(line) + 1 + display_width(word) > width) {
      lines.push_back(std::move(line));
      line.clear();
    }
    if (!line.empty()) line += ' ';
    line += word;
  }
  if (!line.empty() || lines.empty()) lines.push_back(std::move(line));
  return lines;
}

std::string both_ends(std::string_view left, std::string_view right, std::size_t indent, std::size_t width) {
  const std::size_t right_width = display_width(right);
  if (right_width + kGap + indent + kLeftMin > width) {  // no room for both: one below the other
    const std::string below = both_ends(right, "", indent, width);
    return both_ends(left, "", indent, width) + std::string(indent, ' ') + below;
  }
  const std::size_t room = width - indent - right_width - (right.empty() ? 0 : kGap);
  std::string result;
  const std::vector<std::string> lines = wrap(left, room);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    std::string line = std::string(i == 0 ? 0 : indent, ' ') + lines[i];
    if (i == 0 && !right.empty()) line = pad(line, width - right_width - indent) + std::string(right);
    trim_end(line);
    result += line + "\n";
  }
  return result;
}

std::string local_time(std::int64_t wall_ns, std::int64_t now_wall_ns) {
  const std::tm then = local(wall_ns);
  const std::tm now = local(now_wall_ns);
  if (then.tm_year != now.tm_year || then.tm_yday != now.tm_yday) return local_date_time(wall_ns);
  return fmt::format("{:02}:{:02}:{:02}", then.tm_hour, then.tm_min, then.tm_sec);
}

std::string local_date_time(std::int64_t wall_ns) {
  const std::tm then = local(wall_ns);
  return fmt::format("{:02}-{:02} {:02}:{:02}:{:02}", then.tm_mon + 1, then.tm_mday, then.tm_hour,
                     then.tm_min, then.tm_sec);
}

std::string span_text(double seconds) {
  if (!(seconds >= 0) || seconds > 1e12) return "?";
  const auto whole = static_cast<std::int64_t>(seconds);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min", whole / 60);
  if (whole < 48 * 3600) return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
  return fmt::format("{} d {} h", whole / 86400, whole % 86400 / 3600);
}

std::string share_text(double share) {
  const double percent = std::clamp(share, -1e4, 1e4) * 100;
  // 99.97 must not read as complete, nor 0.004 as nothing.
  if (percent > 99.9 && percent < 100) return "> 99.9 %";
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  if (std::fabs(percent - std::round(percent)) < 0.05) return fmt::format("{:.0f} %", percent);
  return fmt::format("{:.1f} %", percent);
}

std::string rate_text(double per_s) {
  if (per_s == 0) return "0/s";
  if (!(std::fabs(per_s) < 1e12)) return "?";
  return per_s < 10 ? fmt::format("{:.2g}/s", per_s) : fmt::format("{:.0f}/s", per_s);
}

std::string Table::text(const Style& style, std::size_t indent) const {
  if (rows_.empty()) return "";
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = display_width(columns_[c].heading);
    for (const auto& row : rows_) {
      if (c < row.size()) width = std::max(width, display_width(row[c]));
    }
    widths.push_back(width);
  }
  std::size_t before_last = indent;
  for (std::size_t c = 0; c + 1 < widths.size(); ++c) before_last += widths[c] + kGap;
  const std::size_t last_room =
      std::max(kLastColumnMin, style.width > before_last ? style.width - before_last : 0);

  std::string result;
  const auto cell = [&](std::size_t c, std::string_view content) {
    return columns_[c].align == Align::Right ? pad_left(content, widths[c]) : pad(content, widths[c]);
  };
  const auto put = [&](const std::vector<std::string>& row, bool heading) {
    std::string line(indent, ' ');
    std::vector<std::string> rest;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::string content = c < row.size() ? row[c] : "";
      if (c > 0) line += std::string(kGap, ' ');
      if (c + 1 == columns_.size() && display_width(content) > last_room) {
        rest = wrap(content, last_room);
        line += rest.front();
        rest.erase(rest.begin());
      } else {
        line += cell(c, content);
      }
    }
    trim_end(line);
    result += (heading ? paint(style, Paint::Dim, line) : line) + "\n";
    for (const std::string& more : rest) result += std::string(before_last, ' ') + more + "\n";
  };
  std::vector<std::string> headings;
  bool any = false;
  for (const Column& column : columns_) {
    headings.push_back(column.heading);
    any = any || !column.heading.empty();
  }
  if (any) put(headings, true);
  for (const auto& row : rows_) put(row, false);
  return result;
}

}  // namespace culprit::cli
