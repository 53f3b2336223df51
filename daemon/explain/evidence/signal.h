// Signal: what one evidence block says about each candidate of a recorded case, as a number, with its reason.
//
// A block looks at one modality and knows nothing of the others; learn/model.h weighs them. Values are >= 0 and grow with
// suspicion; 0 means "nothing seen". What is not there (no traces, no reference) makes no signal at all, which is
// different from a quiet one: the model lowers its confidence for it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/explain/recorded/case.h"

namespace culprit::explain {

struct SpanForest;     // spans.h
struct CaseTemplates;  // templates.h
struct Complaints;     // complaints.h

enum class Modality : std::uint8_t { Metrics, Traces, Logs, Alerts, Topology, Changes };
std::string_view name_of(Modality modality);

struct Signal {
  std::string name;                 // "traces.span_gap"
  Modality modality = Modality::Metrics;
  std::vector<double> value;        // one for each candidate
  std::vector<std::string> reason;  // for people; "" where there is nothing to say
  std::vector<std::int64_t> since_ns;  // when it began, 0 = unknown
  std::string fault;                // the kind of fault that it points to: "cpu"; "" = any
};

using Signals = std::vector<Signal>;

// An empty signal with a place for each candidate.
Signal make_signal(const RecordedCase& c, std::string_view name, Modality modality, std::string_view fault = "");
// `value` if it is more than what is there.
void raise(Signal& signal, const RecordedCase& c, ServiceId service, double value, std::string reason, std::int64_t since_ns = 0);

// The blocks, each in the file of its name. Which paper each is from stands there. Span trees and log templates are made once
// for all that read them: they are most of what a ranking costs.
void metric_shift(const RecordedCase& c, Signals& out);
void metric_flow(const RecordedCase& c, Signals& out);
void span_gap(const RecordedCase& c, const SpanForest& forest, Signals& out);
void own_time(const RecordedCase& c, const SpanForest& forest, Signals& out);
void event_order(const RecordedCase& c, const SpanForest& forest, const CaseTemplates& templates, const Complaints& complaints, Signals& out);
void log_news(const RecordedCase& c, const CaseTemplates& templates, const Complaints& complaints, Signals& out);
void span_failures(const RecordedCase& c, const SpanForest& forest, Signals& out);
void symptom_place(const RecordedCase& c, Signals& out);

// All of them, in a fixed order.
Signals all_signals(const RecordedCase& c);

}  // namespace culprit::explain
