// Diagnosis: detection and explanation, fed by the stream thread second by second; keeps incidents in the graph
// so that a restart goes on with them.
//
// Rules see every event as it comes (rules/engine.h); a ranking asks the engine for its window, and scans the store
// instead where the window is older than what the engine saw. An incident records the hash of the set that it was
// ranked with.
//
// Threads: the detect thread owns the Detector and the graph's writing connection; why(), incidents() and the like
// may be called from any thread. An exception in the detect thread is a bug and ends the process; the supervisor starts it anew.
// An open incident is ranked anew every second while it is young, later less often.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "daemon/app/accounting.h"
#include "daemon/app/pipeline.h"
#include "daemon/base/mutex.h"
#include "daemon/detect/detector.h"
#include "daemon/explain/explain.h"
#include "daemon/explain/json.h"
#include "daemon/explain/learn/model.h"
#include "daemon/recall/recall.h"
#include "graph/store.h"
#include "rules/engine.h"

namespace culprit::app {

// The knowledge graph and the embedding model behind explain's seam. A text that shows a tell-tale means that mode; a text
// of a known middleware that shows none may still be like a mode. explain asks about new templates, not about each line.
class GraphKnowledge final : public explain::Knowledge {
 public:
  explicit GraphKnowledge(std::shared_ptr<const recall::Modes> modes) : modes_(std::move(modes)) {}
  void take_verdicts(std::map<std::string, Verdicts> verdicts);  // from any thread
  std::vector<explain::ModeMatch> match(std::string_view text, std::string_view program) const override;
  std::vector<std::string> mitigations(std::string_view mode_id) const override;
  bool is_effect(std::span<const std::string_view> names) const override { return modes_->is_effect(names); }
  bool brings_about(std::span<const std::string_view> cause, std::span<const std::string_view> effect) const override { return modes_->brings_about(cause, effect); }
  std::map<std::string, Verdicts> verdicts() const;

 private:
  std::shared_ptr<const recall::Modes> modes_;  // the snapshot in force when the daemon started
  mutable Mutex mutex_;
  std::map<std::string, Verdicts> verdicts_ GUARDED_BY(mutex_);
};

struct DiagnosisStats {
  detect::DetectorStats detector;
  std::uint64_t explained = 0;      // rankings made
  double explain_s_last = 0;        // how long the last one took
  double explain_s_max = 0;
};

class Diagnosis {
 public:
  struct Parts {
    const Clock& clock;
    const stream::EventStore& store;
    const Accounting& accounting;
    DetectChannel& input;
    std::filesystem::path graph_file;
    std::string boot_id;
    std::shared_ptr<const recall::Modes> knowledge;
    rules::RuleBook& rules;  // the detect thread takes up its newest set each second
    std::string host_name = "localhost";
    explain::Model weights = explain::built_in_model();  // of the ranking's blocks
  };
  static Result<std::unique_ptr<Diagnosis>> start(Parts parts);
  ~Diagnosis();  // the input channel must be closed before

  // Ranks now: the open incident that concerns the service, else an examination of the window.
  Result<explain::Explanation> why(const std::string& service, std::int64_t since_ns) const;
  // As last ranked; of the list or of the graph. Errors: NotFound.
  Result<nlohmann::json> incident(std::uint64_t id) const;
  Result<std::string> export_incident(std::uint64_t id) const;

  std::vector<detect::Incident> open_incidents() const;
  // An incident is open, or somebody asked why a moment ago: more detail is worth its cost.
  bool something_wrong() const;
  std::optional<explain::Explanation> last_explanation(std::uint64_t id) const;
  // Seconds of load of a service that detection has seen, up to its warm-up.
  std::map<std::string, int> learned() const;
  DiagnosisStats stats() const;
  // What people said so far about failure modes: the next ranking weighs them by it.
  void take_verdicts(std::map<std::string, Verdicts> verdicts);
  const std::shared_ptr<const recall::Modes>& modes() const;
  bool begun_anew() const;  // the database was damaged and set aside when this started

  // The rules in force, each with what it did and why it is off, if it is.
  struct RuleRow {
    rules::RulePtr rule;
    rules::RuleStats stats;
    std::string off;  // empty = it takes part
  };
  struct RulesView {
    std::string hash;
    std::vector<RuleRow> rules;
    rules::EngineStats engine;
  };
  RulesView rules() const;

 private:
  struct Impl;
  explicit Diagnosis(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::app
