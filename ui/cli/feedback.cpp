// culprit feedback N RANK right|wrong|partly, and its two short forms confirm and reject; similar.
#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include "daemon/recall/incidents.h"
#include "ui/cli/knowledge_library.h"

namespace culprit::cli {

namespace {

struct Options {
  std::int64_t incident = 0;
  std::int64_t rank = 1;
  std::string verdict, note, text;
  bool undo = false;
  std::size_t limit = 5;
};

std::string account() {
  const passwd* user = ::getpwuid(::getuid());
  return user != nullptr ? user->pw_name : fmt::format("uid {}", ::getuid());
}

Result<Exit> tell(const Session& session, const Options& options) {
  const std::string verdict = options.undo ? "undo" : options.verdict;
  const Json body = {{"rank", options.rank}, {"verdict", verdict}, {"note", options.note}, {"who", account()}};
  ASSIGN(const std::string answer,
         session.client().post(fmt::format("/api/v1/incidents/{}/feedback", options.incident), body));
  if (session.json())
    session.out << answer;
  else
    session.out << fmt::format("remembered: incident {}, cause {}: {}\n", options.incident, options.rank, verdict);
  return kAnswered;
}

void add_verdict(CLI::App& app, Session& session, const char* verdict, const char* note_flag, const char* note_help) {
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callback
  options->verdict = verdict;
  app.add_option("N", options->incident, "The incident's number")->required();
  app.add_option("RANK", options->rank, "The cause's number in its answer; 0 = the whole answer")->capture_default_str();
  app.add_option(note_flag, options->note, note_help)->type_name("TEXT");
  app.add_flag("--undo", options->undo, "Take back what was said");
  app.callback([&session, options] { session.run = [&session, options] { return tell(session, *options); }; });
}

// Of the folder --state DIR, else of the running daemon: it alone knows where its incidents are.
Result<Exit> find_similar(const Session& session, const Options& options) {
  const auto render = [](const Json& document, const Style& style) {
    std::string out;
    for (const Json& row : list(document, "similar")) {
      out += paint(style, Paint::Bold, text(row, "title")) + "\n";
      for (const std::string& line : lines(row, "text")) {
        if (line.empty()) continue;
        for (const std::string& part : wrap(line, style.width - 2)) out += "  " + part + "\n";
      }
    }
    return out.empty() ? std::string("no confirmed incident is like that; culprit confirm N makes one\n") : out;
  };
  if (session.state_dir.empty())
    return session.show(session.client().get("/api/v1/similar", {{"about", options.text}, {"limit", fmt::format("{}", options.limit)}}), render);
  ASSIGN(const auto modes, load_modes(session));
  ASSIGN(const auto recall, open_recall(session, modes, false));
  ASSIGN(const Json document, recall::similar_incidents(*recall, graph_file(session), options.text, options.limit));
  return session.show_document(document, render);
}

}  // namespace

void add_confirm(CLI::App& app, Session& session) { add_verdict(app, session, "right", "--note", "In your words: what fixed it"); }
void add_reject(CLI::App& app, Session& session) { add_verdict(app, session, "wrong", "--cause", "In your words: what it really was"); }

void add_similar(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callback
  app.add_option("N|TEXT", options->text, "An incident's number, or words")->required();
  app.add_option("--limit", options->limit, "At most so many")->type_name("N")->check(CLI::Range(1, 100))->capture_default_str();
  app.callback([&session, options] { session.run = [&session, options] { return find_similar(session, *options); }; });
}

void add_feedback(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callback
  app.add_option("N", options->incident, "The incident's number")->required();
  app.add_option("RANK", options->rank, "The cause's number in its answer; 0 = the whole answer")->required();
  app.add_option("VERDICT", options->verdict, "right, wrong, partly, or undo to take it back")
      ->required()
      ->check(CLI::IsMember({"right", "wrong", "partly", "undo"}));
  app.add_option("--note", options->note, "In your words: what it really was")->type_name("TEXT");
  app.callback([&session, options] { session.run = [&session, options] { return tell(session, *options); }; });
}

}  // namespace culprit::cli
