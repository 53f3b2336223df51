// Library: what the daemon does for imported documents, beside everything else and never in a ranking: fills a database that
// was set aside from the files it was imported from, renews links after packs or the model changed, and gives vectors to
// documents that lack them, from the provider of the configuration if there is one.
//
// Threads: one of its own, which sleeps between two looks; it holds its own connection to graph.db.
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "daemon/base/clock.h"
#include "daemon/base/config.h"
#include "daemon/recall/recall.h"

namespace culprit::app {

class Library {
 public:
  struct Parts {
    const Clock& clock;
    const Config& config;
    std::filesystem::path graph_file;
    std::shared_ptr<const recall::Modes> modes;
    bool begun_anew = false;  // the database was damaged: import again what it held
    std::chrono::milliseconds look_every{60'000};
    std::chrono::milliseconds provider_timeout{5'000};  // of a request; the thread ends no sooner
  };
  explicit Library(Parts parts);
  ~Library();  // ends the thread, between two batches

 private:
  void run(const std::stop_token& stop);
  Result<void> look(const std::stop_token& stop);

  Parts parts_;
  std::shared_ptr<const embed::Embedder> provider_;  // its thread's
  std::string said_;                                 // why there is none, last
  std::optional<graph::Library> documents_;          // to see whether there is anything to do
  std::string done_;                                 // its mark when all was done, with the embedder's name
  std::jthread thread_;
};

}  // namespace culprit::app
