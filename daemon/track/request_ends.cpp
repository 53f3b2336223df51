// Requests, second part: how they begin and end, what they cost, and the spans they leave.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "daemon/track/requests.h"

namespace culprit::track {

namespace {

constexpr std::int64_t kQuietNs = 500'000'000;        // an answer of unknown length that rests this long is complete
constexpr std::int64_t kImpatientCloseNs = 50'000'000;  // a client that closes after waiting this long gave up
constexpr std::int64_t kListedNs = 500'000'000;       // the list of sockets is made within that, after the time it bears
constexpr std::int64_t kUnsureNs = 5'000'000'000;     // by then the list of sockets has told, or will not tell
constexpr std::int64_t kSettledNs = 200'000'000;      // two views of one exchange are never this far apart
constexpr std::size_t kPipelineMax = 16;
constexpr std::int64_t kThreadForgetNs = 1'000'000'000;

std::uint64_t thread_key(std::uint32_t tgid, std::uint32_t tid) { return static_cast<std::uint64_t>(tgid) << 32 | tid; }

std::string seconds_text(double seconds) { return fmt::format("{:.6f}", seconds); }

}  // namespace

Requests::Request* Requests::find(RequestRef ref) {
  if (ref.generation == 0 || ref.slot >= slots_.size()) return nullptr;
  Request& request = slots_[ref.slot];
  return request.open && request.generation == ref.generation ? &request : nullptr;
}

RequestRef Requests::open_request(Socket& socket, const culprit_payload_event& event) {
  if (socket.requests.size() >= kPipelineMax) {
    ++stats_.pipeline_refused;
    return {};
  }
  std::uint32_t slot = 0;
  if (!free_.empty()) {
    slot = free_.back();
    free_.pop_back();
  } else if (slots_.size() < options_.limits.requests_open) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
  } else {
    ++stats_.requests_refused;
    return {};
  }
  Request& request = slots_[slot];
  const std::uint32_t generation = request.generation + 1 == 0 ? 1 : request.generation + 1;
  std::vector<Wait> waits = std::move(request.waits);  // keeps its memory
  waits.clear();
  request = {};
  request.waits = std::move(waits);
  request.generation = generation;
  request.open = true;
  request.start_ns = static_cast<std::int64_t>(event.header.time_ns);
  request.tgid = event.task.tgid;
  request.tid = event.task.tid;
  request.run_queue_from_ns = event.run_queue_ns;
  request.service = directory_.service_of(event.task.tgid);
  request.sock = socket.id.sock;
  set_trace(request, socket);
  const RequestRef ref{slot, generation};
  socket.requests.push_back(ref);
  Thread& worker = thread(request.tgid, request.tid);
  worker.open.push_back(ref);
  worker.current = ref;
  if (worker.open.size() > 1) {
    request.ambiguous = true;
    for (const RequestRef other : worker.open) {  // what the thread waits from now on is no single one's
      if (Request* shares = find(other); shares != nullptr) shares->run_queue_from_ns = 0;
    }
  }
  ++stats_.requests_open;
  return ref;
}

// Without a trace context of its own a request continues the trace of the call that the other end of the connection
// makes. The record of that write may come a moment later than ours of the read: then its thread's request tells.
void Requests::set_trace(Request& request, Socket& socket) {
  Socket* client = network_.peer_of(socket);
  if (client != nullptr && client->role == Role::Client && client->payload_seen) {
    if (!client->calls.empty()) {
      request.trace = client->calls.back().trace;
      request.parent_span = request.trace.span_id;
    } else if (const Request* parent = find(current(client->tgid, client->tid, false)); parent != nullptr) {
      request.trace = parent->trace;
      request.parent_span = parent->trace.span_id;
    }
  }
  if (request.trace.trace_id[0] == 0 && request.trace.trace_id[1] == 0) {
    request.trace.trace_id[0] = make_id(socket.id.sock, static_cast<std::uint64_t>(request.start_ns));
    request.trace.trace_id[1] = make_id(request.tid, request.tgid);
  }
  request.trace.span_id = make_id(socket.id.sock ^ 2, static_cast<std::uint64_t>(request.start_ns));
}

