// Acceptor: takes connections from a listener, and leaves it alone for a second when the process may open no more descriptors: the
// connection would stay in the queue and poll would say so at once, over and over. Connections over TCP are probed while they are silent, so
// that one whose other side is gone ends after two minutes. Threads: one owner.
#pragma once

#include <cstdint>

#include "daemon/base/fd.h"
#include "daemon/ingest/source.h"

namespace culprit::ingest {

class Acceptor {
 public:
  static constexpr std::int64_t kRestNs = kNsPerSecond;

  Acceptor(Fd listener, SourcePtr source) : listener_(std::move(listener)), source_(std::move(source)) {}

  int fd() const { return listener_.get(); }
  // For poll: -1 while it rests.
  int poll_fd(std::int64_t now_ns) const { return now_ns < rest_until_ns_ ? -1 : listener_.get(); }
  // A connection, or none. What is told to the source: a lack of descriptors or memory, counted as refused.
  Fd accept(std::int64_t now_ns);

 private:
  Fd listener_;
  SourcePtr source_;
  std::int64_t rest_until_ns_ = 0;
};

}  // namespace culprit::ingest
