#include "daemon/explain/recorded/text_file.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>

#include "daemon/base/handle.h"

namespace culprit::explain {

namespace {

using GzFile = Handle<gzFile_s, gzclose>;

}  // namespace

Result<void> read_lines(const std::filesystem::path& file, const EachLine& each) {
  const GzFile in(gzopen(file.c_str(), "rbe"));  // reads plain files too
  if (!in) return fail_errno(errno, fmt::format("open '{}'", file.string()));
  gzbuffer(in.get(), 1U << 17U);
  std::string buffer(1U << 18U, '\0');
  std::string rest;  // the beginning of a line whose end was not read yet
  std::size_t number = 0;
  std::uint64_t total = 0;
  const auto hand_over = [&](std::string_view line) -> Result<void> {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (auto done = each(line, ++number); !done) return std::unexpected(done.error().context(fmt::format("'{}' line {}", file.string(), number)));
    return {};
  };
  for (;;) {
    const int got = gzread(in.get(), buffer.data(), static_cast<unsigned>(buffer.size()));
    if (got < 0) {
      int code = 0;
      const char* text = gzerror(in.get(), &code);
      return fail(Code::Corrupt, fmt::format("'{}': {}", file.string(), text));
    }
    if (got == 0) break;
    total += static_cast<std::uint64_t>(got);
    if (total > kFileBytesMax) return fail(Code::Exhausted, fmt::format("'{}' holds more than {} bytes", file.string(), kFileBytesMax));
    std::string_view text(buffer.data(), static_cast<std::size_t>(got));
    for (auto end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
      if (rest.empty()) {
        TRY(hand_over(text.substr(0, end)));
      } else {
        rest += text.substr(0, end);
        TRY(hand_over(rest));
        rest.clear();
      }
      text.remove_prefix(end + 1);
    }
    if (rest.size() + text.size() > kLineBytesMax) {
      return fail(Code::Exhausted, fmt::format("'{}' line {} is longer than {} bytes", file.string(), number + 1, kLineBytesMax));
    }
    rest += text;
  }
  int code = Z_OK;
  gzerror(in.get(), &code);
  if (code == Z_BUF_ERROR) return fail(Code::Corrupt, fmt::format("'{}' ends in the middle of a gzip stream", file.string()));
  if (!rest.empty()) TRY(hand_over(rest));
  return {};
}

Result<nlohmann::json> parse_object(std::string_view text) {
  nlohmann::json out;
  try {
    out = nlohmann::json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    const std::string_view before = text.substr(0, std::min(text.size(), error.byte > 0 ? error.byte - 1 : 0));
    const std::size_t line = before.rfind('\n');  // npos + 1 = 0
    return fail(Code::Invalid, fmt::format("line {}, column {}: not JSON", std::ranges::count(before, '\n') + 1, before.size() - (line + 1) + 1));
  } catch (const std::exception&) {
    return fail(Code::Invalid, "not JSON");
  }
  if (!out.is_object()) return fail(Code::Invalid, "no JSON object");
  return out;
}

std::filesystem::path find_file(const std::filesystem::path& directory, std::string_view name) {
  std::error_code ignored;  // what cannot be seen is not there
  for (const char* ending : {"", ".gz"}) {
    const std::filesystem::path file = directory / (std::string(name) + ending);
    if (std::filesystem::is_regular_file(file, ignored)) return file;
  }
  return {};
}

bool split_csv(std::string_view line, std::vector<std::string_view>& fields, std::string& buffer) {
  fields.clear();
  if (line.find('"') == std::string_view::npos) {
    for (;;) {
      const auto comma = line.find(',');
      fields.push_back(line.substr(0, comma));
      if (comma == std::string_view::npos) return true;
      line.remove_prefix(comma + 1);
    }
  }
  // Unquoted text goes to the buffer, whose place is fixed by reserving what the line can need at most.
  buffer.clear();
  buffer.reserve(line.size());
  std::size_t i = 0;
  for (;;) {
    const std::size_t begin = buffer.size();
    if (i < line.size() && line[i] == '"') {
      for (++i;; ++i) {
        if (i >= line.size()) return false;
        if (line[i] == '"') {
          if (i + 1 < line.size() && line[i + 1] == '"') ++i;
          else break;
        }
        buffer += line[i];
      }
      ++i;
    }
    while (i < line.size() && line[i] != ',') buffer += line[i++];
    fields.emplace_back(buffer.data() + begin, buffer.size() - begin);
    if (i >= line.size()) return true;
    ++i;
  }
}

}  // namespace culprit::explain
