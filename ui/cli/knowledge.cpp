// culprit knowledge list|show|search|match (import and the like: knowledge_library.cpp): what is known about how middleware fails.
#include <fmt/format.h>

#include <sstream>

#include "daemon/base/text.h"
#include "ui/cli/knowledge_library.h"
#include "ui/cli/offline.h"

namespace culprit::cli {
namespace {

constexpr std::size_t kLikeMax = 3;  // failure modes that an unknown line is like

struct Options {
  std::string middleware, id, line, queries, collection;
  std::vector<std::string> words;
  std::size_t limit = 10;
  bool known_middleware = false;
  bool scores = false;
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
                                    {"example", symptom.example},
                                    {"produced", symptom.produced}});
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
        {{"range", note.range}, {"effect", note.effect}, {"confidence", note.confidence}, {"source", note.source}});
  for (const graph::CloudNote& note : mode.cloud) {
    document["cloud"].push_back({{"provider", note.provider},
                                 {"service", note.service},
                                 {"effect", note.effect},
                                 {"confidence", note.confidence},
                                 {"source", note.source}});
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

Json answer_row(const recall::ModeAnswer& answer) {
  return {{"failure_mode", answer.mode->id}, {"name", answer.mode->name}, {"score", answer.score},
          {"symptom", answer.symptom == nullptr ? Json(nullptr) : Json(answer.symptom->id)},
          {"text_score", answer.text_score}, {"vector_score", answer.vector_score}};
}

// Literals, full text and vectors together rank (the design, section 8).
Result<Exit> search(const Session& session, const Options& options) {
  std::string question;
  for (const std::string& word : options.words) question += (question.empty() ? "" : " ") + word;
  ASSIGN(const auto modes, load_modes(session));
  ASSIGN(const auto recall, open_recall(session, modes, false));
  Json rows = Json::array();
  for (const recall::ModeAnswer& answer : modes->ask(question, options.middleware, options.limit)) rows.push_back(answer_row(answer));
  ASSIGN(const auto found, recall->documents({.text = question, .middleware = options.middleware, .collection = options.collection, .limit = options.limit}));
  Json documents = Json::array();
  for (const recall::DocumentAnswer& answer : found) {
    documents.push_back({{"title", answer.document.item.title}, {"source", answer.document.source}, {"key", answer.document.item.key},
                         {"score", answer.score}, {"text_score", answer.text_score}, {"vector_score", answer.vector_score},
                         {"link_score", answer.link_score}, {"failure_modes", answer.modes}});
  }
  return session.show_document(
      {{"api", 1}, {"question", question}, {"failure_modes", std::move(rows)}, {"documents", std::move(documents)}},
      [](const Json& document, const Style& style) {
        Table table({{"failure mode"}, {"name"}});
        for (const Json& row : list(document, "failure_modes")) table.add({text(row, "failure_mode"), text(row, "name")});
        std::string out = table.empty() ? std::string("nothing is like that\n") : table.text(style, 0);
        Table said({{"document"}, {"from"}});
        for (const Json& row : list(document, "documents")) said.add({text(row, "title"), text(row, "source") + ":" + text(row, "key")});
        if (!said.empty()) out += "\n" + said.text(style, 0);
        return out;
      });
}

// One JSON object a query in, one ranking a line out: {"qid": …, "ranked": [document keys]}.
Result<Exit> match_queries(const Session& session, const Options& options) {
  ASSIGN(const std::string input, read_input(options.queries));
  ASSIGN(const auto modes, load_modes(session));
  ASSIGN(const auto recall, open_recall(session, modes, false));
  std::istringstream lines(input);
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.empty()) continue;
    const Json query = Json::parse(line, nullptr, false);
    const std::string asked = query.is_object() ? text(query, "query") : "";
    if (asked.empty()) return fail(Code::Invalid, fmt::format("{}:{}: an object with \"query\" is expected, and may have \"qid\", \"collection\", \"middleware\"", options.queries, number));
    const std::string collection = text(query, "collection", options.collection);
    const std::string middleware = options.known_middleware ? text(query, "middleware") : options.middleware;
    Json ranked = Json::array();
    ASSIGN(const auto found, recall->documents({.text = asked, .middleware = middleware, .collection = collection, .limit = options.limit}));
    Json scores = Json::array();
    for (const recall::DocumentAnswer& answer : found) {
      ranked.push_back(answer.document.item.key);
      scores.push_back({answer.text_score, answer.vector_score, answer.link_score});
    }
    Json answered = Json::array();
    for (const recall::ModeAnswer& answer : modes->ask(asked, middleware, options.limit)) answered.push_back(answer.mode->id);
    session.out << Json{{"qid", text(query, "qid", fmt::format("{}", number))}, {"ranked", ranked}, {"scores", options.scores ? scores : Json(nullptr)}, {"failure_modes", answered}}.dump() << "\n";
  }
  return kAnswered;
}

