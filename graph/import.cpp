#include "graph/import.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "daemon/base/text.h"

namespace culprit::graph {
namespace {

constexpr std::size_t kJsonDepthMax = 32;
constexpr std::size_t kTitleBytesMax = 500;
constexpr std::uint64_t kVerdictsMax = 1'000'000;  // about one failure mode, from one source

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1);
}

// Valid UTF-8 with its lines and tabs.
std::string clean(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto end = std::min(text.find_first_of("\n\t"), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    out += sanitize_utf8(line);
    if (end < text.size()) out += text[end];
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

// Collects sections: a heading ends the one before. A body that is too long goes on in further items.
class Sections {
 public:
  explicit Sections(std::string_view name) : stem_(std::filesystem::path(name).stem().string()), title_(stem_) {}

  void heading(std::string_view text, std::size_t line) {
    finish();
    const std::string name = sanitize_utf8(trim(text).substr(0, kTitleBytesMax));
    title_ = name.empty() ? stem_ : stem_ + ": " + name;
    line_ = line;
  }
  void add(std::string_view text) {
    body_ += clean(text);
    while (body_.size() > kItemBytesMax) {
      std::size_t cut = body_.rfind('\n', kItemBytesMax);
      if (cut == std::string::npos || cut < kItemBytesMax / 2) cut = kItemBytesMax;
      while (cut > 0 && (static_cast<unsigned char>(body_[cut]) & 0xC0U) == 0x80U) --cut;  // not inside a character
      std::string rest = body_.substr(cut);
      body_.resize(cut);
      flush();
      body_ = std::move(rest);
    }
  }
  std::vector<ImportItem> take() {
    finish();
    return std::move(items_);
  }

 private:
  void finish() {
    flush();
    part_ = 0;
  }
  void flush() {
    if (!trim(body_).empty()) {
      // A page without line ends has all its headings on one line.
      if (part_ == 0) same_line_ = line_ == flushed_line_ ? same_line_ + 1 : 0;
      flushed_line_ = line_;
      std::string key = same_line_ == 0 ? fmt::format("{}", line_) : fmt::format("{}.{}", line_, same_line_);
      if (part_ > 0) key += fmt::format("+{}", part_);
      items_.push_back({.key = std::move(key), .title = title_, .body = std::string(trim(body_))});
      ++part_;
    }
    body_.clear();
  }

  std::string stem_, title_, body_;
  std::size_t line_ = 1;
  std::size_t part_ = 0;
  std::size_t flushed_line_ = 0, same_line_ = 0;
  std::vector<ImportItem> items_;
};

template <typename Use>
void each_line(std::string_view bytes, Use use) {
  std::size_t number = 0;
  while (!bytes.empty()) {
    const auto end = std::min(bytes.find('\n'), bytes.size());
    use(bytes.substr(0, end), ++number);
    bytes.remove_prefix(std::min(end + 1, bytes.size()));
  }
}

std::vector<ImportItem> parse_markdown(std::string_view name, std::string_view bytes) {
  Sections sections(name);
  bool code = false;
  each_line(bytes, [&](std::string_view line, std::size_t number) {
    if (line.starts_with("```") || line.starts_with("~~~")) code = !code;
    if (!code && line.starts_with("#")) {
      const auto start = line.find_first_not_of('#');
      if (start <= 6 && (line[start] == ' ' || line[start] == '\t')) {
        sections.heading(line.substr(start), number);
        return;
      }
    }
    sections.add(line);
    sections.add("\n");
  });
  return sections.take();
}

bool same_name(std::string_view a, std::string_view b) {
  return a.size() == b.size() && std::ranges::equal(a, b, [](char x, char y) { return std::tolower(static_cast<unsigned char>(x)) == std::tolower(static_cast<unsigned char>(y)); });
}

// "&amp;" and the like, decimal and hexadecimal references; what is not known stays.
std::string decode_entities(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 6> kNamed = {{{"amp", "&"}, {"lt", "<"}, {"gt", ">"}, {"quot", "\""}, {"apos", "'"}, {"nbsp", " "}}};
  std::string out;
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto end = text[at] == '&' ? text.substr(at, 12).find(';') : std::string_view::npos;
    if (end == std::string_view::npos) {
      out += text[at];
      continue;
    }
    const std::string_view name = text.substr(at + 1, end - 1);
    const auto known = std::ranges::find_if(kNamed, [&](const auto& pair) { return pair.first == name; });
    if (known != kNamed.end()) {
      out += known->second;
    } else if (name.size() > 1 && name[0] == '#') {
      out += ' ';  // a character by number says nothing that is searched for
    } else {
      out += text[at];
      continue;
    }
    at += end;
  }
  return out;
}

// The text of a page in one pass, without a tree: no depth to run out of. Scripts, styles and comments are left out.
std::vector<ImportItem> parse_html(std::string_view name, std::string_view bytes) {
  Sections sections(name);
  std::string heading;
  bool in_heading = false;
  std::size_t heading_line = 1;
  std::size_t line = 1;
  const auto text = [&](std::string_view part) {
    if (in_heading) heading += decode_entities(part.substr(0, kTitleBytesMax));
    else sections.add(decode_entities(part));
  };
  for (std::size_t at = 0; at < bytes.size();) {
    if (bytes[at] != '<') {
      const auto end = std::min(bytes.find('<', at), bytes.size());
      text(bytes.substr(at, end - at));
      line += static_cast<std::size_t>(std::ranges::count(bytes.substr(at, end - at), '\n'));
      at = end;
      continue;
    }
    const std::size_t began = at;
    if (bytes.substr(at).starts_with("<!--")) {
      const auto end = bytes.find("-->", at + 4);
      at = end == std::string_view::npos ? bytes.size() : end + 3;
    } else {
      const auto end = std::min(bytes.find('>', at), bytes.size());
      std::string_view tag = bytes.substr(at + 1, end - at - 1);
      at = std::min(end + 1, bytes.size());
      const bool closing = tag.starts_with("/");
      if (closing) tag.remove_prefix(1);
      tag = tag.substr(0, tag.find_first_of(" \t\r\n/"));
      const bool is_heading = tag.size() == 2 && (tag[0] == 'h' || tag[0] == 'H') && tag[1] >= '1' && tag[1] <= '6';
      if (is_heading && !closing) {
        heading.clear();
        in_heading = true;
        heading_line = line;
      } else if (is_heading && in_heading) {
        in_heading = false;
        sections.heading(heading, heading_line);
      } else if (!closing && (same_name(tag, "script") || same_name(tag, "style") || same_name(tag, "template") || same_name(tag, "noscript"))) {
        // To its own end tag, whatever is between; without one, to the end of the file.
        std::size_t look = at;
        while (true) {
          look = bytes.find("</", look);
          if (look == std::string_view::npos) {
            at = bytes.size();
            break;
          }
          if (same_name(bytes.substr(look + 2, tag.size()), tag)) {
            const auto close = bytes.find('>', look);
            at = close == std::string_view::npos ? bytes.size() : close + 1;
            break;
          }
          look += 2;
        }
      } else if (!in_heading) {
        sections.add(same_name(tag, "p") || same_name(tag, "br") || same_name(tag, "li") || same_name(tag, "tr") || same_name(tag, "div") ? "\n" : " ");
      }
    }
    line += static_cast<std::size_t>(std::ranges::count(bytes.substr(began, at - began), '\n'));
  }
  return sections.take();
}

// nlohmann's parser recurses over nested arrays only as a state machine, but its values are destroyed by walking them:
// depth is bounded before a tree exists.
bool too_deep(std::string_view json) {
  std::size_t depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < json.size(); ++i) {
    const char c = json[i];
    if (quoted) {
      if (c == '\\') ++i;
      else if (c == '"') quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kJsonDepthMax) return true;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    }
  }
  return false;
}

