// Headline: the first line of an answer.
#pragma once

#include <string>

#include "daemon/base/result.h"
#include "daemon/explain/scene.h"

namespace culprit::explain {

// "shop p99 1.84 s (normal 20 ms) since 14:02:10, 31 % of requests"
Result<std::string> incident_headline(const stream::EventStore& store, const Scene& scene);

// "shop is healthy: 120 requests/s, p99 21 ms, no errors"
Result<std::string> healthy_headline(const stream::EventStore& store, const std::string& service, const ExplainOptions& options);

// The symptom that a person would name first: of `service` if it has one, what is felt before what is counted.
const detect::Symptom* leading_symptom(const detect::Incident& incident, const std::string& service);

}  // namespace culprit::explain
