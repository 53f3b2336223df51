// Offline: what the commands without a daemon share: files, and the knowledge and rules of --state DIR.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "daemon/base/result.h"
#include "graph/knowledge.h"
#include "ui/cli/command.h"

namespace culprit::cli {

inline constexpr std::size_t kInputBytesMax = 1U << 30U;  // of one file or of standard input

// A file's bytes, or standard input's for "-". Errors: NotFound, Denied, Io with the file's name; Exhausted.
Result<std::string> read_input(const std::string& file);
// The same for what opens its file itself.
inline std::filesystem::path input_path(const std::string& file) { return file == "-" ? "/dev/stdin" : file; }

// The kinds of lines of a log file, most frequent first.
Result<Exit> show_templates(const Session& session, const std::string& bytes, std::size_t limit);

// Where events, incidents and the library are: --state DIR, else where the running daemon has them, else where it would.
std::filesystem::path state_folder(const Session& session);
// --state DIR, else /etc/culprit: its packs/ and rules/ count if they exist.
std::filesystem::path own_folder(const Session& session);
Result<std::shared_ptr<const graph::Knowledge>> load_knowledge(const Session& session);
// With these packs as well, which replace others of the same middleware.
Result<std::shared_ptr<const graph::Knowledge>> load_packs(const Session& session, std::vector<graph::PackText> packs);

}  // namespace culprit::cli
