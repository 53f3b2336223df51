// Ahead: a thread that makes memory ready before an insert needs it.
//
// The first touch of memory is what a growing map pauses for: the kernel clears a huge page in 0.1 ms, and where a
// hypervisor has to find memory for the machine first, it takes 4.6 ms (measured; 9 us for a small page). So a slab
// that falls below its lead asks, and this thread gives it more, a step at a time. If it comes too late, or cannot be
// started, the slab helps itself.
//
// Threads: `ask` from any. The thread starts with the first request, so that a small map has none.
#pragma once

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <thread>
#include <vector>

namespace culprit::concurrent::detail {

class Ahead {
 public:
  class Place {
   public:
    // Makes one more step ready. False if there is enough, or no memory.
    virtual bool prepare() = 0;

   protected:
    ~Place() = default;
  };

  Ahead() = default;
  Ahead(const Ahead&) = delete;
  Ahead& operator=(const Ahead&) = delete;
  ~Ahead();

  // Before the first request.
  void serve(std::initializer_list<Place*> places) { places_ = places; }
  void ask() {
    if (word_.load(std::memory_order_relaxed) == kIdle) ask_now();
  }

 private:
  enum Word : std::uint32_t { kIdle, kAsked, kEnd };

  void ask_now();
  void run();

  std::vector<Place*> places_;
  std::atomic<std::uint32_t> word_{kIdle};
  std::atomic<bool> started_{false};
  std::thread thread_;  // of whoever changed `started_`; joined by the destructor
};

}  // namespace culprit::concurrent::detail
