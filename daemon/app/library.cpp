#include "daemon/app/library.h"

#include <pthread.h>

#include <condition_variable>
#include <mutex>

#include "daemon/base/log.h"
#include "graph/library.h"

namespace culprit::app {
Library::Library(Parts parts) : parts_(std::move(parts)) {
  thread_ = std::jthread([this](const std::stop_token& stop) {
    ::pthread_setname_np(::pthread_self(), "library");
    run(stop);
  });
}

Library::~Library() = default;

void Library::run(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any wake;
  while (!stop.stop_requested()) {
    if (auto done = look(stop); !done && done.error().code != Code::Busy) log::warn("library: {}; trying again later", done.error().message);
    std::unique_lock lock(mutex);
    wake.wait_for(lock, stop, parts_.look_every, [] { return false; });
  }
}

Result<void> Library::look(const std::stop_token& stop) {
  if (provider_ == nullptr && parts_.config.embedding_url != "off") {
    auto provider = recall::provider_of(parts_.config, parts_.provider_timeout);
    if (provider) {
      provider_ = std::move(*provider);
    } else if (provider.error().message != said_) {  // once, not each minute
      said_ = provider.error().message;
      log::warn("{}; the built-in model until it answers", said_);
    }
  }
  // Opening it all takes a quarter of a second for 20,000 documents: only when documents came or something is missing.
  if (!documents_) {
    ASSIGN(documents_, graph::Library::open(parts_.graph_file, graph::Library::Mode::Write));
  }
  ASSIGN(const std::string mark, documents_->mark());
  const std::string now = mark + " " + std::string(provider_ != nullptr ? provider_->name() : parts_.modes->model().name());
  if (now == done_ && !parts_.begun_anew) return {};
  ASSIGN(const auto recall, recall::Recall::open(parts_.modes, {.graph_file = parts_.graph_file, .write = true, .embedder = provider_, .stop = stop}));
  if (!parts_.begun_anew) {
    ASSIGN(const std::size_t missing, recall->complete({}));
    done_ = missing == 0 ? now : std::string();
    return {};
  }
  ASSIGN(const recall::ImportCounts counts, recall->reimport(parts_.clock.wall_ns(parts_.clock.now_ns()), {}));
  parts_.begun_anew = false;
  log::info("imported again: files={} documents={} failed={}", counts.files, counts.documents.added, counts.failed);
  for (const std::string& problem : counts.problems) log::warn("not imported again: {}; do it yourself: culprit knowledge import", problem);
  return {};
}

}  // namespace culprit::app
