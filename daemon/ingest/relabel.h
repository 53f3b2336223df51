// Relabeling: Prometheus' metric_relabel_configs, for what a scrape brings, with RE2.
// Source: prometheus.io/docs/prometheus/latest/configuration/configuration/#relabel_config. Not done: hashmod, which shares work
// between many Prometheus.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "daemon/base/config.h"
#include "daemon/base/result.h"
#include "daemon/ingest/record.h"

namespace culprit::ingest {

class Relabel {
 public:
  static constexpr std::size_t kStepsMax = 64;

  Relabel();
  // Errors: Invalid, with the number of the step: an unknown action, a regular expression that is none, a name that is none.
  static Result<Relabel> create(const std::vector<RelabelStep>& steps);
  ~Relabel();
  Relabel(Relabel&&) noexcept;
  Relabel& operator=(Relabel&&) noexcept;

  // The metric's name is the label __name__. False: the sample is dropped, also when nothing is left of its name.
  bool apply(std::string& name, Labels& labels) const;

 private:
  struct Step;
  std::vector<Step> steps_;
};

}  // namespace culprit::ingest
