// The answer to "why?": headline, ranked causes with dated evidence, how complete the evidence was.
#include <fmt/format.h>

#include <algorithm>

#include "ui/cli/render.h"

namespace culprit::cli {
namespace {

constexpr std::size_t kIndent = 6;          // of what stands under a cause
constexpr std::size_t kEvidenceFirst = 8;   // lines shown for the first cause
constexpr std::size_t kEvidenceOthers = 3;  // and for each other
constexpr std::size_t kTextColumnMin = 40;  // narrower, and the sources go below

struct Line {
  std::string time, text, sources;
};

std::string joined(const std::vector<std::string>& parts) {
  std::string line;
  for (const std::string& part : parts) line += (line.empty() ? "" : ", ") + part;
  return line;
}

// One width for all times of an answer, so that texts stand in one column.
class Times {
 public:
  Times(const Json& document, const Style& style) : now_ns_(style.now_wall_ns) {
    for (const Json& cause : list(document, "candidates")) {
      look(wall_ns(field(cause, "trigger"), "time"));
      for (const Json& evidence : list(cause, "evidence")) look(wall_ns(evidence, "time"));
    }
  }
  std::size_t width() const { return dated_ ? 14 : 8; }
  std::string text(std::optional<std::int64_t> time) const {
    if (!time) return "";
    return dated_ ? local_date_time(*time) : local_time(*time, now_ns_);
  }

 private:
  void look(std::optional<std::int64_t> time) {
    dated_ = dated_ || (time && local_time(*time, now_ns_).size() > 8);
  }

