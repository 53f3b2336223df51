// ConfigWatch: configuration files under watch: that one was written, and that it began to violate a policy, are changes
// of the service that it belongs to, and can be causes.
//
// Files are looked at every kConfigEveryNs (size, inode, time of the last write); what is there at the start is the base line.
// Threads: one of its own; an exception in it ends the process. Limits: kConfigFilesMax files; a file that cannot be read or parsed is told once in the log.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "daemon/base/clock.h"
#include "daemon/base/result.h"
#include "daemon/stream/event.h"
#include "rules/policy.h"

namespace culprit::app {

inline constexpr std::int64_t kConfigEveryNs = 2 * kNsPerSecond;
inline constexpr std::size_t kConfigFilesMax = 2'000;

// What the thread does, apart from waiting; for one thread.
class ConfigLook {
 public:
  // `targets`: "PATH" or "SERVICE=PATH", files or folders; without a service the unit of a *.service file, else the folder's name.
  ConfigLook(std::vector<std::string> targets, std::shared_ptr<const rules::PolicySet> policies);
  // What changed since the last look; nothing at the first.
  std::vector<stream::Event> look(std::int64_t now_ns);
  std::size_t files() const { return known_.size(); }

 private:
  struct Known {
    std::uint64_t size = 0, inode = 0;
    std::int64_t written_ns = 0;
    std::vector<rules::PolicyFinding> findings{};
    bool operator==(const Known& other) const { return size == other.size && inode == other.inode && written_ns == other.written_ns; }
  };
  void look_at(const std::filesystem::path& file, const std::string& service, std::int64_t now_ns, std::map<std::string, Known>& seen, std::vector<stream::Event>& events);

  std::vector<std::string> targets_;
  std::shared_ptr<const rules::PolicySet> policies_;  // shared with nobody that changes it
  std::map<std::string, Known> known_;
  std::map<std::string, std::string> told_;  // file -> what is wrong with it
  bool first_ = true;
};

class ConfigWatch {
 public:
  using Sink = std::function<void(std::vector<stream::Event>)>;
  static std::unique_ptr<ConfigWatch> start(std::vector<std::string> targets, std::shared_ptr<const rules::PolicySet> policies, const Clock& clock, Sink sink);
  ~ConfigWatch();

 private:
  struct Impl;
  explicit ConfigWatch(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::app
