#include "daemon/concurrent/stats.h"

namespace culprit::concurrent {

std::string_view drop_reason_name(DropReason reason) {
  switch (reason) {
    case DropReason::Full: return "full";
    case DropReason::Overwritten: return "overwritten";
  }
  return "unknown";
}

}  // namespace culprit::concurrent
