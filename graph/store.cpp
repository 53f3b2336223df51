// Opening, migrating, incidents and feedback. Topology is in topology.cpp.
#include "graph/store.h"

#include <fmt/format.h>

#include <algorithm>

#include "graph/open.h"
#include "graph/sqlite.h"

namespace culprit::graph {
namespace {

constexpr std::size_t kTextBytesMax = 64U << 10U;    // of headlines, names and notes

constexpr const char* kInsertIncident =
    "INSERT INTO incident(service, opened_ns, updated_ns, closed_ns, state, headline, explanation) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)";
constexpr const char* kPutIncident =
    "INSERT INTO incident(service, opened_ns, updated_ns, closed_ns, state, headline, explanation, id) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) "
    "ON CONFLICT(id) DO UPDATE SET service = ?1, opened_ns = ?2, updated_ns = ?3, closed_ns = ?4, state = ?5, headline = ?6, explanation = ?7";
constexpr const char* kGetIncident =
    "SELECT id, service, opened_ns, updated_ns, closed_ns, state, headline, explanation FROM incident WHERE id = ?1";
constexpr const char* kListIncidents =
    "SELECT id, service, opened_ns, updated_ns, closed_ns, state, headline, CASE WHEN ?5 THEN explanation ELSE '' END FROM incident "
    "WHERE (?1 = '' OR state = ?1) AND (?2 = '' OR service = ?2) AND updated_ns >= ?3 ORDER BY id DESC LIMIT ?4";
constexpr const char* kOldVerdict = "SELECT failure_mode, verdict FROM feedback WHERE incident = ?1 AND rank = ?2";
constexpr const char* kPutFeedback =
    "INSERT OR REPLACE INTO feedback(incident, rank, verdict, failure_mode, entity, note, time_ns, who) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
constexpr const char* kListFeedback =
    "SELECT rank, verdict, failure_mode, entity, note, time_ns, who FROM feedback WHERE incident = ?1 ORDER BY rank";
constexpr const char* kCountVerdict =
    "INSERT INTO verdict(failure_mode, right, wrong, partly) VALUES(?1, ?2 = 'right', ?2 = 'wrong', ?2 = 'partly') "
    "ON CONFLICT(failure_mode) DO UPDATE SET right = right + excluded.right, wrong = wrong + excluded.wrong, partly = partly + excluded.partly";
constexpr const char* kUncountVerdict =
    "UPDATE verdict SET right = right - (?2 = 'right'), wrong = wrong - (?2 = 'wrong'), partly = partly - (?2 = 'partly') WHERE failure_mode = ?1";

Incident read_incident(const Query& row) {
  return {.id = IncidentId{row.integer(0)},
          .service = row.text(1),
          .opened_ns = row.integer(2),
          .updated_ns = row.integer(3),
          .closed_ns = row.integer(4),
          .state = row.text(5),
          .headline = row.text(6),
          .explanation = row.text(7)};
}

Result<std::map<std::string, Verdicts>> read_verdicts(Query&& query) {
  std::map<std::string, Verdicts> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result[query.text(0)] = {query.integer(1), query.integer(2), query.integer(3)};
  }
}

}  // namespace

Store::Store(std::unique_ptr<Database> database) : database_(std::move(database)) {}
Store::Store(Store&&) noexcept = default;
Store& Store::operator=(Store&&) noexcept = default;
Store::~Store() = default;

Result<Store> Store::open(const std::filesystem::path& file, Mode mode) {
  ASSIGN(auto database, open_graph(file, mode == Mode::Write));
  return Store(std::move(database));
}

Result<void> Store::check_not_in_use(const std::filesystem::path& file) { return graph::check_not_in_use(file); }

Result<Store> Store::open_or_set_aside(const std::filesystem::path& file, std::string& said) {
  ASSIGN(auto database, open_graph_or_set_aside(file, said));
  return Store(std::move(database));
}

Result<IncidentId> Store::save(const Incident& incident) {
  if (incident.explanation.size() > kExplanationBytesMax) {
    return fail(Code::Exhausted, fmt::format("incident explanation of {} bytes, at most {}", incident.explanation.size(), kExplanationBytesMax));
  }
  if (incident.headline.size() > kTextBytesMax || incident.service.size() > kTextBytesMax) {
    return fail(Code::Invalid, "incident headline or service name is too long");
  }
  const bool fresh = incident.id == IncidentId{};
  Query query = database_->query(fresh ? kInsertIncident : kPutIncident);
  query.bind(1, std::string_view(incident.service)).bind(2, incident.opened_ns).bind(3, incident.updated_ns).bind(4, incident.closed_ns);
  query.bind(5, std::string_view(incident.state)).bind(6, std::string_view(incident.headline)).bind(7, std::string_view(incident.explanation));
  if (!fresh) query.bind(8, static_cast<std::int64_t>(incident.id));
  if (auto done = query.run(); !done) return std::unexpected(done.error().context("save incident"));
  return fresh ? IncidentId{database_->last_id()} : incident.id;
}

