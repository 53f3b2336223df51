// LineMark: what shows that a log line which came in two ways is one: the file that it stands in, and its text.
//
// Tracking, which sees a write, and a source, which reads what was written, both put it on their events; ingest/line_twins.h
// joins the two and takes the mark off again, so that none is stored.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "daemon/stream/event.h"

namespace culprit::stream {

struct LineMark {
  static constexpr std::string_view kAttribute = "line.mark";
  static constexpr std::size_t kTextBytes = 200;  // of a line that are looked at: the kernel shows 512 bytes of a write

  std::uint64_t device = 0, inode = 0;  // of a regular file, device = major << 20 | minor; 0: something else
  std::uint64_t text = 0;               // hash of the begin of the line
  bool guessed = false;                 // whose line it is was guessed by the name of the file
  std::uint64_t container = 0;          // whose output it is, by container_number(); 0: none, or nobody knows

  bool operator==(const LineMark&) const = default;

  static std::uint64_t hash(std::string_view line) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ' || line.back() == '\0')) line.remove_suffix(1);
    return hash_of(line.substr(0, kTextBytes));
  }

  // The id of a container in a path of its log or of its cgroup: 64 hexadecimal digits and no more. Empty if there is none.
  static std::string_view container_in(std::string_view path) {
    std::size_t begin = 0;
    for (std::size_t at = 0; at <= path.size(); ++at) {
      if (at < path.size() && ((path[at] >= '0' && path[at] <= '9') || (path[at] >= 'a' && path[at] <= 'f'))) continue;
      if (at - begin == 64) return path.substr(begin, 64);
      begin = at + 1;
    }
    return {};
  }
  static std::uint64_t container_number(std::string_view path) {
    const std::string_view id = container_in(path);
    return id.empty() ? 0 : hash_of(id);
  }

 private:
  static std::uint64_t hash_of(std::string_view bytes) {
    std::uint64_t hash = 0xcbf29ce484222325;
    for (const char c : bytes) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
    return hash;
  }
};

inline void put_line_mark(Event& event, const LineMark& mark) {
  std::string text;
  for (const std::uint64_t number : {mark.device, mark.inode, mark.text, std::uint64_t{mark.guessed}, mark.container}) {
    char digits[16];
    text.append(digits, std::to_chars(digits, digits + sizeof(digits), number, 16).ptr);
    text += ' ';
  }
  event.attributes.emplace_back(LineMark::kAttribute, text);
}

inline std::optional<LineMark> parse_line_mark(std::string_view text) {
  std::uint64_t numbers[5] = {};
  const char* from = text.data();
  const char* const end = from + text.size();
  for (std::uint64_t& number : numbers) {
    const auto [rest, error] = std::from_chars(from, end, number, 16);
    if (error != std::errc() || rest == end || *rest != ' ') return std::nullopt;
    from = rest + 1;
  }
  return LineMark{numbers[0], numbers[1], numbers[2], numbers[3] != 0, numbers[4]};
}

// Nothing if there is none.
inline std::optional<LineMark> line_mark(const Event& event) { return parse_line_mark(event.attribute(LineMark::kAttribute)); }

// The same, and takes it off the event.
inline std::optional<LineMark> take_line_mark(Event& event) {
  const auto mark = line_mark(event);
  event.attributes.erase_if([](const auto& attribute) { return attribute.first == LineMark::kAttribute; });
  return mark;
}

}  // namespace culprit::stream
