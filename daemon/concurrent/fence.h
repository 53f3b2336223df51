// Fence: a full barrier between two threads of which one is fast and the other may pay.
//
// Where two threads each store one word and then load the other's (Dekker), both need a full barrier between store
// and load, or both may miss each other. On the fast side that barrier waits until all stores before it have reached the
// cache: a quarter of what a batch through a channel costs (measured). membarrier(2) makes it unnecessary there: when
// the slow side calls it, each thread of the process has passed a full barrier before it returns. So `light` only keeps
// the compiler from reordering, and `heavy` pays for both: a system call and an interrupt of the other cores.
// Where the kernel refuses (before 4.14, or a sandbox), both are fences of the language.
#pragma once

#include <atomic>

namespace culprit::concurrent::detail {

class Fence {
 public:
  Fence();

  void light() const {
    if (by_kernel_) [[likely]] {
      std::atomic_signal_fence(std::memory_order_seq_cst);
    } else {
      full();
    }
  }
  void heavy() const;

 private:
  static void full();

  bool by_kernel_;
};

}  // namespace culprit::concurrent::detail
