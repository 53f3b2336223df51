#include "daemon/collect/recording.h"

#include <fcntl.h>

#include <cerrno>
#include <fmt/format.h>

#include "daemon/sensor/protocol.h"

namespace culprit::collect {
namespace {

constexpr char kMagic[8] = {'C', 'U', 'L', 'P', 'R', 'I', 'T', 'E'};
constexpr std::size_t kFileHead = 16;
constexpr std::size_t kChunkHead = 8;
constexpr std::uint32_t kChunkRecord = 1;
constexpr std::uint32_t kChunkSnapshotPart = 2;
constexpr std::uint32_t kChunkSnapshotEnd = 3;  // the parts before it are one snapshot
constexpr std::size_t kBufferBytes = 256 * 1024;

template <typename T>
T load(std::span<const std::byte> bytes, std::size_t at) {
  T value;
  std::memcpy(&value, bytes.data() + at, sizeof(T));
  return value;
}

}  // namespace

Result<RecordingWriter> RecordingWriter::create(const std::filesystem::path& file, std::uint64_t bytes_max) {
  Fd fd(::open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, "create '" + file.string() + "'");
  RecordingWriter writer(std::move(fd), bytes_max);
  sensor::Writer out(writer.buffer_);
  out.put(kMagic);
  out.put(std::uint32_t{CULPRIT_EVENTS_VERSION});
  out.put(std::uint32_t{0});
  return writer;
}

Result<void> RecordingWriter::add_chunk(std::uint32_t type, std::span<const std::byte> bytes) {
  const std::size_t padded = (bytes.size() + 7) / 8 * 8;
  if (bytes_ + kChunkHead + padded > bytes_max_) return fail(Code::Exhausted, "the recording is full");
  bytes_ += kChunkHead + padded;
  sensor::Writer out(buffer_);
  out.put(type);
  out.put(static_cast<std::uint32_t>(bytes.size()));
  buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  buffer_.resize(buffer_.size() + padded - bytes.size());
  return buffer_.size() >= kBufferBytes ? flush() : Result<void>();
}

Result<void> RecordingWriter::add(RecordBytes record) { return add_chunk(kChunkRecord, record); }

Result<void> RecordingWriter::add(const RecordBatch& batch) {
  for (std::size_t i = 0; i < batch.size(); ++i) TRY(add(batch[i]));
  return {};
}

Result<void> RecordingWriter::add(const sensor::Snapshot& snapshot) {
  for (const auto& part : sensor::encode_parts(snapshot)) TRY(add_chunk(kChunkSnapshotPart, part));
  return add_chunk(kChunkSnapshotEnd, {});
}

Result<void> RecordingWriter::flush() {
  std::size_t done = 0;
  while (done < buffer_.size()) {
    const ssize_t written = ::write(fd_.get(), buffer_.data() + done, buffer_.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(errno, "write the recording");
    done += static_cast<std::size_t>(written);
  }
  buffer_.clear();
  return {};
}

Result<RecordingSummary> replay_recording(std::span<const std::byte> bytes, const RecordingHandlers& handlers) {
  if (bytes.size() < kFileHead || std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0) {
    return fail(Code::Corrupt, "no recording of events");
  }
  if (const auto version = load<std::uint32_t>(bytes, 8); version != CULPRIT_EVENTS_VERSION) {
    return fail(Code::Unsupported, fmt::format("a recording of version {}, this program reads version {}", version,
                                               CULPRIT_EVENTS_VERSION));
  }
  RecordingSummary summary;
  sensor::Snapshot snapshot;
  std::vector<std::uint64_t> aligned;
  bytes = bytes.subspan(kFileHead);
  while (!bytes.empty()) {
    if (bytes.size() < kChunkHead) {
      summary.truncated = true;
      break;
    }
    const auto type = load<std::uint32_t>(bytes, 0);
    const std::size_t size = load<std::uint32_t>(bytes, 4);
    const std::size_t padded = (size + 7) / 8 * 8;
    if (bytes.size() - kChunkHead < padded) {
      summary.truncated = true;
      break;
    }
    const auto body = bytes.subspan(kChunkHead, size);
    bytes = bytes.subspan(kChunkHead + padded);
    if (type == kChunkRecord) {
      aligned.assign((size + 7) / 8, 0);
      if (size != 0) std::memcpy(aligned.data(), body.data(), size);
      const RecordBytes record = std::as_bytes(std::span(aligned)).first(size);
      if (!valid_record(record)) {
        ++summary.malformed;
        continue;
      }
      ++summary.records;
      if (handlers.on_record) handlers.on_record(record);
    } else if (type == kChunkSnapshotPart) {
      if (!decode_part(body, snapshot)) ++summary.malformed;
    } else if (type == kChunkSnapshotEnd) {
      ++summary.snapshots;
      if (handlers.on_snapshot) handlers.on_snapshot(snapshot);
      snapshot = {};
    } else {
      ++summary.malformed;
    }
  }
  return summary;
}

Result<RecordingSummary> replay_recording(const std::filesystem::path& file, const RecordingHandlers& handlers) {
  const Fd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return fail_errno(errno, "open '" + file.string() + "'");
  std::vector<std::byte> bytes;
  while (true) {
    const std::size_t start = bytes.size();
    bytes.resize(start + kBufferBytes);
    const ssize_t have = ::read(fd.get(), bytes.data() + start, kBufferBytes);
    if (have < 0 && errno == EINTR) {
      bytes.resize(start);
      continue;
    }
    if (have < 0) return fail_errno(errno, "read '" + file.string() + "'");
    bytes.resize(start + static_cast<std::size_t>(have));
    if (have == 0) break;
  }
  auto summary = replay_recording(bytes, handlers);
  if (!summary) return std::unexpected(summary.error().context("'" + file.string() + "'"));
  return summary;
}

}  // namespace culprit::collect
