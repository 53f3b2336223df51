// Experience: what imported documents (old tickets, runbooks, RCA reports) say of the causes that an answer ranks first, and the
// confirmed incidents that are like one.
//
// It changes no ranking: documents have no time, and what was true then need not be now. It is the next thing that a person would look
// up, put beside the evidence with its source. Threads: any, one at a time inside.
#pragma once

#include <filesystem>
#include <memory>

#include "daemon/api/backend.h"
#include "daemon/base/mutex.h"
#include "daemon/recall/recall.h"

namespace culprit::app {

class Experience {
 public:
  Experience(std::shared_ptr<const recall::Modes> modes, std::filesystem::path graph_file) : modes_(std::move(modes)), graph_file_(std::move(graph_file)) {}

  // Adds to the first three candidates of an explanation's document the document that is most like each, if one is like it or
  // speaks of its failure mode. What goes wrong is logged; the answer stays as it was.
  void add(api::Json& explanation);
  // The document of `similar`. Errors: as recall::similar_incidents.
  Result<api::Json> similar(const std::string& about, std::size_t limit);

 private:
  Result<void> open() REQUIRES(mutex_);
  const std::shared_ptr<const recall::Modes> modes_;  // shared with the diagnosis
  const std::filesystem::path graph_file_;
  Mutex mutex_;
  std::unique_ptr<recall::Recall> recall_ GUARDED_BY(mutex_);  // opened at the first question that finds a library
};

}  // namespace culprit::app
