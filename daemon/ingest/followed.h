// Followed: which files and journals are read by sources now, so that what the kernel shows of the same lines is not told twice.
// Threads: any.
#pragma once

#include <cstdint>
#include <map>
#include <utility>

#include "daemon/base/mutex.h"

namespace culprit::ingest {

class Followed {
 public:
  using File = std::pair<std::uint64_t, std::uint64_t>;  // device (major << 20 | minor, as the kernel's), inode

  // From now on every line that is written at or after since_ns is read by a source; 0: all that are in it, too.
  void begin(const File& file, std::int64_t since_ns) {
    const MutexLock lock(mutex_);
    Reading& reading = files_[file];
    reading.since_ns = reading.sources == 0 ? since_ns : std::min(reading.since_ns, since_ns);
    ++reading.sources;
  }
  void end(const File& file) {
    const MutexLock lock(mutex_);
    if (const auto found = files_.find(file); found != files_.end() && --found->second.sources == 0) files_.erase(found);
  }
  bool reads(const File& file, std::int64_t written_ns) const {
    const MutexLock lock(mutex_);
    const auto found = files_.find(file);
    return found != files_.end() && written_ns >= found->second.since_ns;
  }

  // Of LineMark::container_number: the log of that container is read by a source.
  void begin_container(std::uint64_t container) {
    const MutexLock lock(mutex_);
    ++containers_[container];
  }
  void end_container(std::uint64_t container) {
    const MutexLock lock(mutex_);
    if (const auto found = containers_.find(container); found != containers_.end() && --found->second == 0) containers_.erase(found);
  }
  bool reads_container(std::uint64_t container) const {
    const MutexLock lock(mutex_);
    return containers_.contains(container);
  }

  void begin_journal() { add_journal(1); }
  void end_journal() { add_journal(-1); }
  bool reads_journal() const {
    const MutexLock lock(mutex_);
    return journals_ > 0;
  }

 private:
  struct Reading {
    std::int64_t since_ns = 0;
    int sources = 0;
  };
  void add_journal(int count) {
    const MutexLock lock(mutex_);
    journals_ += count;
  }

  mutable Mutex mutex_;
  std::map<File, Reading> files_ GUARDED_BY(mutex_);
  std::map<std::uint64_t, int> containers_ GUARDED_BY(mutex_);
  int journals_ GUARDED_BY(mutex_) = 0;  // sources that follow the journal of this host
};

}  // namespace culprit::ingest
