// Log: the one logger. Text plus key=value on stderr (journald adds the time there); repeated warnings
// are rate-limited with a count. Whoever decides what happens next logs, once, and says what happens
// next. Never payloads, never secrets.
#pragma once

#include <fmt/format.h>

#include <string_view>

namespace culprit::log {

enum class Level { Debug, Info, Warn, Error };

void set_level(Level level);
void set_program(std::string_view name);  // prefix of each line, e.g. "culpritd"
bool enabled(Level level);
void write(Level level, std::string_view text);

template <typename... Args>
void debug(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::Debug)) write(Level::Debug, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void info(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::Info)) write(Level::Info, fmt::format(format, std::forward<Args>(args)...));
}
// At most 10 lines a second for the same text; what was held back is said with the next one.
template <typename... Args>
void warn(fmt::format_string<Args...> format, Args&&... args) {
  if (enabled(Level::Warn)) write(Level::Warn, fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void error(fmt::format_string<Args...> format, Args&&... args) {
  write(Level::Error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace culprit::log
