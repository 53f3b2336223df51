// Import: files of people (Markdown, HTML, plain text, JSON lines) as documents of the library. Pure: bytes in, items out.
//
// Markdown and HTML: each heading begins a document. Text: one document, cut into pieces if long. JSON lines: one
// document a line, an object with "text" or "body" (required), "title", "signal", "collection", "middleware", and "id" or "doc_id";
// or verdicts, as `culprit knowledge export` writes them: "failure_mode", "right", "wrong", "partly".
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"

namespace culprit::graph {

inline constexpr std::size_t kImportBytesMax = 64U << 20U;  // of one file
inline constexpr std::size_t kImportItemsMax = 200'000;     // documents of one file
inline constexpr std::size_t kItemBytesMax = 32U << 10U;    // a longer section is cut into several
inline constexpr std::size_t kImportFilesMax = 100'000;     // of one folder

struct ImportItem {
  std::string key{};  // unique within the file
  std::string collection{};
  std::string middleware{};  // as the packs name it, if the file says so
  std::string title{};
  std::string body{};
  std::string signal{};
};

// What people elsewhere said about a failure mode.
struct SharedVerdict {
  std::string failure_mode{};
  std::int64_t right = 0, wrong = 0, partly = 0;
};

struct Imported {
  std::vector<ImportItem> items{};
  std::vector<SharedVerdict> verdicts{};
};

enum class ImportFormat : std::uint8_t { Markdown, Html, Text, JsonLines };
// By the file's extension; nothing for what is not imported (images, archives, …).
bool import_format(const std::filesystem::path& file, ImportFormat& format);

// Errors: Invalid with name:line (broken JSON, binary data), Exhausted (too much).
Result<Imported> parse_import(std::string_view name, std::string_view bytes, ImportFormat format);

// The file itself, or all files of known formats below the folder, sorted. Errors: NotFound, Denied, Io, Exhausted.
Result<std::vector<std::filesystem::path>> list_import(const std::filesystem::path& path);
Result<std::string> read_import(const std::filesystem::path& file);  // NotFound, Denied, Io, Exhausted

}  // namespace culprit::graph
