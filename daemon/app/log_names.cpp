#include "daemon/app/log_names.h"

#include <fmt/format.h>

#include <charconv>
#include <fstream>
#include <iterator>

#include "daemon/base/log.h"
#include "daemon/ingest/position.h"

namespace culprit::app {
namespace {

constexpr std::int64_t kSaveEveryNs = 60 * kNsPerSecond;

}  // namespace

void LogNames::load() {
  if (folder_.empty()) return;
  const auto read = [&](const char* name) {
    std::ifstream file(folder_ / name, std::ios::binary);
    return std::string(std::istreambuf_iterator<char>(file), {});
  };
  const auto anew = [&](const char* name, const Error& why) { log::warn("'{}': {}; beginning anew", (folder_ / name).string(), why.message); };
  const MutexLock lock(mutex_);
  if (const std::string bytes = read("templates"); !bytes.empty()) {
    if (auto loaded = logs::Miner::load(bytes)) miner_ = std::move(*loaded);
    else anew("templates", loaded.error());
  }
  if (const std::string bytes = read("sightings"); !bytes.empty()) {
    if (auto loaded = logs::Sightings::load(bytes)) sightings_ = std::move(*loaded);
    else anew("sightings", loaded.error());
  }
}

void LogNames::save(std::int64_t now_ns, bool last) {
  if (folder_.empty() || (!last && now_ns - saved_ns_ < kSaveEveryNs)) return;
  std::string templates, seen;
  {
    const MutexLock lock(mutex_);
    const logs::MinerStats stats = miner_.stats();
    const std::uint64_t made = stats.templates + stats.merged + stats.evicted;
    if (stats.lines == 0 || (!last && made == saved_templates_)) return;
    saved_templates_ = made;
    templates = miner_.save();
    seen = sightings_.save();
  }
  saved_ns_ = now_ns;
  for (const auto& [name, bytes] : {std::pair("templates", &templates), std::pair("sightings", &seen)}) {
    if (auto done = ingest::replace_file(folder_ / name, *bytes); !done) log::warn("{}; templates may get other ids after a restart", done.error().message);
  }
}

void LogNames::name(std::vector<stream::Event>& events, std::int64_t wall_offset_ns) {
  const MutexLock lock(mutex_);
  for (stream::Event& event : events) {
    if (event.kind != stream::Kind::Log || !event.name.empty()) continue;
    // What names its kind of line by itself (an access log, whose lines differ in every field) is mined by that.
    const std::string_view shape = event.attribute("template");
    const bool given = !shape.empty();
    const logs::Match match = miner_.add(given ? shape : std::string_view(event.body));
    event.name = logs::template_name(match.template_id);
    if (event.severity == stream::kUnset) event.severity = match.severity;
    if (!given) event.attributes.emplace_back("template", match.text);
    for (const auto& [from, into] : miner_.take_merges()) sightings_.merge(from, into);
    sightings_.add(match.template_id, event.entity, event.time_ns + wall_offset_ns);
    if (match.is_new) event.attributes.emplace_back("template.new", "1");
  }
}

logs::MinerStats LogNames::stats() const {
  const MutexLock lock(mutex_);
  return miner_.stats();
}

KnownPattern LogNames::pattern(std::string_view name, std::string_view entity) const {
  KnownPattern known;
  known.name = name;
  std::uint64_t id = 0;
  if (!name.starts_with("t:") || std::from_chars(name.data() + 2, name.data() + name.size(), id, 16).ec != std::errc()) return known;
  const MutexLock lock(mutex_);
  id = miner_.resolve(id);
  known.name = logs::template_name(id);
  known.text = miner_.text(id);
  known.began_wall_ns = sightings_.began_wall_ns();
  if (const logs::Sighting* sighting = sightings_.find(id, entity); sighting != nullptr) known.sighting = *sighting;
  return known;
}

}  // namespace culprit::app
