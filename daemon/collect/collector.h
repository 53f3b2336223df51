// Collector: empties the rings that the sensor handed over, with no rights at all (mmap and epoll, no bpf(2)).
//
// Each poll() waits until a ring is a quarter full or the timeout passes, copies out what is there, checks every
// record, and gives one batch to the caller, ordered by time over all rings. A record made shortly before
// the poll is kept back until the next one, since another CPU may still be writing an earlier one.
//
// Conservation, per kind: produced = received + dropped, exactly, once the probes are quiet. produced and dropped
// are counted by the probes per CPU in a map that is mapped here; received is counted here.
//
// Threads: one owner calls poll(); counts() may be called from any thread.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <memory>

#include "daemon/base/clock.h"
#include "daemon/base/fd.h"
#include "daemon/base/result.h"
#include "daemon/collect/record.h"
#include "daemon/sensor/facts.h"

namespace culprit::collect {

// Descriptors as the sensor handed them over.
struct RingFds {
  std::vector<Fd> control;
  std::vector<Fd> data;
  Fd counters;
};

struct KindCounts {
  std::uint64_t produced = 0;
  std::array<std::uint64_t, CULPRIT_DROPS> dropped{};
  std::uint64_t received = 0;
};

struct CollectorCounts {
  std::array<KindCounts, CULPRIT_EVENT_KINDS> kinds{};
  std::uint64_t malformed = 0;       // records refused by valid_record: must stay 0
  std::uint64_t batches = 0;
  std::uint64_t backlog_bytes = 0;   // in the rings, not yet read
};

std::string_view drop_name(std::uint32_t reason);  // "ring_full", "budget", "fault"

class Collector {
 public:
  // Maps everything. Errors: Invalid (geometry and descriptors disagree), Io, Denied.
  static Result<std::unique_ptr<Collector>> open(const sensor::RingGeometry& geometry, RingFds fds,
                                                 const Clock& clock);
  ~Collector();

  // Waits at most `timeout` and replaces `batch` by what was found (possibly nothing). At most about
  // kBatchBytesMax at a time; the rest stays in the rings. Returns the number of records.
  Result<std::size_t> poll(std::chrono::milliseconds timeout, RecordBatch& batch);
  // Reads whatever is left without waiting and without keeping anything back (at the end of a sensor).
  Result<std::size_t> drain(RecordBatch& batch);
  // Makes a poll() in another thread return at once.
  void wake();

  CollectorCounts counts() const;

  static constexpr std::size_t kBatchBytesMax = 8 * 1024 * 1024;

 private:
  struct Impl;
  explicit Collector(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::collect
