#include "graph/compile.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "graph/knowledge.h"
#include "graph/sqlite.h"
#include "graph/store.h"

namespace culprit::graph {
namespace {

constexpr double kBelieved = 0.85;  // of what a pack says without having looked it up or seen it printed

class Compiler {
 public:
  explicit Compiler(Database& database) : database_(database) {}

  Result<void> run(const Knowledge& knowledge) {
    TRY(database_.execute("DELETE FROM symptom; DELETE FROM edge; DELETE FROM alias; DELETE FROM document; DELETE FROM node; "
                          "DELETE FROM knowledge_meta; INSERT INTO document_fts(document_fts) VALUES('delete-all')"));
    for (const Pack& pack : knowledge.packs()) {
      TRY(add("middleware:" + pack.middleware, "middleware", pack.title, "", 0, pack.middleware, pack.origin, {}));
      for (const FailureMode& mode : pack.modes) TRY(add_mode(mode));
    }
    // Links may point at modes of a later pack: they come when all nodes are there.
    for (const Pack& pack : knowledge.packs()) {
      for (const FailureMode& mode : pack.modes) TRY(add_links(mode));
    }
    for (const Document& document : knowledge.documents()) TRY(add_document(document));
    Query meta = database_.query("INSERT INTO knowledge_meta(key, value) VALUES('hash', ?1)");
    meta.bind(1, knowledge.hash());
    return meta.run();
  }

