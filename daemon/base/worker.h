// Worker: a thread that does what it is given, one thing after the other. It lives as long as its owner: a thread for each thing
// would begin with cold memory pools and leave a stack to be unmapped (5 % of ingest's CPU time, where each coded a block).
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <thread>

#include "daemon/base/mutex.h"

namespace culprit {

class Worker {
 public:
  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  ~Worker();  // when all is done

  // What `task` gives or throws. The first one starts the thread; without a thread to be had, it is done at once. By one caller at a time.
  template <typename Do>
  auto give(Do task) -> std::future<decltype(task())> {
    std::packaged_task<decltype(task())()> packaged(std::move(task));
    auto result = packaged.get_future();
    put(std::move(packaged));
    return result;
  }

 private:
  using Task = std::move_only_function<void()>;
  void put(Task task);
  void run();

  Mutex mutex_;
  std::condition_variable_any changed_;
  std::deque<Task> tasks_ GUARDED_BY(mutex_);
  bool ends_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace culprit
