// What a feature of alerts means, in words for who reads the answer.
#pragma once

#include <string>
#include <string_view>

#include "daemon/explain/learn/alert_said.h"

namespace culprit::explain {

// "alert alone M:cpu_usage/up" -> "cpu_usage up, at none of its twins"; where it was not raised (trees go by that too) "not: cpu_usage up, ...". Features that
// measure one thing have one reason. A name that is none of alert_words.h's is returned as it is.
std::string reason_of_alerts(std::string_view feature, bool raised);

// The two alerts of a service that it raises most seldom: "threads up (in 3 of 122 incidents), log template 74 (in 9)". "" if nobody counted, or it raised none.
std::string rarest_alerts(const AlertWords& raised, std::string_view service, const Habits& habits);

}  // namespace culprit::explain
