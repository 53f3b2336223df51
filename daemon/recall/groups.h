// Groups: what the embedding model learns from. One group a failure mode: its description first, then what people
// and programs say when it happens.
#pragma once

#include <vector>

#include "embed/train.h"
#include "graph/knowledge.h"

namespace culprit::recall {

std::vector<embed::TextGroup> text_groups(const graph::Knowledge& known);

// What the vector of a mode's document is made from: everything that is said about it.
std::string mode_text(const graph::Document& document);

}  // namespace culprit::recall