Result<Exit> match(const Session& session, const Options& options) {
  if (!options.queries.empty()) return match_queries(session, options);
  if (options.line.empty()) return fail(Code::Invalid, "what is to be matched? A log line, - for standard input, or --queries FILE");
  ASSIGN(const auto modes, load_modes(session));
  std::string input = options.line;
  if (input == "-") {
    ASSIGN(input, read_input("-"));
  }
  Json rows = Json::array();
  Json like = Json::array();
  std::istringstream lines(input);
  for (std::string line; std::getline(lines, line);) {
    const auto found = modes->known().match(line, options.middleware);
    for (const graph::Match& one : found) {
      rows.push_back({{"failure_mode", one.failure_mode()},
                      {"name", one.name()},
                      {"weight", one.weight},
                      {"symptom", one.symptom->id},
                      {"line", sanitize_utf8(line)}});
    }
    // What it is like, if no tell-tale says what it is.
    if (!found.empty() || line.empty()) continue;
    for (const recall::ModeAnswer& answer : modes->ask(line, options.middleware, kLikeMax)) {
      Json row = answer_row(answer);
      row["line"] = sanitize_utf8(line);
      like.push_back(std::move(row));
    }
  }
  return session.show_document(
      {{"api", 1}, {"matches", std::move(rows)}, {"like", std::move(like)}}, [](const Json& document, const Style& style) {
        Table table({{"failure mode"}, {"weight", Table::Align::Right}, {"name"}});
        for (const Json& row : list(document, "matches")) {
          table.add({text(row, "failure_mode"), fmt::format("{:.2f}", number_or(row, "weight", 0)),
                     text(row, "name")});
        }
        if (!table.empty()) return table.text(style, 0);
        std::string out = "no known failure mode says that\n";
        Table near({{"nearest"}, {"name"}});
        for (const Json& row : list(document, "like")) near.add({text(row, "failure_mode"), text(row, "name")});
        return near.empty() ? out : out + near.text(style, 0);
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
  find->add_option("--collection", options->collection, "Of the imported documents")->type_name("NAME");
  find->add_option("--middleware", options->middleware, "Prefer this one")->type_name("NAME");
  CLI::App* say = add("match", "Which failure modes does this log line speak for?", match);
  say->add_option("LINE", options->line, "A log line; - reads lines from standard input");
  say->add_option("--queries", options->queries, "JSON lines, each with \"query\" (and qid, collection): ranks imported documents for each")
      ->type_name("FILE");
  say->add_flag("--known-middleware", options->known_middleware, "With --queries: each one's \"middleware\" is known");
  say->add_flag("--scores", options->scores, "With --queries: what words, vectors and links say of each");
  say->add_option("--limit", options->limit, "With --queries: at most so many a query")->type_name("N")->check(CLI::Range(1, 1000))->capture_default_str();
  say->add_option("--collection", options->collection, "Of the imported documents")->type_name("NAME");
  say->add_option("--middleware", options->middleware, "Of the program that wrote it")->type_name("NAME");
  add_knowledge_library(app, session);
}

}  // namespace culprit::cli