  std::int64_t now_ns_;
  bool dated_ = false;
};

std::vector<Line> lines_of(const Json& cause, const Times& times, std::size_t limit) {
  std::vector<Line> lines;
  const Json& trigger = field(cause, "trigger");
  const std::string trigger_text = text(trigger, "text");
  bool told = trigger_text.empty();
  for (const Json& evidence : list(cause, "evidence")) told = told || text(evidence, "text") == trigger_text;
  if (!told) lines.push_back({times.text(wall_ns(trigger, "time")), trigger_text, "[trigger]"});
  std::size_t hidden = 0;
  for (const Json& evidence : list(cause, "evidence")) {
    if (lines.size() >= limit) {
      ++hidden;
      continue;
    }
    const bool against = field(evidence, "for").is_boolean() && !truth(evidence, "for");
    const std::string sources = joined(texts(evidence, "sources"));
    lines.push_back({times.text(wall_ns(evidence, "time")), (against ? "but: " : "") + text(evidence, "text"),
                     sources.empty() ? "" : "[" + sources + "]"});
  }
  if (hidden > 0) lines.push_back({"", fmt::format("and {} more (--all)", hidden), ""});
  return lines;
}

void put_lines(std::string& out, const std::vector<Line>& lines, const Times& times, const Style& style) {
  const std::size_t start = kIndent + times.width() + 2;
  const std::size_t room = style.width - start;
  std::size_t text_width = 0;
  std::size_t sources_width = 0;
  for (const Line& line : lines) {
    sources_width = std::max(sources_width, display_width(line.sources));
    if (!line.sources.empty()) text_width = std::max(text_width, display_width(line.text));
  }
  // Texts stand in one column with their sources behind it; sources too long for that stand below their text.
  const bool beside = sources_width + 2 + kTextColumnMin <= room;
  const std::size_t column = beside ? std::min(text_width, room - sources_width - 2) : room;
  for (const Line& line : lines) {
    const std::vector<std::string> parts = wrap(line.text, line.sources.empty() ? room : column);
    out += std::string(kIndent, ' ') + pad(line.time, times.width()) + "  ";
    if (beside && !line.sources.empty()) {
      out += pad(parts.front(), column) + "  " + paint(style, Paint::Dim, line.sources) + "\n";
    } else {
      out += parts.front() + "\n";
    }
    for (std::size_t i = 1; i < parts.size(); ++i) out += std::string(start, ' ') + parts[i] + "\n";
    if (beside || line.sources.empty()) continue;
    for (const std::string& part : wrap(line.sources, room))
      out += std::string(start, ' ') + paint(style, Paint::Dim, part) + "\n";
  }
}

void put_labelled(std::string& out, const std::string& label, const std::string& content,
                  const Style& style) {
  const std::vector<std::string> parts = wrap(content, style.width - kIndent - label.size() - 1);
  for (std::size_t i = 0; i < parts.size(); ++i) {
    out += std::string(kIndent, ' ') + (i == 0 ? label + " " : std::string(label.size() + 1, ' ')) +
           parts[i] + "\n";
  }
}

void put_cause(std::string& out, const Json& cause, std::size_t position, const Times& times,
               const Style& style, bool all) {
  const std::string rank = number(cause, "rank") ? whole(cause, "rank") : std::to_string(position);
  const auto confidence = number(cause, "confidence");
  const std::string right =
      confidence ? fmt::format("confidence {:.2f}", std::clamp(*confidence, 0.0, 1.0)) : "";
  std::string title = text(cause, "title", "(no title)");
  const std::string head = both_ends(title, right, 4, style.width);
  const std::size_t first = std::min(head.find('\n'), head.size());
  const std::string label = pad_left(rank, 2) + "  ";
  out += position == 1 ? paint(style, Paint::Bold, label + head.substr(0, first))
                       : label + head.substr(0, first);
  out += head.substr(first);
  const std::size_t limit = all ? SIZE_MAX : position == 1 ? kEvidenceFirst : kEvidenceOthers;
  put_lines(out, lines_of(cause, times, limit), times, style);
  if (const std::string out_of = joined(texts(cause, "ruled_out")); !out_of.empty())
    put_labelled(out, "ruled out:", out_of, style);
  bool first_next = true;
  for (const std::string& next : texts(cause, "next")) {
    // A command to copy is never wrapped.
    out += std::string(kIndent, ' ') + (first_next ? "next: " : "      ") + next + "\n";
    first_next = false;
  }
}

}  // namespace

std::string render_completeness(const Json& completeness, const Style& style) {
  const auto share = number(completeness, "share");
  if (!share) return "";
  const std::string detail = text(completeness, "text");
  std::string line = fmt::format("evidence {} complete", share_text(*share));
  if (!detail.empty()) line += fmt::format(" ({})", detail);
  const std::vector<std::string> blind = texts(completeness, "blind");
  if (!blind.empty()) line += "; blind: " + joined(blind);
  std::string out;
  for (const std::string& part : wrap(line, style.width - 1))
    out += " " + paint(style, *share < 0.95 ? Paint::Yellow : Paint::Dim, part) + "\n";
  return out;
}

std::string render_explanation(const Json& document, const Style& style, bool all) {
  const auto incident = number(document, "incident");
  const std::string state = text(document, "state");
  std::string right = incident ? "incident " + whole(document, "incident") : "";
  if (incident && state != "open" && !state.empty()) right += fmt::format(" ({})", state);
  const std::string head = both_ends(text(document, "headline", "(no headline)"), right, 0, style.width);
  const std::size_t first = std::min(head.find('\n'), head.size());
  std::string out = paint(style, Paint::Bold, head.substr(0, first)) + head.substr(first);

  const Times times(document, style);
  const Json& causes = list(document, "candidates");
  std::size_t position = 0;
  for (const Json& cause : causes) {
    if (!all && position == kCausesShown) break;
    put_cause(out, cause, ++position, times, style, all);
  }
  if (causes.size() > position) out += fmt::format(" ... {} less likely (--all)\n", causes.size() - position);
  if (const std::string collect = text(document, "inconclusive"); !collect.empty()) {
    const std::string label = " inconclusive: ";
    const std::vector<std::string> parts = wrap(collect, style.width - label.size());
    for (std::size_t i = 0; i < parts.size(); ++i)
      out += (i == 0 ? label : std::string(label.size(), ' ')) + parts[i] + "\n";
  } else if (text(document, "verdict") == "healthy") {
    out += " nothing to explain: no symptom in this window (a longer one: --since 1h)\n";
  }
  return out + render_completeness(field(document, "completeness"), style);
}

}  // namespace culprit::cli
