// Mutex: std::mutex with clang's thread-safety annotations, so that the lint build proves which lock guards what.
#pragma once

#include <mutex>

#if defined(__clang__)
#define CULPRIT_ANNOTATE(x) __attribute__((x))
#else
#define CULPRIT_ANNOTATE(x)
#endif
#define GUARDED_BY(mutex) CULPRIT_ANNOTATE(guarded_by(mutex))
#define REQUIRES(mutex) CULPRIT_ANNOTATE(requires_capability(mutex))

namespace culprit {

class CULPRIT_ANNOTATE(capability("mutex")) Mutex {
 public:
  void lock() CULPRIT_ANNOTATE(acquire_capability()) { mutex_.lock(); }
  void unlock() CULPRIT_ANNOTATE(release_capability()) { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

class CULPRIT_ANNOTATE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) CULPRIT_ANNOTATE(acquire_capability(mutex)) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() CULPRIT_ANNOTATE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace culprit
