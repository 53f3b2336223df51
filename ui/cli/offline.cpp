#include "ui/cli/offline.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>

#include "daemon/base/config.h"
#include "daemon/base/fd.h"

namespace culprit::cli {

Result<std::string> read_input(const std::string& file) {
  Fd opened;
  int fd = STDIN_FILENO;
  if (file != "-") {
    opened = Fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
    if (!opened) return fail_errno(errno, fmt::format("read '{}'", file));
    fd = opened.get();
  }
  std::string bytes;
  char buffer[1U << 16U];
  for (;;) {
    const ssize_t got = ::read(fd, buffer, sizeof(buffer));
    if (got == 0) return bytes;
    if (got < 0) {
      if (errno == EINTR) continue;
      return fail_errno(errno, fmt::format("read '{}'", file));
    }
    if (bytes.size() + static_cast<std::size_t>(got) > kInputBytesMax) {
      return fail(Code::Exhausted, fmt::format("'{}' is longer than {} bytes", file, kInputBytesMax));
    }
    bytes.append(buffer, static_cast<std::size_t>(got));
  }
}

std::filesystem::path state_folder(const Session& session) {
  if (!session.state_dir.empty()) return session.state_dir;
  const auto answer = session.client().get("/api/v1/config");
  const Json document = answer ? Json::parse(*answer, nullptr, false) : Json();
  for (const Json& row : list(document, "values")) {
    if (text(row, "key") == "state_dir") return text(row, "value");
  }
  return Config{}.state_dir;
}

std::filesystem::path own_folder(const Session& session) {
  return session.state_dir.empty() ? "/etc/culprit" : session.state_dir;
}

Result<std::shared_ptr<const graph::Knowledge>> load_knowledge(const Session& session) { return load_packs(session, {}); }

Result<std::shared_ptr<const graph::Knowledge>> load_packs(const Session& session, std::vector<graph::PackText> more) {
  graph::KnowledgeOptions options;
  options.packs = std::move(more);
  std::error_code ignored;  // a folder that cannot be seen counts as none
  const std::filesystem::path packs = own_folder(session) / "packs";
  if (std::filesystem::is_directory(packs, ignored)) options.pack_directories.push_back(packs);
  return graph::Knowledge::load(options);
}

}  // namespace culprit::cli