// Takes a request out of its socket, its thread and the table.
void Requests::release(RequestRef ref) {
  Request* request = find(ref);
  if (request == nullptr) return;
  if (Socket* socket = network_.find(request->sock); socket != nullptr) std::erase(socket->requests, ref);
  if (const auto found = threads_.find(thread_key(request->tgid, request->tid)); found != threads_.end()) {
    Thread& worker = found->second;
    std::erase(worker.open, ref);
    if (worker.current == ref) worker.current = {};
  }
  request->open = false;
  free_.push_back(ref.slot);
  --stats_.requests_open;
}

void Requests::drop_all(Socket& socket) {
  const std::vector<RequestRef> open = std::move(socket.requests);
  socket.requests.clear();
  for (const RequestRef ref : open) release(ref);
}

void Requests::finish(RequestRef ref, std::int64_t end_ns, bool failed) {
  Request* request = find(ref);
  if (request == nullptr) return;
  end_ns = std::max(end_ns, request->start_ns);
  // A call that is still without an answer was waited for until now.
  if (Socket* socket = network_.find(request->call_sock); socket != nullptr) {
    for (const Call& call : socket->calls) {
      if (call.parent == ref && call.answer_ns == 0) add_wait(ref, network_.edge_of(*socket), call.start_ns, end_ns);
    }
  }
  const bool broken = failed || request->status >= 500;
  const double self_s = self_time(*request, end_ns);
  if (request->service == ServiceId::None) request->service = directory_.service_of(request->tgid);
  Service* service = directory_.find(request->service);
  if (service != nullptr) {
    const auto account = [&](RequestWindow& window) {
      window.durations.add(end_ns - request->start_ns);
      window.self_sum_s += self_s;
      if (broken) ++window.errors;
    };
    account(service->window);
    service->open_ns += end_ns - std::max(request->start_ns, std::min(second_ns_, end_ns));
    if (request->http) {
      if (Endpoint* endpoint = directory_.endpoint(*service, request->method, request->path); endpoint != nullptr) account(endpoint->window);
    }
  }
  if (Socket* socket = network_.find(request->sock); socket != nullptr) {
    // A client whose own calls we do not see is seen from here.
    Socket* client = network_.peer_of(*socket);
    if (client != nullptr && !client->payload_seen) {
      if (Edge* edge = network_.edge_to(*socket); edge != nullptr) {
        edge->window.durations.add(end_ns - request->start_ns);
        if (broken) ++edge->window.errors;
      }
    }
    if (request->http) {
      request->client_address = Network::address_text(socket->id.remote_addr);
      request->client_port = socket->id.remote_port;
      request->client_service = network_.peer_name(*socket);
    }
  }
  if (request->http) span(*request, end_ns, failed, self_s);
  if (const auto found = threads_.find(thread_key(request->tgid, request->tid)); found != threads_.end()) {
    found->second.last = request->trace;
    found->second.last_ns = end_ns;
  }
  release(ref);
}

// Duration minus the time in which at least one callee was waited for.
double Requests::self_time(Request& request, std::int64_t end_ns) {
  std::ranges::sort(request.waits, {}, &Wait::start_ns);
  std::int64_t covered_ns = request.start_ns, waited_ns = 0;
  for (const Wait& wait : request.waits) {
    const std::int64_t from_ns = std::max(wait.start_ns, covered_ns);
    const std::int64_t to_ns = std::min(wait.end_ns, end_ns);
    if (to_ns <= from_ns) continue;
    waited_ns += to_ns - from_ns;
    covered_ns = to_ns;
  }
  const double total_s = static_cast<double>(end_ns - request.start_ns) * 1e-9;
  return std::max(0.0, total_s - static_cast<double>(waited_ns) * 1e-9 - request.waits_summed_s);
}

