// AtEnd: runs a function when a scope is left, however that happens.
#pragma once

#include <utility>

namespace culprit {

template <typename Function>
class [[nodiscard]] AtEnd {
 public:
  explicit AtEnd(Function function) : function_(std::move(function)) {}
  AtEnd(const AtEnd&) = delete;
  AtEnd& operator=(const AtEnd&) = delete;
  ~AtEnd() { function_(); }

 private:
  Function function_;
};

}  // namespace culprit
