// What the Backend's answers from the event stream share.
#pragma once

#include "daemon/api/backend.h"
#include "daemon/stream/store.h"

namespace culprit::app {

// A person waits for at most so long; what was found by then is the answer, and says so. Less than the 10 s that the
// supervisor gives the daemon to end in, which waits for answers. An answer of two queries gives each the half.
inline constexpr std::int64_t kQueryBudgetNs = 8'000'000'000;

// An answer of several questions is as complete as its least.
inline void add_completeness(stream::Completeness& to, const stream::Completeness& part) {
  to.whole = to.whole && part.whole;
  to.limit_reached = to.limit_reached || part.limit_reached;
  to.budget_spent = to.budget_spent || part.budget_spent;
  to.rows_lost += part.rows_lost;
  to.blocks_read += part.blocks_read;
  to.blocks_left_out += part.blocks_left_out;
}

inline api::Json completeness_json(const stream::Completeness& complete) {
  return {{"whole", complete.whole},
          {"limit_reached", complete.limit_reached},
          {"time_was_up", complete.budget_spent},
          {"events_lost", complete.rows_lost},
          {"blocks_read", complete.blocks_read},
          {"blocks_left_out", complete.blocks_left_out}};
}

}  // namespace culprit::app
