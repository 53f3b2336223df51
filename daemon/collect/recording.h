// Recording: ring records and snapshots in a `.events` file, for tests and for replaying an incident.
//
// File: 16 bytes of header ("CULPRITE", u32 CULPRIT_EVENTS_VERSION, u32 0), then chunks: u32 type (1 record, 2 part
// of a snapshot, 3 its end), u32 bytes, the bytes, zero padding to 8. A file cut short reads up to its last whole chunk.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "daemon/base/fd.h"
#include "daemon/base/result.h"
#include "daemon/collect/record.h"
#include "daemon/sensor/facts.h"

namespace culprit::collect {

class RecordingWriter {
 public:
  // Creates the file, or truncates it. Stops writing (Exhausted) at `bytes_max`.
  static Result<RecordingWriter> create(const std::filesystem::path& file, std::uint64_t bytes_max = 1ULL << 30);
  Result<void> add(RecordBytes record);
  Result<void> add(const RecordBatch& batch);
  Result<void> add(const sensor::Snapshot& snapshot);
  Result<void> flush();

 private:
  RecordingWriter(Fd fd, std::uint64_t bytes_max) : fd_(std::move(fd)), bytes_max_(bytes_max) {}
  Result<void> add_chunk(std::uint32_t type, std::span<const std::byte> bytes);
  Fd fd_;
  std::uint64_t bytes_max_;
  std::uint64_t bytes_ = 0;
  std::vector<std::byte> buffer_;
};

struct RecordingHandlers {
  std::function<void(RecordBytes)> on_record;  // valid until it returns
  std::function<void(const sensor::Snapshot&)> on_snapshot;
};

struct RecordingSummary {
  std::uint64_t records = 0;
  std::uint64_t snapshots = 0;
  std::uint64_t malformed = 0;  // chunks skipped
  bool truncated = false;
};

// Replays a file in its order. Errors: NotFound, Corrupt (no recording), Unsupported (another version).
Result<RecordingSummary> replay_recording(const std::filesystem::path& file, const RecordingHandlers& handlers);
// The same over bytes in memory.
Result<RecordingSummary> replay_recording(std::span<const std::byte> bytes, const RecordingHandlers& handlers);

}  // namespace culprit::collect
