// culprit knowledge list|show|search|match: what is known about how middleware fails.
#include <fmt/format.h>

#include <sstream>

#include "daemon/base/text.h"
#include "embed/model.h"
#include "ui/cli/offline.h"

namespace culprit::cli {
namespace {

struct Options {
  std::string middleware, id, line;
  std::vector<std::string> words;
  std::size_t limit = 10;
};

Result<Exit> list_modes(const Session& session, const Options& options) {
  ASSIGN(const auto known, load_knowledge(session));
  Json rows = Json::array();
  std::vector<std::string> names;
  for (const graph::Pack& pack : known->packs()) {
    names.push_back(pack.middleware);
    if (!options.middleware.empty() && pack.middleware != options.middleware) continue;
    for (const graph::FailureMode& mode : pack.modes) {
      rows.push_back({{"failure_mode", mode.id},
                      {"name", mode.name},
                      {"severity", mode.severity},
                      {"aliases", mode.aliases}});
    }
  }
  if (rows.empty() && !options.middleware.empty()) {
    std::string message = fmt::format("nothing is known of '{}'", options.middleware);
    const std::vector<std::string> near = nearest(options.middleware, names);
    if (!near.empty()) message += fmt::format("; did you mean '{}'?", near.front());
    return fail(Code::NotFound, message);
  }
  return session.show_document(
      {{"api", 1}, {"packs", names.size()}, {"failure_modes", std::move(rows)}},
      [](const Json& document, const Style& style) {
        Table table({{"failure mode"}, {"severity", Table::Align::Right}, {"name"}});
        for (const Json& row : list(document, "failure_modes"))
          table.add({text(row, "failure_mode"), whole(row, "severity"), text(row, "name")});
        return table.text(style, 0) +
               fmt::format("{} failure modes; one in full: culprit knowledge show ID\n",
                           list(document, "failure_modes").size());
      });
}

Json mode_document(const graph::Knowledge& known, const graph::FailureMode& mode) {
  Json document = {{"api", 1},
                   {"failure_mode", mode.id},
                   {"middleware", mode.middleware},
                   {"aliases", mode.aliases},
                   {"name", mode.name},
                   {"severity", mode.severity},
                   {"summary", mode.summary},
                   {"paraphrases", mode.paraphrases},
                   {"origin", mode.origin},
                   {"symptoms", Json::array()},
                   {"causes", Json::array()},
                   {"mitigations", Json::array()},
                   {"versions", Json::array()},
                   {"cloud", Json::array()},
                   {"brought_about_by", Json::array()},
                   {"brings_about", Json::array()},
                   {"sources", Json::array()}};
  for (const graph::Symptom& symptom : mode.symptoms) {
    document["symptoms"].push_back({{"id", symptom.id},
                                    {"channel", graph::channel_name(symptom.channel)},
                                    {"literal", symptom.literal},
                                    {"regex", symptom.regex},
                                    {"expr", symptom.expr},
                                    {"weight", symptom.weight},
                                    {"example", symptom.example}});
  }
  for (const graph::Cause& cause : mode.causes)
    document["causes"].push_back(
        {{"id", cause.id}, {"text", cause.text}, {"prior", cause.prior}, {"from", cause.from}});
  for (const graph::Mitigation& mitigation : mode.mitigations) {
    document["mitigations"].push_back({{"id", mitigation.id},
                                       {"kind", mitigation.kind},
                                       {"risk", mitigation.risk},
                                       {"text", mitigation.text},
                                       {"command", mitigation.command}});
  }
  for (const graph::VersionNote& note : mode.versions)
    document["versions"].push_back(
        {{"range", note.range}, {"effect", note.effect}, {"confidence", note.confidence}});
  for (const graph::CloudNote& note : mode.cloud) {
    document["cloud"].push_back({{"provider", note.provider},
                                 {"service", note.service},
                                 {"effect", note.effect},
                                 {"confidence", note.confidence}});
  }
  for (const auto& relation : known.causes_of(mode.id))
    document["brought_about_by"].push_back(
        {{"failure_mode", relation.mode->id}, {"confidence", relation.confidence}});
  for (const auto& relation : known.effects_of(mode.id))
    document["brings_about"].push_back(
        {{"failure_mode", relation.mode->id}, {"confidence", relation.confidence}});
  for (const graph::Source& source : mode.sources)
    document["sources"].push_back({{"kind", source.kind}, {"ref", source.ref}});
  return document;
}

std::string render_mode(const Json& document, const Style& style) {
  std::string out = both_ends(text(document, "failure_mode") + ": " + text(document, "name"),
                              "severity " + whole(document, "severity"), 0, style.width);
  const auto paragraph = [&](const std::string& content, std::size_t indent) {
    for (const std::string& part : wrap(content, style.width - indent))
      out += std::string(indent, ' ') + part + "\n";
  };
  if (const std::string also = scalar(field(document, "aliases")); also != "-")
    paragraph("also called " + also, 1);
  paragraph(text(document, "summary"), 1);
  const auto section = [&](const char* title, const char* key,
                           const std::function<std::vector<std::string>(const Json&)>& row) {
    Table table({{""}, {""}});
    for (const Json& one : list(document, key)) table.add(row(one));
    if (!table.empty()) out += paint(style, Paint::Bold, title) + "\n" + table.text(style, 2);
  };
  section("seen as", "symptoms", [](const Json& row) {
    const std::string what = text(row, "example", text(row, "expr"));
    return std::vector<std::string>{
        text(row, "channel"),
        what.empty() ? text(row, "literal", text(row, "regex")) + text(row, "expr") : what};
  });
  section("because", "causes", [](const Json& row) {
    return std::vector<std::string>{share_text(number_or(row, "prior", 0)), text(row, "text")};
  });
  section("do", "mitigations", [](const Json& row) {
    const std::string command = text(row, "command");
    return std::vector<std::string>{fmt::format("{}, {} risk", text(row, "kind"), text(row, "risk")),
                                    text(row, "text") + (command.empty() ? "" : ": " + command)};
  });
  section("by version", "versions",
          [](const Json& row) { return std::vector<std::string>{text(row, "range"), text(row, "effect")}; });
  section("in a cloud", "cloud", [](const Json& row) {
    return std::vector<std::string>{text(row, "provider") + " " + text(row, "service"), text(row, "effect")};
  });
  const auto related = [](const Json& row) {
    return std::vector<std::string>{share_text(number_or(row, "confidence", 0)), text(row, "failure_mode")};
  };
  section("may be brought about by", "brought_about_by", related);
  section("may bring about", "brings_about", related);
  section("source", "sources",
          [](const Json& row) { return std::vector<std::string>{text(row, "kind"), text(row, "ref")}; });
  return out;
}

Result<Exit> show_mode(const Session& session, const Options& options) {
  ASSIGN(const auto known, load_knowledge(session));
  const graph::FailureMode* mode = known->find(options.id);
  if (mode == nullptr) {
    std::string message = fmt::format("no failure mode '{}'", one_line(options.id));
    const std::vector<std::string> near = known->suggest(options.id);
    for (std::size_t i = 0; i < near.size(); ++i)
      message += (i == 0 ? "; did you mean " : ", ") + fmt::format("'{}'", near[i]);
    return fail(Code::NotFound, message + (near.empty() ? "; all of them: culprit knowledge list" : "?"));
  }
  return session.show_document(mode_document(*known, *mode), render_mode);
}

// Full text and the built-in embedding together rank (the design, section 8).
Result<Exit> search(const Session& session, const Options& options) {
  ASSIGN(const auto known, load_knowledge(session));
  std::string question;
  for (const std::string& word : options.words) question += (question.empty() ? "" : " ") + word;
  std::vector<std::string> bodies;
  for (const graph::Document& document : known->documents())
    bodies.push_back(document.title + " " + document.body);
  embed::Model model;
  const std::vector<std::string_view> views(bodies.begin(), bodies.end());
  model.learn(views);
  const embed::Vector asked = model.vector(question);
  std::vector<graph::Scored> vectors;
  for (std::size_t i = 0; i < bodies.size(); ++i) {
    vectors.push_back(
        {known->documents()[i].id, static_cast<double>(embed::dot(asked, model.vector(bodies[i])))});
  }
  Json rows = Json::array();
  for (const graph::Hit& hit : known->search(question, options.limit, vectors, options.middleware)) {
    rows.push_back(
        {{"title", hit.document->title},
         {"failure_mode", hit.document->mode == nullptr ? Json(nullptr) : Json(hit.document->mode->id)},
         {"origin", hit.document->origin},
         {"score", hit.score},
         {"text_score", hit.text_score},
         {"vector_score", hit.vector_score}});
  }
  return session.show_document(
      {{"api", 1}, {"question", question}, {"hits", std::move(rows)}},
      [](const Json& document, const Style& style) {
        Table table({{"failure mode"}, {"title"}});
        for (const Json& row : list(document, "hits"))
          table.add({text(row, "failure_mode", text(row, "origin", "-")), text(row, "title")});
        return table.empty() ? std::string("nothing is like that\n") : table.text(style, 0);
      });
}

Result<Exit> match(const Session& session, const Options& options) {
  ASSIGN(const auto known, load_knowledge(session));
  std::string input = options.line;
  if (input == "-") {
    ASSIGN(input, read_input("-"));
  }
  Json rows = Json::array();
  std::istringstream lines(input);
  for (std::string line; std::getline(lines, line);) {
    for (const graph::Match& found : known->match(line, options.middleware)) {
      rows.push_back({{"failure_mode", found.failure_mode()},
                      {"name", found.name()},
                      {"weight", found.weight},
                      {"symptom", found.symptom->id},
                      {"line", sanitize_utf8(line)}});
    }
  }
  return session.show_document(
      {{"api", 1}, {"matches", std::move(rows)}}, [](const Json& document, const Style& style) {
        Table table({{"failure mode"}, {"weight", Table::Align::Right}, {"name"}});
        for (const Json& row : list(document, "matches")) {
          table.add({text(row, "failure_mode"), fmt::format("{:.2f}", number_or(row, "weight", 0)),
                     text(row, "name")});
        }
        return table.empty() ? std::string("no known failure mode says that\n") : table.text(style, 0);
      });
}

}  // namespace

void add_knowledge(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();  // shared by the option bindings and the callbacks
  app.require_subcommand(1);
  const auto add = [&](const char* name, const char* summary,
                       Result<Exit> (*run)(const Session&, const Options&)) {
    CLI::App* sub = app.add_subcommand(name, summary);
    sub->fallthrough()->group("Commands");
    sub->callback([&session, options, run] {
      session.run = [&session, options, run] { return run(session, *options); };
    });
    return sub;
  };
  add("list", "All failure modes, or those of one middleware", list_modes)
      ->add_option("MIDDLEWARE", options->middleware, "postgresql, redis, nginx, ...");
  add("show", "One failure mode: how it shows, why it happens, what to do", show_mode)
      ->add_option("ID", options->id, "postgresql/lock-wait, or another name of it")
      ->required();
  CLI::App* find = add("search", "Failure modes and your own documents about this", search);
  find->add_option("TEXT", options->words, "In your own words")->required();
  find->add_option("--limit", options->limit, "At most so many")
      ->type_name("N")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  find->add_option("--middleware", options->middleware, "Prefer this one")->type_name("NAME");
  CLI::App* say = add("match", "Which failure modes does this log line speak for?", match);
  say->add_option("LINE", options->line, "A log line; - reads lines from standard input")->required();
  say->add_option("--middleware", options->middleware, "Of the program that wrote it")->type_name("NAME");
}

}  // namespace culprit::cli
