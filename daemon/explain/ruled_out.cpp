// What was looked at and is well, with its measured value. What was not measured is not ruled out.
#include <fmt/format.h>

#include <algorithm>

#include "daemon/base/text.h"
#include "daemon/explain/rank.h"

namespace culprit::explain {

namespace {

enum Family : unsigned { kCpu = 1, kDisk = 2, kMemory = 4, kNetwork = 8 };

unsigned family_of(std::string_view mode) {
  if (mode.find("cpu") != std::string_view::npos) return kCpu;
  if (mode.find("disk") != std::string_view::npos || mode.find("/fs-") != std::string_view::npos || mode.find("inode") != std::string_view::npos) return kDisk;
  if (mode.find("oom") != std::string_view::npos || mode.find("memory") != std::string_view::npos) return kMemory;
  if (mode.find("tcp") != std::string_view::npos || mode.find("network") != std::string_view::npos) return kNetwork;
  return 0;
}

constexpr double kFlowFelt = 0.1;

// The worst value of a series among the services on the way; nothing if it was not measured or deviates.
const View* well(const Scene& scene, std::initializer_list<std::string_view> series) {
  const View* worst = nullptr;
  for (const auto& [service, flow] : scene.reach()) {
    if (flow < kFlowFelt) continue;
    for (const std::string_view name : series) {
      const View& view = scene.of_service(service, name);
      if (view.now_points == 0) continue;
      if (view.up()) return nullptr;
      if (worst == nullptr || view.now > worst->now) worst = &view;
    }
  }
  return worst;
}

}  // namespace

std::vector<std::string> ruled_out(const Scene& scene, const Draft& draft) {
  std::vector<std::string> out;
  const unsigned blamed = family_of(draft.mode);
  if (!(blamed & kCpu)) {
    if (const View* wait = well(scene, {"cpu.run_queue.mean"})) {
      out.push_back(fmt::format("cpu (run-queue wait {})", format_seconds(wait->now)));
    } else if (const View* share = well(scene, {"cpu.run_queue.wait"})) {
      out.push_back(fmt::format("cpu (waits {:.2f} s/s)", share->now));
    }
  }
  if (!(blamed & kDisk)) {
    if (const View* fsync = well(scene, {"fsync.mean"})) {
      out.push_back(fmt::format("disk (fsync {})", format_seconds(fsync->now)));
    } else if (scene.any("disk.latency.mean") || scene.any("fsync.mean")) {
      const bool slow = std::ranges::any_of(scene.views(), [](const View& view) {
        return view.up() && (view.base_name == "disk.latency.mean" || view.base_name == "fsync.mean" || view.base_name == "disk.wait");
      });
      if (!slow) out.emplace_back("disk");
    }
  }
  if (!(blamed & kMemory)) {
    const View& available = scene.find("host", "memory.available.ratio");
    if (const View* limit = well(scene, {"memory.limit.ratio"}); limit != nullptr && limit->now < 0.9) {
      out.push_back(fmt::format("memory ({} of the limit)", percent(limit->now)));
    } else if (limit == nullptr && available.now_points > 0 && available.now > 0.1) {
      out.push_back(fmt::format("memory ({} free)", percent(available.now)));
    }
  }
  for (const Edge* edge : scene.callees_of(scene.root())) {
    if (edge->callee == draft.service || edge->share >= 0.15 || edge->suspicious) continue;
    if (out.size() >= 6) break;
    if (edge->callee.find(':') != std::string::npos) continue;  // an address: nobody we know
    out.push_back(edge->wait_now > 0 ? fmt::format("{} ({} of the time)", edge->callee, percent(edge->wait_now)) : edge->callee);
  }
  if (!(blamed & kNetwork) && !scene.edges().empty()) {
    const bool trouble = std::ranges::any_of(scene.views(), [](const View& view) {
      return view.up() && view.entity.starts_with("edge:") && (view.base_name == "tcp.retransmits" || view.base_name == "tcp.resets" || view.base_name == "tcp.rtt");
    });
    if (!trouble) out.emplace_back("network");
  }
  return out;
}

}  // namespace culprit::explain