void Requests::span(const Request& request, std::int64_t end_ns, bool failed, double self_s) {
  Service* service = directory_.find(request.service);
  if (service == nullptr) return;
  const double duration_s = static_cast<double>(end_ns - request.start_ns) * 1e-9;
  // One share for what is telling, so that a flood of ordinary requests does not hide it.
  const std::size_t special = options_.limits.spans_per_second / 4;
  const bool telling = failed || request.status >= 500 || (service->last.p99_s > 0 && duration_s > service->last.p99_s);
  const bool room = service->span_limit.allow(end_ns, options_.limits.spans_per_second - special) ||
                    (telling && slow_limits_[static_cast<std::uint32_t>(service->id)].allow(end_ns, special));
  if (!room) {
    ++stats_.spans_sampled_out;
    return;
  }
  stream::Event event;
  event.time_ns = end_ns;
  event.kind = stream::Kind::Span;
  event.severity = failed || request.status >= 500 ? stream::kError : stream::kInfo;
  event.entity = service->entity;
  event.name = request.method + " " + request.path;
  event.value = duration_s;
  event.trace_id[0] = request.trace.trace_id[0];
  event.trace_id[1] = request.trace.trace_id[1];
  event.span_id = request.trace.span_id;
  auto& attributes = event.attributes;
  attributes.reserve_bytes(512);
  attributes.emplace_back("service", service->name);
  attributes.emplace_back("http.request.method", request.method);
  attributes.emplace_back("url.path", request.path);
  if (request.status != 0) attributes.emplace_back("http.response.status_code", std::to_string(request.status));
  if (failed) attributes.emplace_back("error.type", "connection closed");
  attributes.emplace_back("thread.id", std::to_string(request.tid));
  attributes.emplace_back("process.pid", std::to_string(request.tgid));
  if (!request.client_address.empty()) attributes.emplace_back("client.address", request.client_address);
  if (request.client_port != 0) attributes.emplace_back("client.port", std::to_string(request.client_port));
  if (!request.client_service.empty()) attributes.emplace_back("client.service", request.client_service);
  if (request.parent_span != 0) attributes.emplace_back("parent.span_id", fmt::format("{:016x}", request.parent_span));
  if (request.ambiguous) attributes.emplace_back("culprit.ambiguous", "true");
  // A thread that worked at others, too, waited for them as well.
  if (!request.ambiguous && request.run_queue_ns >= 0) {
    attributes.emplace_back("run_queue", seconds_text(static_cast<double>(request.run_queue_ns) * 1e-9));
    const std::int64_t in_calls_ns = std::min(request.run_queue_in_calls_ns, request.run_queue_ns);
    if (in_calls_ns > 0) attributes.emplace_back("run_queue.in_calls", seconds_text(static_cast<double>(in_calls_ns) * 1e-9));
  }
  std::vector<std::string_view> done;
  for (const Wait& first : request.waits) {
    if (std::ranges::find(done, first.callee) != done.end()) continue;
    done.push_back(first.callee);
    std::int64_t covered_ns = request.start_ns, waited_ns = 0;
    for (const Wait& wait : request.waits) {  // sorted by self_time
      if (wait.callee != first.callee) continue;
      const std::int64_t from_ns = std::max(wait.start_ns, covered_ns);
      const std::int64_t to_ns = std::min(wait.end_ns, end_ns);
      if (to_ns <= from_ns) continue;
      waited_ns += to_ns - from_ns;
      covered_ns = to_ns;
    }
    attributes.emplace_back("wait." + first.callee, seconds_text(static_cast<double>(waited_ns) * 1e-9));
  }
  attributes.emplace_back("self", seconds_text(self_s));
  output_.add(std::move(event));
}

void Requests::add_wait(RequestRef parent, Edge* edge, std::int64_t start_ns, std::int64_t end_ns) {
  Request* request = find(parent);
  if (request == nullptr || edge == nullptr || end_ns <= start_ns) return;
  if (request->waits.size() >= options_.limits.calls_per_request) {
    ++stats_.calls_summed;
    request->waits_summed_s += static_cast<double>(end_ns - start_ns) * 1e-9;
    return;
  }
  request->waits.push_back({start_ns, end_ns, edge->callee});
}