Result<Imported> parse_json_lines(std::string_view name, std::string_view bytes) {
  Imported imported;
  std::vector<ImportItem>& items = imported.items;
  std::set<std::string> keys;
  std::string problem;
  each_line(bytes, [&](std::string_view line, std::size_t number) {
    if (!problem.empty() || trim(line).empty()) return;
    const auto wrong = [&](std::string_view what) { problem = fmt::format("{}:{}: {}", name, number, what); };
    if (items.size() == kImportItemsMax) return wrong(fmt::format("more than {} documents", kImportItemsMax));
    if (too_deep(line)) return wrong(fmt::format("nested deeper than {}", kJsonDepthMax));
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.is_object()) return wrong("no JSON object");
    const auto field = [&](const char* key) -> std::string {
      const auto at = json.find(key);
      return at != json.end() && at->is_string() ? clean(at->get<std::string>()) : std::string();
    };
    if (json.contains("failure_mode") && json.contains("right")) {
      const auto count = [&](const char* key) -> std::int64_t {
        const auto at = json.find(key);
        if (at == json.end() || !at->is_number_unsigned() || at->get<std::uint64_t>() > kVerdictsMax) return -1;
        return at->get<std::int64_t>();
      };
      SharedVerdict verdict{field("failure_mode"), count("right"), count("wrong"), count("partly")};
      if (verdict.failure_mode.empty() || verdict.right < 0 || verdict.wrong < 0 || verdict.partly < 0) {
        return wrong(fmt::format("verdicts need a 'failure_mode' and counts 'right', 'wrong', 'partly' of at most {}", kVerdictsMax));
      }
      if (!keys.insert("verdict of " + verdict.failure_mode).second) return wrong(fmt::format("verdicts about '{}' are given twice", verdict.failure_mode.substr(0, 80)));
      imported.verdicts.push_back(std::move(verdict));
      return;
    }
    ImportItem item{.key = field("id"), .collection = field("collection"), .middleware = field("middleware"), .title = field("title"), .body = field("text"), .signal = field("signal")};
    if (item.key.empty()) item.key = field("doc_id");
    if (item.key.empty()) item.key = fmt::format("{}", number);
    if (item.body.empty()) item.body = field("body");
    if (item.body.empty()) return wrong("'text' is missing: a string with what the document says");
    if (item.body.size() > kImportBytesMax / 4) return wrong("the text is too long");
    if (!keys.insert(item.key).second) return wrong(fmt::format("id '{}' is given twice", item.key.substr(0, 80)));
    items.push_back(std::move(item));
  });
  if (!problem.empty()) return fail(Code::Invalid, problem);
  return imported;
}

}  // namespace

