// Handle: a C library's object owned by the library's own free function.
//   using Statement = Handle<sqlite3_stmt, sqlite3_finalize>;
#pragma once

#include <memory>

namespace culprit {

template <auto Free>
struct HandleDeleter {
  template <typename T>
  void operator()(T* object) const {
    (void)Free(object);
  }
};

template <typename T, auto Free>
using Handle = std::unique_ptr<T, HandleDeleter<Free>>;

}  // namespace culprit