 private:
  Result<void> add(const std::string& key, std::string_view kind, std::string_view name, std::string_view summary, int severity,
                   std::string_view middleware, std::string_view origin, const nlohmann::json& attributes) {
    Query query = database_.query(
        "INSERT INTO node(key, kind, name, summary, severity, middleware, origin, attributes) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
    query.bind(1, std::string_view(key)).bind(2, kind).bind(3, name).bind(4, summary);
    if (severity > 0) query.bind(5, std::int64_t{severity});
    const std::string json = attributes.is_null() ? "{}" : attributes.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    query.bind(6, middleware).bind(7, origin).bind(8, std::string_view(json));
    if (auto done = query.run(); !done) return std::unexpected(done.error().context("compile " + key));
    ids_[key] = database_.last_id();
    return {};
  }

  Result<void> relate(const std::string& from, const std::string& to, std::string_view relation, double confidence, std::string_view source, const nlohmann::json& condition = nlohmann::json::object()) {
    const auto src = ids_.find(from);
    const auto dst = ids_.find(to);
    if (src == ids_.end() || dst == ids_.end()) return fail(Code::Invalid, fmt::format("compile: no node '{}' or '{}'", from, to));
    Query query = database_.query(
        "INSERT INTO edge(src, dst, relation, confidence, source, condition) VALUES(?1, ?2, ?3, ?4, ?5, ?6) "
        "ON CONFLICT DO UPDATE SET confidence = max(confidence, excluded.confidence)");
    query.bind(1, src->second).bind(2, dst->second).bind(3, relation).bind(4, confidence).bind(5, source);
    const std::string json = condition.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    query.bind(6, std::string_view(json));
    return query.run();
  }

  Result<void> add_mode(const FailureMode& mode) {
    const std::string key = "mode:" + mode.id;
    const std::string source = mode.sources.empty() ? mode.origin : mode.sources.front().kind + ": " + mode.sources.front().ref;
    TRY(add(key, "failure_mode", mode.name, mode.summary, mode.severity, mode.middleware, mode.origin, {{"paraphrases", mode.paraphrases}, {"effect", mode.effect}}));
    const std::int64_t id = ids_[key];
    for (const std::string& alias : mode.aliases) {
      Query query = database_.query("INSERT INTO alias(alias, node) VALUES(?1, ?2)");
      query.bind(1, std::string_view(alias)).bind(2, id);
      TRY(query.run());
    }
    for (const Symptom& s : mode.symptoms) {
      const std::string symptom = fmt::format("symptom:{}#{}", mode.id, s.id);
      TRY(add(symptom, "symptom", s.id, s.example, 0, mode.middleware, mode.origin, {}));
      Query query = database_.query(
          "INSERT INTO symptom(node, failure_mode, channel, literal, regex, expr, weight, example) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)");
      query.bind(1, ids_[symptom]).bind(2, id).bind(3, channel_name(s.channel)).bind(4, std::string_view(s.literal));
      query.bind(5, std::string_view(s.regex)).bind(6, std::string_view(s.expr)).bind(7, s.weight).bind(8, std::string_view(s.example));
      TRY(query.run());
      // What a program printed for real is sure; what a manual says of it is believed.
      const bool seen = !s.produced.empty();
      TRY(relate(key, symptom, "observed_in", seen ? s.weight : std::min(s.weight, kBelieved), seen ? "printed by " + s.produced : source));
    }
    for (const Cause& c : mode.causes) {
      const std::string cause = fmt::format("cause:{}#{}", mode.id, c.id);
      TRY(add(cause, "cause", c.text, "", 0, mode.middleware, mode.origin, {}));
      TRY(relate(cause, key, "causes", c.prior > 0 ? c.prior : 0.1, source));
    }
    for (const Mitigation& m : mode.mitigations) {
      const std::string mitigation = fmt::format("mitigation:{}#{}", mode.id, m.id);
      TRY(add(mitigation, "mitigation", m.text, "", 0, mode.middleware, mode.origin, {{"kind", m.kind}, {"risk", m.risk}, {"command", m.command}}));
      TRY(relate(key, mitigation, "mitigates_with", kBelieved, source));
    }
    for (const VersionNote& v : mode.versions) {
      const std::string version = fmt::format("version:{}#{}", mode.id, v.range);
      TRY(add(version, "version", v.range, v.effect, 0, mode.middleware, mode.origin, {}));
      TRY(relate(key, version, "version_sensitive", v.confidence, v.source.empty() ? source : v.source, {{"version", v.range}}));
    }
    for (const CloudNote& c : mode.cloud) {
      const std::string provider = fmt::format("provider:{}#{}/{}", mode.id, c.provider, c.service);
      TRY(add(provider, "provider", c.service.empty() ? c.provider : c.provider + " " + c.service, c.effect, 0, mode.middleware, mode.origin, {}));
      TRY(relate(key, provider, "cloud_provider_specific", c.confidence, c.source.empty() ? source : c.source, {{"provider", c.provider}, {"service", c.service}}));
    }
    return {};
  }

  Result<void> add_links(const FailureMode& mode) {
    for (const ModeLink& to : mode.causes_modes) TRY(relate("mode:" + mode.id, "mode:" + to.to, "causes", to.confidence, to.source.empty() ? mode.origin : to.source));
    for (const Cause& cause : mode.causes) {
      for (const std::string& from : cause.from) {
        TRY(relate("mode:" + from, fmt::format("cause:{}#{}", mode.id, cause.id), "causes", cause.prior > 0 ? cause.prior : 0.1, mode.origin));
      }
    }
    return {};
  }

  Result<void> add_document(const Document& document) {
    Query query = database_.query("INSERT INTO document(id, node, title, body, signal, origin) VALUES(?1, ?2, ?3, ?4, ?5, ?6)");
    query.bind(1, static_cast<std::int64_t>(document.id));
    if (document.mode != nullptr) query.bind(2, ids_["mode:" + document.mode->id]);
    query.bind(3, std::string_view(document.title)).bind(4, std::string_view(document.body));
    query.bind(5, std::string_view(document.signal)).bind(6, std::string_view(document.origin));
    TRY(query.run());
    Query text = database_.query("INSERT INTO document_fts(rowid, title, body, signal) VALUES(?1, ?2, ?3, ?4)");
    text.bind(1, static_cast<std::int64_t>(document.id)).bind(2, std::string_view(document.title));
    text.bind(3, std::string_view(document.body)).bind(4, std::string_view(document.signal));
    return text.run();
  }

  Database& database_;
  std::unordered_map<std::string, std::int64_t> ids_;
};

}  // namespace

Result<void> compile(const Knowledge& knowledge, Database& database) { return Compiler(database).run(knowledge); }

Result<bool> Store::write_knowledge(const Knowledge& knowledge) {
  {
    Query query = database_->query("SELECT 1 FROM knowledge_meta WHERE key = 'hash' AND value = ?1");
    query.bind(1, knowledge.hash());
    ASSIGN(const bool same, query.next());
    if (same) return false;
  }
  ASSIGN(Transaction transaction, Transaction::begin(*database_));
  TRY(compile(knowledge, *database_));
  TRY(transaction.commit());
  return true;
}

}  // namespace culprit::graph
