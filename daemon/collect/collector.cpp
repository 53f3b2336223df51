#include "daemon/collect/collector.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "daemon/collect/ring.h"

namespace culprit::collect {
namespace {

// Between taking its time and committing, a probe needs well under this unless its CPU is taken away.
constexpr std::int64_t kSettleNs = 200'000;
constexpr std::uint32_t kCpusMax = 65'536;

}  // namespace

std::string_view drop_name(std::uint32_t reason) {
  static constexpr std::array<std::string_view, CULPRIT_DROPS> kNames = {"ring_full", "budget", "fault"};
  return reason < kNames.size() ? kNames[reason] : "unknown";
}

struct Collector::Impl {
  explicit Impl(const Clock& time) : clock(time) {}
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
  ~Impl() {
    if (counters != nullptr) munmap(const_cast<culprit_kind_counts*>(counters), counters_bytes);
  }

  Result<void> add(std::vector<Fd> fds, std::uint32_t bytes);
  Result<void> map_counters(const sensor::RingGeometry& geometry, Fd fd);
  void read_all(RecordBatch& batch, std::int64_t& settled_ns, std::size_t bytes_max);
  void count(const RecordBatch& batch, std::size_t first);

  const Clock& clock;
  std::vector<Ring> rings;
  Fd epoll;
  Fd waker;
  const culprit_kind_counts* counters = nullptr;
  std::size_t counters_bytes = 0;
  std::uint32_t cpus = 0;
  RecordBatch held;  // read, but too young to be in order for sure
  std::array<std::atomic<std::uint64_t>, CULPRIT_EVENT_KINDS> received{};
  std::atomic<std::uint64_t> malformed{0};
  std::atomic<std::uint64_t> batches{0};
};

Result<void> Collector::Impl::add(std::vector<Fd> fds, std::uint32_t bytes) {
  for (Fd& fd : fds) {
    ASSIGN(Ring ring, Ring::open(std::move(fd), bytes));
    // Edge-triggered: level-triggered, a ring with one record in it would never let us wait.
    epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.u64 = rings.size()}};
    if (epoll_ctl(epoll.get(), EPOLL_CTL_ADD, ring.fd(), &event) != 0) return fail_errno(errno, "watch a ring");
    rings.push_back(std::move(ring));
  }
  return {};
}

