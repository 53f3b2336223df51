// Exported incidents as labelled cases: the same seconds in the form in which a live ranking asks the blocks, and what
// people said of the answers.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>

#include "daemon/explain/learn/labelled.h"
#include "daemon/explain/live_case.h"
#include "daemon/explain/recorded/text_file.h"
#include "daemon/explain/replay.h"
#include "daemon/explain/scene.h"

namespace culprit::explain {

namespace {

constexpr std::uintmax_t kExportBytesMax = 2ULL << 30U;
constexpr std::string_view kHeader = "{\"culprit_export\"";  // keys are sorted, so that it comes first
constexpr double kPartly = 0.5;

// The kind of fault stays open: a failure mode is none of the kinds that recorded incidents are told by.
Label label_of(const std::vector<Said>& said) {
  Label out;
  const auto take = [&](std::string_view verdict, double weight) {
    for (const Said& one : said) {
      if (one.verdict == verdict && !one.service.empty()) out.service = one.service, out.weight = weight;
    }
    return !out.service.empty();
  };
  if (!take("right", 1)) take("partly", kPartly);
  // Another failure mode of the same service may be wrong while the service is right.
  for (const Said& one : said) {
    if (one.verdict == "wrong" && !one.service.empty() && one.service != out.service) out.rejected.push_back(one.service);
  }
  std::ranges::sort(out.rejected);
  out.rejected.erase(std::ranges::unique(out.rejected).begin(), out.rejected.end());
  return out;
}

Result<std::vector<std::filesystem::path>> exports_in(const std::filesystem::path& directory) {
  std::error_code error;
  std::vector<std::filesystem::path> out;
  for (auto entry = std::filesystem::directory_iterator(directory, error); !error && entry != std::filesystem::directory_iterator(); entry.increment(error)) {
    if (std::error_code unseen; !entry->is_regular_file(unseen)) continue;
    std::ifstream file(entry->path(), std::ios::binary);
    std::string start(kHeader.size(), '\0');
    if (file.read(start.data(), static_cast<std::streamsize>(start.size())) && start == kHeader) out.push_back(entry->path());
  }
  if (error) return fail(error == std::errc::no_such_file_or_directory ? Code::NotFound : Code::Io, fmt::format("'{}': {}", directory.string(), error.message()));
  std::ranges::sort(out);
  return out;
}

}  // namespace

bool holds_exports(const std::filesystem::path& directory) {
  if (!find_file(directory, "truth.jsonl").empty()) return false;
  const auto found = exports_in(directory);
  return found && !found->empty();
}

Result<std::pair<RecordedCase, Label>> exported_case(std::string_view text) {
  ASSIGN(const Replayable replay, import_incident(text));
  std::pair<RecordedCase, Label> out;
  out.second = label_of(replay.said);
  if (replay.incident.healthy() || (out.second.service.empty() && out.second.rejected.empty())) return out;
  ASSIGN(const Scene scene, Scene::load(*replay.store, replay.incident, replay.options));
  ASSIGN(out.first, live_case(*replay.store, scene));
  return out;
}

Result<ExportedCases> read_exported(const std::filesystem::path& directory, const std::function<Result<void>(RecordedCase&&, const Label&)>& each) {
  ExportedCases out;
  ASSIGN(const auto files, exports_in(directory));
  for (const std::filesystem::path& path : files) {
    std::error_code error;
    if (const auto size = std::filesystem::file_size(path, error); error || size > kExportBytesMax) {
      return fail(error ? Code::Io : Code::Exhausted, fmt::format("'{}': {}", path.string(), error ? error.message() : "too large for one incident"));
    }
    std::ifstream file(path, std::ios::binary);
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    auto read = exported_case(text);
    if (!read) return std::unexpected(read.error().context(fmt::format("'{}'", path.string())));
    auto& [one, label] = *read;
    if (one.candidates.empty()) {
      ++out.silent;
      continue;
    }
    ++out.labelled;
    one.id = path.filename().string();
    TRY(each(std::move(one), label));
  }
  return out;
}

}  // namespace culprit::explain
