#include "daemon/concurrent/fence.h"

#include <linux/membarrier.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

namespace culprit::concurrent::detail {
namespace {

constexpr int kTries = 10'000;

bool membarrier(int command) { return syscall(SYS_membarrier, command, 0, 0) == 0; }

}  // namespace

Fence::Fence() {
  static const bool registered = membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
  by_kernel_ = registered;
}

// Once light() relies on the kernel, no fence of the language can stand in: it would pair with nothing. The quick form wants a little
// memory and the registration, which a fork may not keep; the slow one wants neither.
void Fence::heavy() const {
  if (!by_kernel_) return full();
  for (int i = 0; i < kTries; ++i) {
    if (membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) || membarrier(MEMBARRIER_CMD_GLOBAL)) return;
    (void)membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
    sched_yield();
  }
  std::abort();  // a filter of system calls came after the start: going on would lose a wake-up now and then
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
