// Requests: what services ask of each other, and which thread works for whom.
//
// Servers: a request begins with the first bytes read and ends with the last byte of its answer; a request of a
// protocol that we do not parse ends with the first byte of its answer. Clients: the same, mirrored: a call.
//
// A thread works for the request that it read last, or whose upstream's answer it read last (event loops). Calls
// and log lines of a thread belong to the request it works for, until that is answered. Where a thread holds several
// open requests that is a guess, counted as ambiguous, and log lines stay alone.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "daemon/track/network.h"

namespace culprit::track {

class Requests {
 public:
  Requests(const TrackerOptions& options, TrackStats& stats, Output& output, Directory& directory, Network& network);

  void on_payload(const culprit_payload_event& event);
  void on_state(const culprit_tcp_state_event& event);
  // Ends what is open on a socket that is no more. `error`: errno of the socket, 0 if it was closed in order.
  // `positions`: where its streams ended (culprit_tcp_state_event), null if nobody knows.
  void closed(Socket& socket, std::int64_t time_ns, int error, bool peer_first, const culprit_u32* positions = nullptr);
  // The probes were blind: nothing that is open can be trusted.
  void forget_open();

  // Whose request does this thread work for? False if none, or if it cannot be told (counted).
  bool owner_of_line(std::uint32_t tgid, std::uint32_t tid, std::int64_t time_ns, TraceContext& out);

  // Once a second, before samples: in-flight counts, ages and waiting time until now; ends answers that went quiet.
  // `all_seen`: no record of the watched was left out of late.
  void accrue(std::int64_t now_ns, bool all_seen);
  // After samples: the next second begins.
  void begin_second(std::int64_t now_ns);

 private:
  struct Wait {
    std::int64_t start_ns, end_ns;
    std::string callee;
  };
  struct Request {
    std::uint32_t generation = 0;
    bool open = false, http = false, ambiguous = false, open_ended = false, failed = false;
    std::uint16_t status = 0;
    std::uint32_t tgid = 0, tid = 0;
    std::int64_t start_ns = 0, answer_ns = 0, answer_last_ns = 0;
    ServiceId service = ServiceId::None;
    std::uint64_t sock = 0, call_sock = 0;  // call_sock: of its latest call
    std::uint64_t run_queue_from_ns = 0;    // what its thread had waited for a CPU when it began
    // What it waited from then to its answer, -1: not known; and the part of that before the answers of its calls were read.
    std::int64_t run_queue_ns = -1, run_queue_in_calls_ns = 0;
    TraceContext trace;                     // span_id: its own
    std::uint64_t parent_span = 0;
    bool trace_given = false;
    std::string method, path, client_address, client_service;
    std::uint16_t client_port = 0;
    std::vector<Wait> waits;
    double waits_summed_s = 0;              // beyond calls_per_request
  };
  struct Thread {
    std::vector<RequestRef> open;
    RequestRef current;
    TraceContext last;                      // of the request that it finished last
    std::int64_t last_ns = 0;
  };

  void on_message(Socket& socket, const culprit_payload_event& event, std::string_view data);
  void note_run_queue(Socket& socket, const culprit_payload_event& event);
  std::uint32_t advance(Socket& socket, std::uint32_t direction, std::uint32_t position, std::uint32_t bytes);
  void answered_unseen(Socket& socket);
  void answered_until(Socket& socket, std::uint32_t position, std::int64_t time_ns);
  void http(Socket& socket, const culprit_payload_event& event, std::string_view data, bool request_side, std::uint32_t unseen);
  void http_answer(Socket& socket, std::string_view data, std::uint64_t bytes, std::int64_t time_ns, std::uint32_t unseen);
  std::size_t parse(Http1Parser& parser, std::string_view data, std::uint64_t bytes, std::uint32_t unseen);
  void generic(Socket& socket, const culprit_payload_event& event, std::string_view data, bool request_side);
  void start_over(Socket& socket);
  void answer_unseen(Socket& socket, std::int64_t time_ns);
  bool settled_at_peer(Socket& socket, std::int64_t start_ns, std::int64_t now_ns, std::int64_t& end_ns);
  void peer_closed(Socket& socket, std::int64_t time_ns);

  Request* find(RequestRef ref);
  RequestRef open_request(Socket& socket, const culprit_payload_event& event);
  void finish(RequestRef ref, std::int64_t end_ns, bool failed);
  void drop_all(Socket& socket);
  void release(RequestRef ref);
  void begin_call(Socket& socket, const culprit_payload_event& event, const HttpEvent* message);
  void finish_call(Socket& socket, std::size_t index, std::int64_t end_ns, bool failed);
  void add_wait(RequestRef parent, Edge* edge, std::int64_t start_ns, std::int64_t end_ns);
  void accrue_wait(RequestRef parent, Edge* edge, std::int64_t start_ns, std::int64_t end_ns);
  void set_trace(Request& request, Socket& socket);
  void span(const Request& request, std::int64_t end_ns, bool failed, double self_s);
  double self_time(Request& request, std::int64_t end_ns);
  RequestRef current(std::uint32_t tgid, std::uint32_t tid, bool count_ambiguous);
  Thread& thread(std::uint32_t tgid, std::uint32_t tid);
  std::uint64_t make_id(std::uint64_t a, std::uint64_t b);

  const TrackerOptions& options_;
  TrackStats& stats_;
  Output& output_;
  Directory& directory_;
  Network& network_;
  std::deque<Request> slots_;
  std::vector<std::uint32_t> free_;
  std::unordered_map<std::uint64_t, Thread> threads_;  // tgid << 32 | tid
  std::vector<HttpEvent> messages_;                    // of one call, reused
  std::int64_t second_ns_ = 0;                         // when the running second began
  std::uint64_t made_ = 0;                             // ids
  std::unordered_map<std::uint32_t, RateLimit> slow_limits_;  // spans that failed or were slow, by service id
};

}  // namespace culprit::track
