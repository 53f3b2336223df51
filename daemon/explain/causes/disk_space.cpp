// Disk space and file systems: full, out of inodes, read-only, failing.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "daemon/base/clock.h"
#include "daemon/base/text.h"
#include "daemon/explain/draft.h"

namespace culprit::explain {

namespace {

constexpr double kFull = 0.98;

struct Sign {
  std::string_view errno_name, mode, words;
};
constexpr std::array kSigns = std::to_array<Sign>({
    {"ENOSPC", "linux-kernel/disk-full", "no space left"},
    {"EDQUOT", "linux-kernel/disk-full", "disk quota exceeded"},
    {"EROFS", "linux-kernel/fs-readonly", "the file system is read-only"},
    {"EIO", "linux-kernel/disk-io-error", "the disk reports errors"},
});

// The fullest file system; one that filled up lately before one that always was.
const View* full_mount(const Scene& scene, std::string_view series) {
  const View* best = nullptr;
  for (const View& view : scene.views()) {
    if (view.name != series || !view.entity.starts_with("mount:") || std::max(view.now, view.last) < kFull) continue;
    if (best == nullptr || view.score > best->score) best = &view;
  }
  return best;
}

// Who wrote much, and newly: it filled the disk.
const View* writer(const Scene& scene) {
  const View* best = nullptr;
  for (const View& view : scene.views()) {
    if (view.base_name != "disk.write.bytes" || !view.entity.starts_with("process:")) continue;
    if (!view.up() || view.onset_ns > scene.onset_ns() + 3 * kNsPerSecond) continue;
    if (best == nullptr || view.change() > best->change()) best = &view;
  }
  return best;
}

}  // namespace

void causes_disk_space(const Scene& scene, Drafts& drafts) {
  const View* blocks = full_mount(scene, "filesystem.used.ratio");
  const View* inodes = full_mount(scene, "filesystem.inodes.ratio");
  for (const View& view : scene.views()) {
    if (view.base_name != "syscall.errors" || !view.entity.starts_with("service:") || view.score < 0.5) continue;
    const auto sign = std::ranges::find(kSigns, view.label("errno"), &Sign::errno_name);
    if (sign == kSigns.end()) continue;
    const std::string service = scene.service_of_entity(view.entity);
    const bool space = sign->errno_name == "ENOSPC";
    const bool by_inodes = space && inodes != nullptr && blocks == nullptr;
    Draft draft = draft_of(scene, by_inodes ? "linux-kernel/inode-exhausted" : sign->mode, service);
    const View* mount = by_inodes ? inodes : blocks;
    const std::string where = space && mount != nullptr ? fmt::format(" on {}", mount->entity.substr(6)) : std::string();
    const std::string call(view.label("syscall"));
    draft.title = fmt::format("{}: {}{}, {} fails", service, by_inodes ? "no inodes left" : sign->words, where, call);
    draft.onset_ns = view.onset_ns;
    draft.add(weight::kErrno, view.onset_ns, fmt::format("{} of {} fails with {} {}", call, service, sign->errno_name, per_second(std::max(view.now, view.peak))), {"kernel"});
    if (space && mount != nullptr) {
      draft.add(mount->up() ? weight::kFullGauge : weight::kHint, mount->onset_ns != 0 ? mount->onset_ns : scene.onset_ns(),
                fmt::format("{} is {} full (normal {})", mount->entity.substr(6), percent(mount->now), percent(mount->normal)), {"file system"});
    }
    if (space) {
      if (const View* who = writer(scene); who != nullptr) {
        const Process* process = scene.process(parse_pid(who->entity));
        if (process != nullptr && process->service != service) {
          draft.trigger = Trigger{who->onset_ns, fmt::format("pid {} ({}) began to write {}/s", process->pid, process->command, format_bytes(std::max(who->now, who->peak)))};
        }
      }
    }
    if (scene.in_reach(service) || service == scene.root()) {
      locate(scene, draft, service);
    } else {
      draft.add(weight::kElsewhere, scene.onset_ns(), fmt::format("{} is not on the way of the requests", service), {"calls"});
    }
    // One candidate a service: the errno of most calls speaks for the rest.
    const auto twin = std::ranges::find_if(drafts, [&](const Draft& other) { return other.mode == draft.mode && other.service == draft.service; });
    if (twin == drafts.end()) {
      drafts.push_back(std::move(draft));
    } else if (draft.score() > twin->score()) {
      *twin = std::move(draft);
    }
  }
}

}  // namespace culprit::explain
