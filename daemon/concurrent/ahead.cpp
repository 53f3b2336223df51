#include "daemon/concurrent/ahead.h"

#include <pthread.h>
#include <signal.h>

#include <system_error>

namespace culprit::concurrent::detail {

Ahead::~Ahead() {
  if (!thread_.joinable()) return;
  word_.store(kEnd, std::memory_order_release);
  word_.notify_one();
  thread_.join();
}

// What was written before a request is seen by the thread that answers it: kAsked is released here and acquired there.
void Ahead::ask_now() {
  std::uint32_t word = kIdle;
  if (!word_.compare_exchange_strong(word, kAsked, std::memory_order_release, std::memory_order_relaxed)) return;
  if (started_.exchange(true, std::memory_order_relaxed)) {
    word_.notify_one();
    return;
  }
  sigset_t all, before;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's own threads
  try {
    thread_ = std::thread([this] { run(); });
  } catch (const std::system_error&) {
    word_.store(kEnd, std::memory_order_relaxed);  // nobody asks again; the slabs help themselves
  }
  (void)pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Ahead::run() {
  (void)pthread_setname_np(pthread_self(), "map-ahead");
  while (true) {
    word_.wait(kIdle, std::memory_order_acquire);
    std::uint32_t word = kAsked;
    if (!word_.compare_exchange_strong(word, kIdle, std::memory_order_acquire) && word == kEnd) return;
    for (bool more = true; more && word_.load(std::memory_order_relaxed) != kEnd;) {
      more = false;
      for (Place* const place : places_) more |= place->prepare();
    }
  }
}

}  // namespace culprit::concurrent::detail
