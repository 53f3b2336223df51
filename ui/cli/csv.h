// Csv: a list of objects as a table for other programs (RFC 4180: CRLF is LF here, as Unix tools expect).
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "ui/cli/document.h"

namespace culprit::cli {

// One line of headings and one a row. What a row lacks, or is null, is empty; objects and lists are JSON. Texts that a
// spreadsheet would take for a formula get an apostrophe in front.
std::string csv_text(const Json& rows, std::span<const std::string_view> columns);

}  // namespace culprit::cli