Result<Incident> Store::get(IncidentId id) {
  Query query = database_->query(kGetIncident);
  query.bind(1, static_cast<std::int64_t>(id));
  ASSIGN(const bool row, query.next());
  if (!row) return fail(Code::NotFound, fmt::format("no incident {}", static_cast<std::int64_t>(id)));
  return read_incident(query);
}

Result<std::vector<Incident>> Store::incidents(const ListOptions& options) {
  Query query = database_->query(kListIncidents);
  query.bind(1, std::string_view(options.state)).bind(2, std::string_view(options.service)).bind(3, options.since_ns);
  query.bind(4, static_cast<std::int64_t>(std::min(options.limit, kListMax))).bind(5, std::int64_t{options.explanations});
  std::vector<Incident> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back(read_incident(query));
  }
}

Result<void> Store::add_feedback(const Feedback& feedback) {
  if (feedback.verdict != "right" && feedback.verdict != "wrong" && feedback.verdict != "partly") {
    return fail(Code::Invalid, fmt::format("verdict must be right, wrong or partly, not '{}'", feedback.verdict.substr(0, 32)));
  }
  if (feedback.rank < 0 || feedback.rank > 1000) return fail(Code::Invalid, fmt::format("rank must be 0 to 1000, not {}", feedback.rank));
  if (feedback.note.size() > kTextBytesMax || feedback.who.size() > kTextBytesMax) return fail(Code::Invalid, "note is too long");
  TRY(get(feedback.incident));
  const auto incident = static_cast<std::int64_t>(feedback.incident);
  ASSIGN(Transaction transaction, Transaction::begin(*database_));
  {
    Query old = database_->query(kOldVerdict);
    old.bind(1, incident).bind(2, std::int64_t{feedback.rank});
    ASSIGN(const bool row, old.next());
    if (row) {
      Query uncount = database_->query(kUncountVerdict);
      uncount.bind(1, std::string_view(old.text(0))).bind(2, std::string_view(old.text(1)));
      TRY(uncount.run());
    }
  }
  Query put = database_->query(kPutFeedback);
  put.bind(1, incident).bind(2, std::int64_t{feedback.rank}).bind(3, std::string_view(feedback.verdict));
  put.bind(4, std::string_view(feedback.failure_mode)).bind(5, std::string_view(feedback.entity));
  put.bind(6, std::string_view(feedback.note)).bind(7, feedback.time_ns).bind(8, std::string_view(feedback.who));
  TRY(put.run());
  // A verdict on the whole answer is about no failure mode.
  if (!feedback.failure_mode.empty()) {
    Query count = database_->query(kCountVerdict);
    count.bind(1, std::string_view(feedback.failure_mode)).bind(2, std::string_view(feedback.verdict));
    TRY(count.run());
  }
  return transaction.commit();
}

Result<void> Store::undo_feedback(IncidentId incident, int rank) {
  const auto id = static_cast<std::int64_t>(incident);
  ASSIGN(Transaction transaction, Transaction::begin(*database_));
  {
    Query old = database_->query(kOldVerdict);
    old.bind(1, id).bind(2, std::int64_t{rank});
    ASSIGN(const bool row, old.next());
    if (!row) return fail(Code::NotFound, fmt::format("nothing was said about cause {} of incident {}", rank, id));
    Query uncount = database_->query(kUncountVerdict);
    uncount.bind(1, std::string_view(old.text(0))).bind(2, std::string_view(old.text(1)));
    TRY(uncount.run());
  }
  Query remove = database_->query("DELETE FROM feedback WHERE incident = ?1 AND rank = ?2");
  remove.bind(1, id).bind(2, std::int64_t{rank});
  TRY(remove.run());
  return transaction.commit();
}

Result<std::vector<Feedback>> Store::feedback(IncidentId id) {
  Query query = database_->query(kListFeedback);
  query.bind(1, static_cast<std::int64_t>(id));
  std::vector<Feedback> result;
  while (true) {
    ASSIGN(const bool row, query.next());
    if (!row) return result;
    result.push_back({.incident = id,
                      .rank = static_cast<int>(query.integer(0)),
                      .verdict = query.text(1),
                      .failure_mode = query.text(2),
                      .entity = query.text(3),
                      .note = query.text(4),
                      .time_ns = query.integer(5),
                      .who = query.text(6)});
  }
}

Result<std::map<std::string, Verdicts>> Store::verdicts() {
  return read_verdicts(database_->query(
      "SELECT failure_mode, sum(right), sum(wrong), sum(partly) FROM (SELECT failure_mode, right, wrong, partly FROM verdict UNION ALL "
      "SELECT failure_mode, right, wrong, partly FROM shared_verdict) GROUP BY failure_mode"));
}

// Counts that were taken back to nothing say nothing.
Result<std::map<std::string, Verdicts>> Store::own_verdicts() {
  return read_verdicts(database_->query("SELECT failure_mode, right, wrong, partly FROM verdict WHERE right + wrong + partly > 0 AND failure_mode <> ''"));
}

}  // namespace culprit::graph