bool import_format(const std::filesystem::path& file, ImportFormat& format) {
  static constexpr std::array<std::pair<std::string_view, ImportFormat>, 10> kFormats = {{{".md", ImportFormat::Markdown},
                                                                                         {".markdown", ImportFormat::Markdown},
                                                                                         {".html", ImportFormat::Html},
                                                                                         {".htm", ImportFormat::Html},
                                                                                         {".txt", ImportFormat::Text},
                                                                                         {".text", ImportFormat::Text},
                                                                                         {".rst", ImportFormat::Text},
                                                                                         {".adoc", ImportFormat::Text},
                                                                                         {".jsonl", ImportFormat::JsonLines},
                                                                                         {".ndjson", ImportFormat::JsonLines}}};
  const std::string extension = file.extension().string();
  const auto known = std::ranges::find_if(kFormats, [&](const auto& pair) { return same_name(pair.first, extension); });
  if (known == kFormats.end()) return false;
  format = known->second;
  return true;
}

Result<Imported> parse_import(std::string_view name, std::string_view bytes, ImportFormat format) {
  if (bytes.size() > kImportBytesMax) return fail(Code::Exhausted, fmt::format("'{}' has {} bytes, at most {} are imported", name, bytes.size(), kImportBytesMax));
  if (const auto nul = bytes.find('\0'); nul != std::string_view::npos) return fail(Code::Invalid, fmt::format("'{}' is binary, not text: a NUL at byte {}", name, nul));
  std::vector<ImportItem> items;
  switch (format) {
    case ImportFormat::Markdown: items = parse_markdown(name, bytes); break;
    case ImportFormat::Html: items = parse_html(name, bytes); break;
    case ImportFormat::Text: {
      Sections sections(name);
      sections.add(bytes);
      items = sections.take();
      break;
    }
    case ImportFormat::JsonLines: return parse_json_lines(name, bytes);
  }
  if (items.size() > kImportItemsMax) return fail(Code::Exhausted, fmt::format("'{}' has {} sections, at most {} are imported", name, items.size(), kImportItemsMax));
  return Imported{std::move(items), {}};
}

Result<std::vector<std::filesystem::path>> list_import(const std::filesystem::path& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (error) return fail_errno(error.value(), "import '" + path.string() + "'");
  if (!std::filesystem::is_directory(status)) return std::vector{path};
  std::vector<std::filesystem::path> files;
  std::filesystem::recursive_directory_iterator entries(path, std::filesystem::directory_options::skip_permission_denied, error);
  if (error) return fail_errno(error.value(), "import '" + path.string() + "'");
  for (; entries != std::filesystem::recursive_directory_iterator(); entries.increment(error)) {
    if (error) return fail_errno(error.value(), "import '" + path.string() + "'");
    ImportFormat format{};
    const auto extension = entries->path().extension();
    std::error_code ignored;  // a file that cannot be looked at is no regular file
    if (!entries->is_regular_file(ignored)) continue;
    if (!import_format(entries->path(), format) && extension != ".yaml" && extension != ".yml") continue;
    if (files.size() == kImportFilesMax) return fail(Code::Exhausted, fmt::format("more than {} files in '{}'", kImportFilesMax, path.string()));
    files.push_back(entries->path());
  }
  std::ranges::sort(files);
  return files;
}

Result<std::string> read_import(const std::filesystem::path& file) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  if (error) return fail_errno(error.value(), "read '" + file.string() + "'");
  if (size > kImportBytesMax) return fail(Code::Exhausted, fmt::format("'{}' has {} bytes, at most {} are imported", file.string(), size, kImportBytesMax));
  std::ifstream stream(file, std::ios::binary);
  std::string bytes(size, '\0');
  if (!stream.read(bytes.data(), static_cast<std::streamsize>(size))) return fail(Code::Io, "read '" + file.string() + "'");
  return bytes;
}

}  // namespace culprit::graph
