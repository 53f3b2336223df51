// Sources: everything that brings events from other tools, and who owns it. Opened in two steps: open() takes ports while the daemon
// still may, start() begins to receive once there is a pipeline. A source that cannot run never stops the daemon: it is listed
// with its reason, and `culprit doctor` names it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/api/backend.h"
#include "daemon/app/pipeline.h"
#include "daemon/base/config.h"
#include "daemon/ingest/http_server.h"
#include "daemon/ingest/receive.h"
#include "daemon/ingest/source.h"

namespace culprit::app {

// What the kernel showed of processes, containers and ports, for records that name them.
class TrackResolver final : public ingest::Resolver {
 public:
  explicit TrackResolver(std::string host_name) : host_name_(std::move(host_name)) {}
  void attach(const Pipeline* pipeline) { pipeline_ = pipeline; }  // before the first question
  std::string service_of_pid(std::uint32_t pid) const override;
  std::string service_of_container(std::string_view container_id) const override;
  std::string service_of_port(std::uint16_t port) const override;
  std::string_view host_name() const override { return host_name_; }

 private:
  std::string host_name_;
  const Pipeline* pipeline_ = nullptr;
};

// produced, stored, in_flight and dropped of a source. Counters are read one after the other: what is settled was produced.
api::Json source_counts(const ingest::SourceStats& source);

class Sources {
 public:
  struct Parts {
    const Config& config;
    const Clock& clock;
    std::string host_name;
  };
  explicit Sources(Parts parts);
  ~Sources();  // stop() first, if it was started

  // While ports below 1024 may still be taken: what cannot be opened is remembered as failed.
  void open();
  void start(Pipeline& pipeline);
  // No more events after this; before the pipeline ends.
  void stop();

  // What a source would find, without keeping anything. Errors: Invalid, NotFound, Denied, Busy, Io.
  Result<api::Json> test(const SourceRule& rule) const;
  // Starts it now and keeps it in the state folder (sources.yaml). Errors: as test(); Invalid if the name is taken.
  Result<api::Json> add(SourceRule rule);

  std::vector<ingest::SourceStats> stats() const;
  api::Json document() const;  // of `culprit sources list`
  // The file's events into the stream, at once. `format`: auto, jaeger, zipkin, otlp. Errors: Invalid, Busy.
  Result<api::Json> import(const std::string& name, const std::string& format, std::string_view bytes);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::app
