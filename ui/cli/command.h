// Command: what every command of `culprit` is made of. One file a command, one row in commands.cpp.
//
// A command's `add` declares its arguments on its CLI11 subcommand and gives the session its `run`, which is
// called after all arguments were read. Data goes to session.out, messages to session.err.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <ostream>
#include <span>
#include <string>

#include "daemon/base/clock.h"
#include "daemon/base/result.h"
#include "ui/cli/client.h"
#include "ui/cli/page.h"

namespace culprit::cli {

// docs/api.md, "Exit codes of culprit".
enum Exit : int {
  kAnswered = 0,
  kSomethingWrong = 1,
  kUsage = 2,
  kNotFound = 3,
  kNoAnswer = 4,
  kDenied = 5,
  kBadInput = 6,
  kInternal = 7,
  // `policy check` alone keeps to what linters for CI do.
  kUnreadable = 2,
  kViolations = 7,
};

struct Session {
  Session(std::ostream& data, std::ostream& messages, const Clock& clock_of)
      : out(data), err(messages), clock(clock_of) {}

  // Global flags.
  std::string socket_path;
  std::string output = "text";
  std::string state_dir;  // offline commands: own packs, rules and documents; empty = /etc/culprit
  bool no_color = false;
  bool exit_code = false;

  std::ostream& out;
  std::ostream& err;
  const Clock& clock;
  bool terminal = false;  // out is one, and the environment allows colour

  std::function<Result<Exit>()> run;  // of the chosen command

  bool json() const { return output == "json"; }
  bool csv() const { return output == "csv"; }
  Client client() const { return Client(socket_path); }
  std::int64_t now_wall_ns() const { return clock.wall_ns(clock.now_ns()); }
  Style style() const { return {.color = terminal && !no_color, .now_wall_ns = now_wall_ns()}; }

  // The answer as it came with -o json, else rendered. `wrong` decides the exit code under --exit-code.
  Result<Exit> show(const Result<std::string>& answer,
                    const std::function<std::string(const Json&, const Style&)>& render,
                    const std::function<bool(const Json&)>& wrong = {}) const;
  // The same for a document that is mostly one table, `key`, which -o csv gives with these columns.
  Result<Exit> show_table(const Result<std::string>& answer, std::string_view key, std::span<const std::string_view> columns,
                          const std::function<std::string(const Json&, const Style&)>& render) const;
  // A document of an offline command: the same for documents made here.
  Result<Exit> show_document(const Json& document,
                             const std::function<std::string(const Json&, const Style&)>& render) const;
};

struct Command {
  const char* name;
  const char* summary;
  const char* more;  // below the options in --help: what it tells, examples
  void (*add)(CLI::App& app, Session& session);
};

std::span<const Command> commands();

Exit exit_of(Code code);

// The whole program, without the process around it.
struct Environment {
  std::string socket;     // $CULPRIT_SOCKET, or empty
  bool terminal = false;  // standard output is one
  bool no_color = false;  // $NO_COLOR is set
};
int run_cli(std::span<const std::string> arguments, const Environment& environment, const Clock& clock,
            std::ostream& out, std::ostream& err);

// The check of an option that is a filter of events: empty if it is one, else what is wrong with it.
std::string check_filter(const std::string& text);

// Each command's add; defined in <name>.cpp.
void add_why(CLI::App& app, Session& session);
void add_incidents(CLI::App& app, Session& session);
void add_events(CLI::App& app, Session& session);
void add_diff(CLI::App& app, Session& session);
void add_series(CLI::App& app, Session& session);
void add_store(CLI::App& app, Session& session);
void add_services(CLI::App& app, Session& session);
void add_status(CLI::App& app, Session& session);
void add_doctor(CLI::App& app, Session& session);
void add_feedback(CLI::App& app, Session& session);
void add_confirm(CLI::App& app, Session& session);
void add_reject(CLI::App& app, Session& session);
void add_similar(CLI::App& app, Session& session);
void add_config(CLI::App& app, Session& session);
void add_replay(CLI::App& app, Session& session);
void add_learn(CLI::App& app, Session& session);
void add_templates(CLI::App& app, Session& session);
void add_sources(CLI::App& app, Session& session);
void add_import(CLI::App& app, Session& session);
void add_trace(CLI::App& app, Session& session);
void add_logs(CLI::App& app, Session& session);
void add_knowledge(CLI::App& app, Session& session);
void add_rules(CLI::App& app, Session& session);
void add_policy(CLI::App& app, Session& session);
Result<Exit> summary(const Session& session);  // `culprit` alone

}  // namespace culprit::cli