// The part of [start, end] that lies in the running second counts as waiting on the edge.
void Requests::accrue_wait(RequestRef parent, Edge* edge, std::int64_t start_ns, std::int64_t end_ns) {
  if (edge == nullptr) return;
  const std::int64_t waited_ns = end_ns - std::max(start_ns, second_ns_);
  if (waited_ns <= 0) return;
  (find(parent) != nullptr ? edge->wait_ns : edge->wait_unlinked_ns) += waited_ns;
}

void Requests::finish_call(Socket& socket, std::size_t index, std::int64_t end_ns, bool failed) {
  const Call call = socket.calls[index];
  socket.calls.erase(socket.calls.begin() + static_cast<std::ptrdiff_t>(index));
  Edge* edge = network_.edge_of(socket);
  if (edge == nullptr) return;
  edge->window.durations.add(end_ns - call.start_ns);
  if (failed || call.status >= 500) ++edge->window.errors;
  accrue_wait(call.parent, edge, call.start_ns, end_ns);
  add_wait(call.parent, edge, call.start_ns, end_ns);
}

void Requests::closed(Socket& socket, std::int64_t time_ns, int error, bool peer_first, const culprit_u32* positions) {
  peer_first |= socket.peer_closed;
  if (positions != nullptr) {
    const std::uint32_t side = socket.role == Role::Client ? CULPRIT_READ : CULPRIT_WRITE;
    const std::uint32_t seen = socket.positions[side], unseen = positions[side] - seen;
    if (seen != 0 && unseen > 1 && unseen <= INT32_MAX) {  // more than the end itself, which takes a number too
      ++stats_.stream_gaps;
      answered_unseen(socket);
    }
  }
  while (!socket.calls.empty()) {
    const Call& call = socket.calls.front();
    if (call.answer_ns != 0) {
      finish_call(socket, 0, call.answer_last_ns, error != 0 && !call.open_ended);
      continue;
    }
    const bool gave_up = time_ns - call.start_ns >= kImpatientCloseNs;
    if (error != 0 || peer_first || gave_up || socket.protocol == Protocol::Http1) {
      finish_call(socket, 0, time_ns, true);
    } else {
      socket.calls.erase(socket.calls.begin());  // a last word that needs no answer
    }
  }
  const std::vector<RequestRef> open = std::move(socket.requests);
  socket.requests.clear();
  for (const RequestRef ref : open) {
    const Request* request = find(ref);
    if (request == nullptr) continue;
    if (request->answer_ns != 0) {
      finish(ref, request->answer_last_ns, false);
    } else if (request->http || error != 0 || !peer_first || time_ns - request->start_ns >= kImpatientCloseNs) {
      finish(ref, time_ns, true);
    } else {
      release(ref);
    }
  }
}

void Requests::forget_open() {
  for (auto& [sock, socket] : network_.sockets()) {
    socket->calls.clear();
    socket->connect_ns = 0;
    drop_all(*socket);
    socket->in_requests.reset();
    socket->in_responses.reset();
  }
  threads_.clear();
}

// The other end of the connection, which we see too, has long finished what waits here: the record of the answer was
// dropped. Without this a lost record would look like a hang.
bool Requests::settled_at_peer(Socket& socket, std::int64_t start_ns, std::int64_t now_ns, std::int64_t& end_ns) {
  const Socket* peer = network_.peer_of(socket);
  if (peer == nullptr || !peer->payload_seen || !peer->calls.empty() || !peer->requests.empty()) return false;
  if (peer->used_ns <= start_ns || now_ns - peer->used_ns < kSettledNs || peer->one_way) return false;
  end_ns = peer->used_ns;
  ++stats_.answers_unseen;
  return true;
}

