// The daemon's work in miniature: 64-byte events under 40-byte keys update 96-byte aggregates.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace bench {

inline std::uint64_t scramble(std::uint64_t x) {  // splitmix64 (Steele, Lea, Flood, 2014)
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// cgroup id; pid and call; remote address in two words; port, protocol and a name.
struct Key {
  std::array<std::uint64_t, 5> words;
  bool operator==(const Key& other) const {
    std::uint64_t different = 0;
    for (std::size_t i = 0; i < words.size(); ++i) different |= words[i] ^ other.words[i];
    return different == 0;
  }
};
inline Key make_key(std::uint64_t i) {
  const std::uint64_t mixed = scramble(i);
  return {{(1ULL << 32) + (i & 511), ((i >> 2) << 32) | (i % 450), 0xffff000000000000ULL | (mixed & 0xffffffff), i,
           (mixed >> 32) | (6ULL << 48)}};
}

// The same hash for every candidate, so that its cost cancels out.
inline std::uint64_t fold(std::uint64_t a, std::uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  const Wide product = static_cast<Wide>(a) * b;
  return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
}
inline std::uint64_t hash_key(const Key& key, std::uint64_t seed) {
  const auto& w = key.words;
  const std::uint64_t a = fold(w[0] ^ 0xa0761d6478bd642fULL, w[1] ^ 0xe7037ed1a0b428dbULL);
  const std::uint64_t b = fold(w[2] ^ 0x8ebc6af09c88c6e3ULL, w[3] ^ 0x589965cc75374cc3ULL);
  return fold(a ^ w[4] ^ 0x1d8e4e27c47d124fULL ^ seed, b ^ 0xeb44accab455d165ULL);
}
struct SeededHash {
  std::uint64_t operator()(const Key& key, std::uint64_t seed) const { return hash_key(key, seed); }
};
struct PlainHash {
  using is_avalanching = void;
  std::size_t operator()(const Key& key) const noexcept { return hash_key(key, 0); }
};

struct Aggregate {
  std::uint64_t count = 0, sum = 0, min = ~0ULL, max = 0, last = 0;
  std::array<std::uint32_t, 14> bins{};
  void add(std::uint64_t value, std::uint64_t time) {
    ++count;
    sum += value;
    min = std::min(min, value);
    max = std::max(max, value);
    last = time;
    const unsigned bin = (63U - static_cast<unsigned>(__builtin_clzll(value | 1))) >> 1;
    ++bins[bin < 14 ? bin : 13];
  }
};
static_assert(sizeof(Aggregate) == 96);

struct Event {
  Key key;
  std::uint64_t value;
  std::uint64_t time;
  std::uint64_t spare;
};
static_assert(sizeof(Event) == 64);

// Zipf by rejection-inversion (Hoermann and Derflinger, 1996).
class Zipf {
 public:
  Zipf(std::uint64_t n, double s) : n_(static_cast<double>(n)), s_(s) {
    x1_ = h(1.5) - 1;
    xn_ = h(n_ + 0.5);
    bar_ = 2 - inverse(h(2.5) - std::pow(2.0, -s_));
  }
  template <typename R>
  std::uint64_t operator()(R& random) {
    std::uniform_real_distribution<double> unit;
    while (true) {
      const double u = xn_ + unit(random) * (x1_ - xn_);
      const double x = inverse(u);
      const double k = std::clamp(std::floor(x + 0.5), 1.0, n_);
      if (k - x <= bar_ || u >= h(k + 0.5) - std::pow(k, -s_)) return static_cast<std::uint64_t>(k) - 1;
    }
  }

 private:
  double h(double x) const { return std::exp((1 - s_) * std::log(x)) / (1 - s_); }
  double inverse(double x) const { return std::exp(std::log((1 - s_) * x) / (1 - s_)); }
  double n_, s_, x1_, xn_, bar_;
};

inline std::vector<Event> make_events(std::size_t count, std::uint64_t series, bool zipf, std::uint64_t seed) {
  std::vector<Event> events(count);
  std::mt19937_64 random(seed);
  Zipf ranks(series, 0.99);
  for (Event& event : events) {
    const std::uint64_t id = zipf ? scramble(ranks(random)) % series : random() % series;
    event = {make_key(id), random() >> (36 + (random() & 15)), 1, 0};
  }
  return events;
}

inline double clock_s(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
inline double wall_s() { return clock_s(CLOCK_MONOTONIC); }
inline double thread_s() { return clock_s(CLOCK_THREAD_CPUTIME_ID); }

// What one of the threads of a row took. On a line of its own: what one thread writes is not beside what another uses.
struct alignas(64) Part {
  double wall_s = 0;
  double cpu_s = 0;
  double of_a_core() const { return cpu_s / wall_s; }  // below 1: it slept, or something else had the core
};
using Parts = std::vector<Part>;

// Runs body(thread) on n threads that start together. What a body counts belongs on its own stack: a count on another's
// takes that line from it each time, whatever is measured.
template <typename F>
Parts together(int n, F&& body) {
  Parts parts(static_cast<std::size_t>(n));
  alignas(64) std::atomic<int> ready{0};
  alignas(64) std::atomic<bool> go{false};
  std::vector<std::jthread> threads;
  for (int i = 0; i < n; ++i) {
    threads.emplace_back([&, i] {
      ++ready;
      while (!go.load()) std::this_thread::yield();
      const double wall = wall_s();
      const double cpu = thread_s();
      body(i);
      parts[static_cast<std::size_t>(i)] = {.wall_s = wall_s() - wall, .cpu_s = thread_s() - cpu};
    });
  }
  while (ready != n) std::this_thread::yield();
  go = true;
  threads.clear();
  return parts;
}

// The CPU time of body, on this thread.
template <typename F>
double cpu_s(F&& body) {
  const double start = thread_s();
  body();
  return thread_s() - start;
}

// One raw measurement; run joins them into ratios. Of rows with more threads than one also what each had of a core.
inline void report(const char* workload, const char* candidate, double value, const Parts& parts = {}) {
  std::printf("%s;%s;%.4f;", workload, candidate, value);
  for (const Part& part : parts) std::printf("%s%.2f", &part == parts.data() ? "" : " ", part.of_a_core());
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace bench
