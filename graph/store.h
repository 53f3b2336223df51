// Graph store: what Culprit remembers on disk beyond events, one SQLite file in WAL mode (`graph.db`
// under the state directory): incidents with their explanations, the verdicts of people, the topology
// with the intervals in which it was observed, and a copy of the knowledge graph for SQL readers.
//
// Topology: nodes are things that live on the host, edges are what they did to each other. Both carry
// intervals [first_seen, last_seen]; two sightings less than kIntervalGapNs apart are one interval, so
// replaying a batch, or its parts in any order, changes nothing.
//
// Times are wall nanoseconds since the epoch, unlike in the event stream: the file outlives a boot.
//
// Threads: a Store belongs to one thread. Open as many as there are threads, on the same file: readers
// never wait for the writer, writers wait for each other at most kBusyTimeoutMs, then answer Busy.
// Limits: batches, walks and lists are bounded by the k…Max constants; what a walk left out is counted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/base/result.h"
#include "daemon/base/verdicts.h"

namespace culprit::graph {

class Database;
class Knowledge;

inline constexpr std::size_t kBatchMax = 65'536;                            // nodes or edges a call
inline constexpr std::size_t kListMax = 1'000;                              // incidents a list
inline constexpr std::size_t kExplanationBytesMax = 8U << 20U;              // one explanation
inline constexpr std::int64_t kIntervalGapNs = 300LL * 1'000'000'000;       // 5 min unseen ends an interval
inline constexpr int kBusyTimeoutMs = 2'000;

enum class IncidentId : std::int64_t {};
enum class NodeId : std::int64_t {};

// Stored on disk: values are never reused.
enum class NodeKind : std::uint8_t { Host = 1, Device, Mount, Cgroup, Unit, Service, Process, Endpoint, Peer };
enum class EdgeKind : std::uint8_t { Calls = 1, RunsOn, Uses, Contains };
std::string_view node_kind_name(NodeKind kind);  // "service"
std::string_view edge_kind_name(EdgeKind kind);  // "runs_on"

struct Incident {
  IncidentId id{};  // 0 = not saved yet
  std::string service{};
  std::int64_t opened_ns = 0;
  std::int64_t updated_ns = 0;
  std::int64_t closed_ns = 0;  // 0 = still open
  std::string state = "open";  // "open", "closed", or what the detector calls it; at most 32 bytes
  std::string headline{};
  std::string explanation = "{}";  // the JSON document of docs/api.md
};

// What a person said about one candidate of an incident.
struct Feedback {
  IncidentId incident{};
  int rank = 1;                // 0 = the whole answer
  std::string verdict{};       // "right", "wrong", "partly"
  std::string failure_mode{};  // of that candidate, when it was said
  std::string entity{};
  std::string note{};
  std::int64_t time_ns = 0;
  std::string who{};           // account that said it
};

using culprit::Verdicts;

struct Node {
  NodeKind kind{};
  std::string key{};  // unique within its kind: "shop", "4211@884120033" (pid@start), "vda"
  std::int64_t first_seen_ns = 0;
  std::int64_t last_seen_ns = 0;
  std::string attributes = "{}";  // JSON object; the newest sighting's replaces the older
};

struct Edge {
  NodeId from{}, to{};
  EdgeKind kind{};
  std::int64_t first_seen_ns = 0;
  std::int64_t last_seen_ns = 0;
};

struct StoredNode {
  NodeId id{};
  Node node;
};

struct Topology {
  std::vector<StoredNode> nodes{};
  std::vector<Edge> edges{};
  std::uint64_t left_out = 0;  // rows beyond the limit
};

enum class Direction : std::uint8_t { Out, In, Both };  // Out: whom it calls, where it runs

struct WalkOptions {
  Direction direction = Direction::Out;
  int depth_max = 4;
  std::size_t nodes_max = 1'000;
  std::optional<std::int64_t> at_ns{};  // only edges valid then
};

struct WalkStep {
  NodeId node{};
  int depth = 0;
  NodeId via{};  // the node it was reached from; itself at depth 0
  EdgeKind edge{};
};

struct Walk {
  std::vector<WalkStep> steps{};  // breadth first, each node once
  std::uint64_t left_out = 0;   // edges not followed because a limit was reached
};

class Store {
 public:
  enum class Mode : std::uint8_t { Read, Write };

