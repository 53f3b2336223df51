// Render: API documents (docs/api.md) as text for people. Pure: the same document and style give the same
// text.
#pragma once

#include <string>

#include "ui/cli/document.h"
#include "ui/cli/page.h"

namespace culprit::cli {

inline constexpr std::size_t kCausesShown = 3;  // unless `all`

std::string render_explanation(const Json& document, const Style& style, bool all = false);
std::string render_summary(const Json& document, const Style& style);
std::string render_incidents(const Json& document, const Style& style);
std::string render_events(const Json& document, const Style& style);
std::string render_event_line(const Json& row, const Style& style);  // one of them, as --follow shows it
std::string render_diff(const Json& document, const Style& style);
std::string render_series(const Json& document, const Style& style);
std::string render_store(const Json& document, const Style& style);
std::string render_services(const Json& document, const Style& style);
std::string render_status(const Json& document, const Style& style);
std::string render_channels(const Json& document, const Style& style);  // of a status document
std::string render_doctor(const Json& document, const Style& style);
std::string render_config(const Json& document, const Style& style);

}  // namespace culprit::cli