void Requests::accrue(std::int64_t now_ns, bool all_seen) {
  // While a part of the records is left out, what seems to wait was answered more often than not: it counts once the list of sockets
  // shows that it was not.
  const auto unsure = [&](const Socket& socket, std::int64_t start_ns) { return !all_seen && start_ns > socket.waits_ns && now_ns - start_ns < kUnsureNs; };
  std::vector<std::pair<RequestRef, std::int64_t>> quiet;
  for (auto& [sock, holder] : network_.sockets()) {
    Socket& socket = *holder;
    if (socket.listed_ns != 0 && now_ns - socket.listed_ns >= kListedNs) {
      answered_until(socket, socket.listed_positions[socket.role == Role::Client ? CULPRIT_READ : CULPRIT_WRITE], socket.listed_ns);
      socket.waits_ns = std::exchange(socket.listed_ns, 0);
    }
    if (socket.connect_ns != 0) {
      if (Edge* edge = network_.edge_of(socket); edge != nullptr) {
        ++edge->window.inflight;
        edge->window.age_max_ns = std::max(edge->window.age_max_ns, now_ns - socket.connect_ns);
        accrue_wait(socket.connect_parent, edge, socket.connect_ns, now_ns);
      }
    }
    if (!socket.calls.empty()) {
      while (!socket.calls.empty() && socket.calls.front().open_ended && now_ns - socket.calls.front().answer_last_ns >= kQuietNs) {
        finish_call(socket, 0, socket.calls.front().answer_last_ns, false);
      }
      if (std::int64_t end_ns = 0; socket.calls.size() == 1 && socket.calls.front().answer_ns == 0 &&
                                   settled_at_peer(socket, socket.calls.front().start_ns, now_ns, end_ns)) {
        finish_call(socket, 0, end_ns, false);
      }
      Edge* edge = socket.calls.empty() ? nullptr : network_.edge_of(socket);
      for (const Call& call : socket.calls) {
        if (edge == nullptr) break;
        if (call.answer_ns == 0 && unsure(socket, call.start_ns)) continue;
        accrue_wait(call.parent, edge, call.start_ns, call.open_ended ? call.answer_last_ns : now_ns);
        if (call.answer_ns != 0) continue;
        ++edge->window.inflight;
        edge->window.age_max_ns = std::max(edge->window.age_max_ns, now_ns - call.start_ns);
      }
    }
    if (socket.requests.empty()) continue;
    Socket* client = network_.peer_of(socket);
    Edge* from = client != nullptr && !client->payload_seen ? network_.edge_to(socket) : nullptr;
    for (const RequestRef ref : socket.requests) {
      Request* request = find(ref);
      if (request == nullptr) continue;
      if (request->open_ended && now_ns - request->answer_last_ns >= kQuietNs) {
        quiet.emplace_back(ref, request->answer_last_ns);
        continue;
      }
      if (std::int64_t end_ns = 0; request->answer_ns == 0 && socket.requests.size() == 1 && settled_at_peer(socket, request->start_ns, now_ns, end_ns)) {
        quiet.emplace_back(ref, end_ns);
        continue;
      }
      if (request->answer_ns == 0 && unsure(socket, request->start_ns)) continue;
      if (request->service == ServiceId::None) request->service = directory_.service_of(request->tgid);
      Service* service = directory_.find(request->service);
      if (service == nullptr) continue;
      const std::int64_t until_ns = request->open_ended ? request->answer_last_ns : now_ns;
      service->open_ns += std::max<std::int64_t>(0, until_ns - std::max(request->start_ns, second_ns_));
      if (request->answer_ns != 0) continue;
      const std::int64_t age_ns = now_ns - request->start_ns;
      const auto count = [&](RequestWindow& window) {
        ++window.inflight;
        window.age_max_ns = std::max(window.age_max_ns, age_ns);
      };
      count(service->window);
      if (from != nullptr) count(from->window);
      if (!request->http) continue;
      if (Endpoint* endpoint = directory_.endpoint(*service, request->method, request->path); endpoint != nullptr) count(endpoint->window);
    }
  }
  for (const auto& [ref, end_ns] : quiet) finish(ref, end_ns, false);
}

void Requests::begin_second(std::int64_t now_ns) {
  second_ns_ = now_ns;
  std::erase_if(threads_, [&](const auto& entry) { return entry.second.open.empty() && now_ns - entry.second.last_ns > kThreadForgetNs; });
  std::erase_if(slow_limits_, [&](const auto& entry) { return directory_.find(ServiceId{entry.first}) == nullptr; });
  stats_.threads = threads_.size();
}

}  // namespace culprit::track