  // Opens the file, creating and migrating it in Mode::Write.
  // Errors: Io; NotFound (Mode::Read); Corrupt if it is no graph; Unsupported if a newer release wrote it.
  static Result<Store> open(const std::filesystem::path& file, Mode mode);
  // As Mode::Write, after a check of the whole file. A damaged one is renamed to "<file>.damaged-<n>" and a new one begun;
  // `said` tells so, and stays empty otherwise. Errors: also Busy if it is damaged and somebody else has it open.
  static Result<Store> open_or_set_aside(const std::filesystem::path& file, std::string& said);
  // Errors: Busy if somebody has the file open, which a running daemon has.
  static Result<void> check_not_in_use(const std::filesystem::path& file);
  Store(Store&&) noexcept;
  Store& operator=(Store&&) noexcept;
  ~Store();

  // -- incidents --------------------------------------------------------------------------------------
  // Inserts or replaces the incident and answers its id. Id 0 takes the next one: ids grow from 1 and are never
  // reused, also across restarts. Detection numbers its incidents itself; an id that is not there is inserted
  // as it is. Errors: Invalid if the explanation is no JSON.
  Result<IncidentId> save(const Incident& incident);
  Result<Incident> get(IncidentId id);  // NotFound
  // Newest first; `state` empty = all. Explanations are left empty unless asked for.
  struct ListOptions {
    std::string state{};
    std::string service{};
    std::int64_t since_ns = 0;  // updated since
    std::size_t limit = 100;    // at most kListMax
    bool explanations = false;
  };
  Result<std::vector<Incident>> incidents(const ListOptions& options);

  // Remembers a verdict; the last one for (incident, rank) counts. Errors: NotFound, Invalid.
  Result<void> add_feedback(const Feedback& feedback);
  Result<void> undo_feedback(IncidentId incident, int rank);  // NotFound if nothing was said
  Result<std::vector<Feedback>> feedback(IncidentId id);
  // Verdicts so far by failure mode, also those that were imported, for priors.
  Result<std::map<std::string, Verdicts>> verdicts();
  Result<std::map<std::string, Verdicts>> own_verdicts();  // without those that were imported: what is passed on

  // -- topology ---------------------------------------------------------------------------------------
  // Inserts nodes, or extends their intervals, in one transaction: all or none.
  // ids[i] receives the id of nodes[i]; both spans have equal length, at most kBatchMax.
  Result<void> upsert(std::span<const Node> nodes, std::span<NodeId> ids);
  Result<void> upsert(std::span<const Edge> edges);  // Invalid if an end does not exist

  Result<std::optional<NodeId>> find(NodeKind kind, std::string_view key);
  Result<StoredNode> get(NodeId id);
  // Everything whose interval holds `at_ns`; each interval is the one that holds it.
  Result<Topology> topology_at(std::int64_t at_ns, std::size_t limit = 10'000);
  Result<Walk> walk(NodeId start, const WalkOptions& options);

  // Forgets intervals that ended before then, and nodes and edges left without one, and closed incidents
  // older than it. Answers the number of rows removed.
  Result<std::uint64_t> prune(std::int64_t before_ns);

  // -- knowledge --------------------------------------------------------------------------------------
  // Writes the packs' graph into this file for SQL readers, if it is not the one that is there.
  // Answers whether it wrote.
  Result<bool> write_knowledge(const Knowledge& knowledge);

 private:
  explicit Store(std::unique_ptr<Database> database);
  std::unique_ptr<Database> database_;
};

}  // namespace culprit::graph
