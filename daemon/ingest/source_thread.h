// The thread of a source: named, and where an exception (a bug of ours) ends the source, which says so, and not the daemon.
#pragma once

#include <pthread.h>

#include <string>
#include <thread>
#include <vector>

#include "daemon/base/log.h"
#include "daemon/ingest/source.h"

namespace culprit::ingest {

// `name` has at most 15 bytes; `what` is for people: "files '/var/log/*.log'". loop(stop) runs until told to stop.
template <typename Loop>
std::jthread start_source_thread(const char* name, std::string what, std::vector<SourcePtr> sources, Loop loop) {
  return std::jthread([name, what = std::move(what), sources = std::move(sources), loop](const std::stop_token& stop) {
    ::pthread_setname_np(::pthread_self(), name);
    try {
      loop(stop);
    } catch (const std::exception& e) {
      log::error("{}: {}; no longer read", what, e.what());
      for (const SourcePtr& source : sources) source->set_state("failed", e.what());
    }
  });
}

}  // namespace culprit::ingest
