// The page: what Vite built, as part of the program.
#pragma once

#include <span>

#include "daemon/api/handler.h"

namespace culprit::web {

// Empty if the program was built without the page (CULPRIT_PAGE=OFF).
std::span<const api::Asset> assets();

}  // namespace culprit::web