Result<void> Collector::Impl::map_counters(const sensor::RingGeometry& geometry, Fd fd) {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  cpus = geometry.cpus;
  counters_bytes = std::size_t{geometry.cpus} * geometry.kinds * sizeof(culprit_kind_counts);
  counters_bytes = (counters_bytes + page - 1) / page * page;
  void* map = mmap(nullptr, counters_bytes, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (map == MAP_FAILED) return fail_errno(errno, "map the counters");
  counters = static_cast<const culprit_kind_counts*>(map);
  return {};
}

void Collector::Impl::count(const RecordBatch& batch, std::size_t first) {
  std::array<std::uint64_t, CULPRIT_EVENT_KINDS> added{};
  for (std::size_t i = first; i < batch.size(); ++i) ++added[header_of(batch[i]).kind];
  for (std::size_t kind = 0; kind < added.size(); ++kind) {
    if (added[kind] != 0) received[kind].fetch_add(added[kind], std::memory_order_relaxed);
  }
}

// settled_ns becomes the time up to which no ring can still hold a record.
void Collector::Impl::read_all(RecordBatch& batch, std::int64_t& settled_ns, std::size_t bytes_max) {
  settled_ns = clock.now_ns() - kSettleNs;
  const std::size_t share = std::max<std::size_t>(bytes_max / rings.size(), 64 * 1024);
  for (Ring& ring : rings) {
    const std::size_t first = batch.size();
    const Ring::Read read = ring.read(batch, share);
    if (read.malformed != 0) malformed.fetch_add(read.malformed, std::memory_order_relaxed);
    count(batch, first);
    if (read.more && batch.size() > first) {
      settled_ns = std::min(settled_ns, static_cast<std::int64_t>(header_of(batch[batch.size() - 1]).time_ns));
    }
  }
}

Collector::Collector(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Collector::~Collector() = default;

Result<std::unique_ptr<Collector>> Collector::open(const sensor::RingGeometry& geometry, RingFds fds,
                                                   const Clock& clock) {
  if (geometry.kinds != CULPRIT_EVENT_KINDS || geometry.cpus == 0 || geometry.cpus > kCpusMax ||
      geometry.rings == 0 || fds.control.size() != geometry.rings || fds.data.size() != geometry.rings ||
      !fds.counters) {
    return fail(Code::Invalid, "the sensor's ring geometry and its descriptors disagree");
  }
  auto impl = std::make_unique<Impl>(clock);
  impl->epoll = Fd(epoll_create1(EPOLL_CLOEXEC));
  impl->waker = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->epoll || !impl->waker) return fail_errno(errno, "epoll");
  epoll_event event{.events = EPOLLIN, .data = {.u64 = ~0ULL}};
  if (epoll_ctl(impl->epoll.get(), EPOLL_CTL_ADD, impl->waker.get(), &event) != 0) return fail_errno(errno, "epoll");
  impl->rings.reserve(2 * std::size_t{geometry.rings});
  TRY(impl->add(std::move(fds.control), geometry.control_bytes));
  TRY(impl->add(std::move(fds.data), geometry.data_bytes));
  TRY(impl->map_counters(geometry, std::move(fds.counters)));
  return std::unique_ptr<Collector>(new Collector(std::move(impl)));
}

Result<std::size_t> Collector::poll(std::chrono::milliseconds timeout, RecordBatch& batch) {
  std::array<epoll_event, 16> events;
  const int ready = epoll_wait(impl_->epoll.get(), events.data(), static_cast<int>(events.size()),
                               static_cast<int>(timeout.count()));
  if (ready < 0 && errno != EINTR) return fail_errno(errno, "wait for the rings");
  for (int i = 0; i < ready; ++i) {
    std::uint64_t value = 0;
    if (events[static_cast<std::size_t>(i)].data.u64 == ~0ULL) (void)!read(impl_->waker.get(), &value, sizeof(value));
  }
  batch.clear();
  std::swap(batch, impl_->held);
  std::int64_t settled_ns = 0;
  impl_->read_all(batch, settled_ns, kBatchBytesMax);
  batch.sort_by_time();
  batch.split_after(settled_ns, impl_->held);
  if (!batch.empty()) impl_->batches.fetch_add(1, std::memory_order_relaxed);
  return batch.size();
}

Result<std::size_t> Collector::drain(RecordBatch& batch) {
  batch.clear();
  std::swap(batch, impl_->held);
  std::int64_t settled_ns = 0;
  impl_->read_all(batch, settled_ns, ~std::size_t{0});
  batch.sort_by_time();
  return batch.size();
}

void Collector::wake() {
  const std::uint64_t one = 1;
  (void)!write(impl_->waker.get(), &one, sizeof(one));
}

CollectorCounts Collector::counts() const {
  CollectorCounts counts;
  for (std::uint32_t kind = 0; kind < CULPRIT_EVENT_KINDS; ++kind) {
    KindCounts& sum = counts.kinds[kind];
    // Received first: a record that arrives meanwhile must not be received without being produced.
    sum.received = impl_->received[kind].load(std::memory_order_relaxed);
    for (std::uint32_t cpu = 0; cpu < impl_->cpus; ++cpu) {
      const volatile culprit_kind_counts& row = impl_->counters[cpu * CULPRIT_EVENT_KINDS + kind];
      sum.produced += row.produced;
      for (std::size_t reason = 0; reason < CULPRIT_DROPS; ++reason) sum.dropped[reason] += row.dropped[reason];
    }
  }
  counts.malformed = impl_->malformed.load(std::memory_order_relaxed);
  counts.batches = impl_->batches.load(std::memory_order_relaxed);
  for (const Ring& ring : impl_->rings) counts.backlog_bytes += ring.backlog_bytes();
  return counts;
}

}  // namespace culprit::collect
