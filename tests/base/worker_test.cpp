#include "daemon/base/worker.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <stdexcept>
#include <vector>

namespace culprit {
namespace {

TEST(WorkerTest, DoesAllInOrderOnOneOtherThread) {
  std::vector<int> done;
  std::vector<std::future<std::thread::id>> threads;
  Worker worker;
  for (int i = 0; i < 100; ++i) {
    threads.push_back(worker.give([&done, i] {
      done.push_back(i);
      return std::this_thread::get_id();
    }));
  }
  const std::thread::id first = threads.front().get();
  EXPECT_NE(first, std::this_thread::get_id());
  for (std::size_t i = 1; i < threads.size(); ++i) EXPECT_EQ(threads[i].get(), first);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(done[static_cast<std::size_t>(i)], i);
}

TEST(WorkerTest, GivesWhatATaskGivesOrThrows) {
  Worker worker;
  auto thrown = worker.give([]() -> int { throw std::runtime_error("no"); });
  auto given = worker.give([owned = std::make_unique<int>(7)]() mutable { return std::move(owned); });
  EXPECT_THROW(thrown.get(), std::runtime_error);
  EXPECT_EQ(*given.get(), 7);
}

TEST(WorkerTest, EndsWhenAllIsDone) {
  std::atomic<int> done = 0;
  std::promise<void> go;
  {
    Worker worker;
    (void)worker.give([wait = go.get_future().share()] { wait.wait(); });
    for (int i = 0; i < 10; ++i) (void)worker.give([&done] { ++done; });
    EXPECT_EQ(done, 0);
    go.set_value();
  }
  EXPECT_EQ(done, 10);
}

}  // namespace
}  // namespace culprit
