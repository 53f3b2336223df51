#include "daemon/base/log.h"

#include <unistd.h>

#include <atomic>
#include <ctime>
#include <mutex>
#include <string>
#include <unordered_map>

namespace culprit::log {
namespace {

constexpr int kSameTextPerSecondMax = 10;
constexpr std::size_t kTextsRememberedMax = 256;

struct State {
  std::mutex mutex;
  std::string program = "culprit";
  std::unordered_map<std::string, int> seen;  // warnings of this second
  std::time_t second = 0;
  long held_back = 0;
};

State& state() {
  static State instance;
  return instance;
}

std::atomic<Level> current_level{Level::Info};

const char* level_name(Level level) {
  switch (level) {
    case Level::Debug: return "debug";
    case Level::Info: return "info";
    case Level::Warn: return "warn";
    case Level::Error: return "error";
  }
  return "?";
}

}  // namespace

void set_level(Level level) { current_level.store(level, std::memory_order_relaxed); }

void set_program(std::string_view name) {
  const std::lock_guard lock(state().mutex);
  state().program = name;
}

bool enabled(Level level) { return level >= current_level.load(std::memory_order_relaxed); }

void write(Level level, std::string_view text) {
  std::string line;
  {
    State& s = state();
    const std::lock_guard lock(s.mutex);
    if (level == Level::Warn) {
      const std::time_t now = std::time(nullptr);
      if (now != s.second) {
        s.second = now;
        s.seen.clear();
        if (s.held_back > 0) {
          line += fmt::format("{}: warn: {} repeated warnings held back\n", s.program, s.held_back);
          s.held_back = 0;
        }
      }
      if (s.seen.size() < kTextsRememberedMax || s.seen.contains(std::string(text))) {
        if (++s.seen[std::string(text)] > kSameTextPerSecondMax) {
          ++s.held_back;
          return;
        }
      }
    }
    line += fmt::format("{}: {}: {}\n", s.program, level_name(level), text);
  }
  // One write, so that lines of several threads do not mix. Nobody can act on a failed log write.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace culprit::log
