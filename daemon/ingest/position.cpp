#include "daemon/ingest/position.h"

#include <fmt/format.h>

#include <fstream>

namespace culprit::ingest {

Result<void> replace_file(const std::filesystem::path& path, std::string_view text) {
  const std::filesystem::path next = path.string() + ".new";
  std::error_code error;
  std::filesystem::create_directories(next.parent_path(), error);
  std::ofstream out(next, std::ios::trunc);
  out << text;
  out.close();
  if (!out) return fail(Code::Io, fmt::format("write '{}'", next.string()));
  std::filesystem::rename(next, path, error);
  if (error) return fail(Code::Io, fmt::format("rename '{}': {}", next.string(), error.message()));
  return {};
}

std::string read_position(const std::filesystem::path& path) {
  std::ifstream in(path);
  std::string text(kPositionBytesMax, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, in.gcount())));
  return text;
}

}  // namespace culprit::ingest
