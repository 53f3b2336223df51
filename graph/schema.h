// The SQL of schema/*.sql, in order: migration n is text n-1, and user_version is the number applied.
#pragma once

#include <span>
#include <string>

namespace culprit::graph {

struct SchemaText {
  std::string name;
  std::string text;
};

std::span<const SchemaText> schema_texts();

inline constexpr std::size_t kKnowledgeSchema = 1;  // index of 002-knowledge.sql

}  // namespace culprit::graph
