#include "daemon/concurrent/fence.h"

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace culprit::concurrent::detail {
namespace {

bool membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0) == 0; }

}  // namespace

Fence::Fence() {
  static const bool registered = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
  by_kernel_ = registered;
}

void Fence::heavy() const {
  if (by_kernel_ && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED)) return;
  full();
}

// ThreadSanitizer does not model fences, and says so; no access to data relies on this one.
#if !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
#endif
void Fence::full() { std::atomic_thread_fence(std::memory_order_seq_cst); }
#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

}  // namespace culprit::concurrent::detail
