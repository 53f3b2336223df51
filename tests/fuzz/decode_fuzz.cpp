// Bytes of a recording or of the sensor: no input may crash the decoders, or make them give out a record that is
// not whole.
#include <cstdlib>

#include "daemon/collect/recording.h"
#include "daemon/sensor/protocol.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit;
  const auto bytes = std::as_bytes(std::span(data, size));
  collect::RecordBatch batch;
  collect::RecordingHandlers handlers;
  handlers.on_record = [&](collect::RecordBytes record) {
    if (!collect::valid_record(record)) abort();
    batch.add(record);
    std::size_t sum = 0;
    if (const auto* payload = collect::as<culprit_payload_event>(record)) {
      for (const std::uint8_t byte : collect::payload_of(*payload)) sum += byte;
    }
    if (const auto* log = collect::as<culprit_log_event>(record)) {
      for (const char byte : collect::line_of(*log)) sum += static_cast<std::size_t>(byte);
    }
    if (const auto* exec = collect::as<culprit_exec_event>(record)) sum += collect::text_of(exec->filename).size();
    if (sum == 0xdeadbeef) abort();
  };
  (void)collect::replay_recording(bytes, handlers);
  batch.sort_by_time();
  for (std::size_t i = 1; i < batch.size(); ++i) {
    if (collect::header_of(batch[i]).time_ns < collect::header_of(batch[i - 1]).time_ns) abort();
  }
  sensor::Snapshot snapshot;
  (void)sensor::decode_part(bytes, snapshot);
  sensor::Hello hello;
  sensor::Reader hello_in(bytes);
  (void)decode(hello_in, hello);
  const auto decode_as = [&]<typename T>(T into) {
    sensor::Reader in(bytes);
    (void)decode(in, into);
  };
  decode_as(sensor::ProcessInfo{});
  decode_as(sensor::ProcessRow{});
  decode_as(sensor::SocketOwner{});
  decode_as(sensor::FilesystemSpace{});
  decode_as(sensor::CgroupLimits{});
  return 0;
}
