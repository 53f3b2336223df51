// Network: sockets, who listens, and the edges between services.
//
// A socket is its kernel address while it lives; its tuple finds the other end of a connection inside this host.
// The callee of a connection is the service of the other end, else of the listener on the remote address and port
// (kept after its death: a refused connection has a callee, too), else "ip:port".
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "daemon/track/directory.h"
#include "daemon/track/protocol/http1.h"

namespace culprit::track {

enum class Role : std::uint8_t { Unknown, Client, Server };
enum class Protocol : std::uint8_t { Unknown, Generic, Http1, Tunnel };

// A request that is open, by slot and generation: the slot may serve another one later.
struct RequestRef {
  std::uint32_t slot = 0, generation = 0;  // generation 0: none
  explicit operator bool() const { return generation != 0; }
  bool operator==(const RequestRef&) const = default;
};

// One call of a client that was not answered, or not to its end.
struct Call {
  std::int64_t start_ns = 0;
  std::int64_t answer_ns = 0;       // first byte of the answer, 0: none yet
  std::int64_t answer_last_ns = 0;  // latest byte
  RequestRef parent;
  std::uint32_t tid = 0;            // that asked, and what it had waited for a CPU until then
  std::uint64_t run_queue_ns = 0;
  TraceContext trace;               // the parent's trace, and this call's own span
  std::uint16_t status = 0;
  bool head = false, connect = false;
  bool open_ended = false;
};

struct Edge {
  ServiceId caller = ServiceId::None;
  std::string caller_name, callee, entity, wait_attribute;
  std::int64_t used_ns = 0;
  // Of the running second.
  RequestWindow window;
  std::int64_t wait_ns = 0, wait_unlinked_ns = 0;
  std::uint64_t retransmits = 0, resets = 0;
  std::int64_t first_reset_ns = 0;
  double connect_sum_s = 0, rtt_sum_s = 0;
  std::uint64_t connects = 0, rtts = 0;
  struct Failure {
    LabelledCount count;
    std::int64_t first_ns = 0;
    std::uint32_t pid = 0;
    std::string comm;
  };
  std::map<int, Failure> failures;  // errno of connect
  SampleMask mask;
  RequestRates last;
  double last_wait_share = 0, last_retransmits = 0, last_rtt_s = 0;
};

struct Tuple {
  std::uint64_t words[5] = {};  // local address, remote address, ports
  bool operator==(const Tuple&) const = default;
};
struct TupleHash {
  std::size_t operator()(const Tuple& tuple) const;
};

struct Socket {
  culprit_socket id{};
  Role role = Role::Unknown;
  Protocol protocol = Protocol::Unknown;
  bool role_sure = false;  // known from a handshake, a listener or the protocol, not guessed from ports
  bool established = false, listening = false;
  bool payload_seen = false;
  bool peer_closed = false;                     // its end of stream was read
  std::uint32_t tgid = 0, tid = 0;              // who used it last
  std::int64_t connect_ns = 0;                  // SYN_SENT at; 0 when established
  RequestRef connect_parent;                    // whose thread connects
  std::int64_t used_ns = 0;
  std::uint64_t inode = 0;
  std::uint32_t retransmits = 0;                // as of the last tcp_info
  Edge* edge = nullptr;
  std::uint64_t edge_epoch = 0, role_epoch = 0;
  // What flows on it (requests.cpp).
  std::vector<Call> calls;                      // client: oldest first
  std::vector<RequestRef> requests;             // server: oldest first
  std::unique_ptr<Http1Parser> in_requests, in_responses;
  std::int64_t turn_ns = 0;                     // generic: last message of the turn
  std::uint8_t early = 0;                       // generic: messages that did not wait for an answer
  bool one_way = false;
  // Where each direction (enum culprit_direction) was when it was last seen; 0: not known.
  std::uint32_t positions[2] = {0, 0};
  // Where the list of sockets saw them, until the records up to then are all here.
  std::uint32_t listed_positions[2] = {0, 0};
  std::int64_t listed_ns = 0;                   // 0: nothing is waiting
  std::int64_t waits_ns = 0;                    // what was open then was not answered before then: the list says so
};

class Network {
 public:
  Network(const TrackerOptions& options, TrackStats& stats, Output& output, Directory& directory);

  Socket* find(std::uint64_t sock);
  // The socket of a record, made if new. A kernel address with another tuple is another socket: the old one goes to
  // `replaced`, so that its requests can be ended first.
  Socket* open(const culprit_socket& id, std::unique_ptr<Socket>& replaced);
  std::unique_ptr<Socket> close(std::uint64_t sock);
  // For sockets over the limit: the one that is used least, of a few. Empty while there is room.
  std::unique_ptr<Socket> evict();

  void listen(Socket& socket, std::uint32_t pid);
  void on_socket_owner(std::uint32_t pid, std::uint64_t inode);
  std::uint32_t owner_of(std::uint64_t inode) const;
  void set_own_addresses(const std::vector<std::vector<std::uint8_t>>& addresses);

  // From listeners, else from the other end, else from the ports; a guess is made better later.
  void decide_role(Socket& socket);
  Socket* peer_of(const Socket& socket);
  // The edge of a client's socket; nullptr while the caller is unknown.
  Edge* edge_of(Socket& socket);
  // The edge on which a server's request came, when its client is a service here.
  Edge* edge_to(Socket& socket);
  // The other end's service or address, for people.
  std::string peer_name(Socket& socket);
  static std::string address_text(const std::uint8_t (&address)[16]);

  void connect_failed(Socket& socket, int error, std::int64_t time_ns);
  void reset(Socket& socket, std::int64_t time_ns);
  void retransmit(Socket& socket, std::uint64_t count);
  // Failures, resets, and samples of edges. seen_s: how much of the seconds the requests are from.
  void emit_second(std::int64_t now_ns, double seconds, double seen_s);
  void forget(std::int64_t now_ns);                       // edges and listeners out of use
  void forget_name(ServiceId id, const std::string& old_name);  // of a service that has another one now

  auto& sockets() { return sockets_; }
  auto& edges() { return edges_; }
  const auto& edges() const { return edges_; }

 private:
  struct Listener {
    std::uint8_t address[16];
    std::uint32_t netns = 0;
    std::uint32_t pid = 0;
    ServiceId service = ServiceId::None;
    std::string name;  // of the last owner
    std::uint64_t sock = 0;
    std::int64_t used_ns = 0;
    bool alive = false;
  };
  Listener* listener_for(const std::uint8_t (&address)[16], std::uint16_t port, std::uint32_t netns);
  bool is_own(const std::uint8_t (&address)[16]) const;
  Edge* open_edge(ServiceId caller, const std::string& callee);
  Edge* any_edge(Socket& socket);
  std::string callee_name(Socket& socket);
  static std::string address_of_callee(const Socket& socket);
  void drop_tuple(const Socket& socket);

  const TrackerOptions& options_;
  TrackStats& stats_;
  Output& output_;
  Directory& directory_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Socket>> sockets_;
  std::unordered_map<Tuple, Socket*, TupleHash> by_tuple_;
  std::map<std::uint16_t, std::vector<Listener>> listeners_;  // by port
  std::size_t listener_count_ = 0;
  std::map<std::pair<ServiceId, std::string>, std::unique_ptr<Edge>> edges_;
  std::unordered_map<std::uint64_t, std::uint32_t> inode_owners_;
  std::unordered_set<std::string> own_addresses_;  // 16 bytes each
  std::uint64_t epoch_ = 1;  // of listeners and peers; edges are named anew when it or the directory's changes
};

}  // namespace culprit::track
