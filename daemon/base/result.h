// Result: how every fallible call in Culprit answers. A value, or an Error with a code that a caller can
// act on and a message that a person can. Leaves name the object; each layer that knows more prepends it
// with `context()`, so that a message reads from the outside in: "load rule 'oom-kill': parse byte 211: ...".
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace culprit {

// What a caller can do about it decides the code, not where it happened.
enum class Code {
  NotFound,     // the named thing does not exist
  Invalid,      // the input is wrong; its giver must change it
  Unsupported,  // this kernel, build or version cannot
  Denied,       // a right is missing
  Busy,         // try again later
  Corrupt,      // stored bytes are not what was written
  Io,           // the operating system failed
  Exhausted,    // a limit was reached
};

std::string_view code_name(Code code);

struct Error {
  Code code;
  std::string message;

  // The same error with `what: ` in front of its message.
  Error context(std::string_view what) const {
    return {code, std::string(what) + ": " + message};
  }
};

template <typename T>
using Result = std::expected<T, Error>;

// Makes the error side of any Result: `return fail(Code::NotFound, "no service 'x'")`.
inline std::unexpected<Error> fail(Code code, std::string message) {
  return std::unexpected(Error{code, std::move(message)});
}

// Io, NotFound or Denied from an errno value, with its text: "open '/x': No such file or directory".
std::unexpected<Error> fail_errno(int error, std::string_view what);

}  // namespace culprit

#define CULPRIT_CONCAT_(a, b) a##b
#define CULPRIT_CONCAT(a, b) CULPRIT_CONCAT_(a, b)

// Returns the error of `expression` (a Result<void> or any Result whose value is not needed), if any.
#define TRY(expression)                                               \
  do {                                                                \
    if (auto result_ = (expression); !result_) {                      \
      return std::unexpected(std::move(result_).error());             \
    }                                                                 \
  } while (false)

// ASSIGN(const Config config, Config::load(path)): declares the value or returns the error.
#define ASSIGN(declaration, expression) \
  CULPRIT_ASSIGN_(CULPRIT_CONCAT(result_, __LINE__), declaration, expression)
#define CULPRIT_ASSIGN_(result, declaration, expression)              \
  auto result = (expression);                                         \
  if (!result) return std::unexpected(std::move(result).error());     \
  declaration = std::move(*result)
