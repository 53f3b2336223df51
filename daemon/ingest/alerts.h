// Alerts from outside: Alertmanager's webhook (version 4), and any JSON that says what, where and whether it is over.
//
// An alert becomes an event of kind Alert: value 1 while it fires, 0 when it is resolved; name = the alert's name,
// entity = the service it is about. Detection opens an incident with it, or adds it to the one that is open.
// Generic form, one object or a list: {"name", "service", "status", "severity", "text", "time", "labels": {...}}; only a
// name or a text must be there. Common other names are understood too: title, alertname, message, description, state.
// Sources: prometheus.io/docs/alerting/latest/configuration/#webhook_config.
#pragma once

#include <string_view>

#include "daemon/ingest/record.h"

namespace culprit::ingest {

inline constexpr std::size_t kAlertsMax = 1000;  // in one request

// Errors: Invalid.
Result<void> decode_alerts(std::string_view json, const Context& context, Decoded& out);

}  // namespace culprit::ingest
