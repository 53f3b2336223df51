// culprit: the command line. Everything is in run_cli; this is only the process around it.
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

#include "ui/cli/command.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // `culprit events | head` ends by a failed write
  std::ios::sync_with_stdio(false);
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  const std::vector<std::string> arguments(argv + 1, argv + argc);
  const culprit::cli::Environment environment{
      .socket = variable("CULPRIT_SOCKET"),
      .terminal = ::isatty(STDOUT_FILENO) == 1 && variable("TERM") != "dumb",
      .no_color = !variable("NO_COLOR").empty()};
  const culprit::SystemClock clock;
  try {
    return culprit::cli::run_cli(arguments, environment, clock, std::cout, std::cerr);
  } catch (const std::exception& error) {
    std::cerr << "culprit: internal error: " << error.what() << "\n";
    return culprit::cli::kInternal;
  }
}
