#include "daemon/track/requests.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "daemon/track/protocol/path.h"

namespace culprit::track {

namespace {

constexpr std::size_t kPipelineMax = 16;                     // messages in flight on one connection
constexpr std::int64_t kPauseNs = 100'000'000;               // a writer that goes on after this did not wait for an answer
constexpr std::uint8_t kEarlyMax = 3;                        // so often, and the connection is one-way
constexpr std::int64_t kImpatienceNs = 500'000'000;          // a connect given up after this long was a timeout
constexpr std::int64_t kAfterAnswerNs = 2'000'000;           // a line this soon after an answer still belongs to it

std::uint64_t thread_key(std::uint32_t tgid, std::uint32_t tid) { return static_cast<std::uint64_t>(tgid) << 32 | tid; }

// Messages by which a client takes its leave: PostgreSQL Terminate, MySQL COM_QUIT. No answer follows.
bool is_goodbye(std::string_view data, std::uint64_t bytes) {
  using namespace std::string_view_literals;
  return bytes == 5 && (data == "X\0\0\0\4"sv || data == "\1\0\0\0\1"sv);
}

// PostgreSQL ErrorResponse (protocol 3.0: type byte, length, fields), anywhere among the messages seen; Redis "-ERR".
bool is_error_reply(std::string_view data) {
  if (data.size() >= 5 && data[0] == '-' && data[1] >= 'A' && data[1] <= 'Z' && data[2] >= 'A' && data[2] <= 'Z') {
    return !data.starts_with("-MOVED") && !data.starts_with("-ASK");
  }
  while (data.size() >= 5) {
    std::uint32_t length = 0;
    for (std::size_t i = 1; i < 5; ++i) length = length << 8 | static_cast<std::uint8_t>(data[i]);
    if (data[0] == 'E') {
      const std::string_view fields = data.substr(5);
      return fields.starts_with("SERROR") || fields.starts_with("SFATAL") || fields.starts_with("SPANIC");
    }
    const bool letter = (data[0] >= 'A' && data[0] <= 'Z') || (data[0] >= 'a' && data[0] <= 'z') || (data[0] >= '1' && data[0] <= '3');
    if (!letter || length < 4 || length >= data.size()) return false;  // type and length: one byte more than the length says
    data.remove_prefix(length + std::size_t{1});
  }
  return false;
}

}  // namespace

Requests::Requests(const TrackerOptions& options, TrackStats& stats, Output& output, Directory& directory, Network& network)
    : options_(options), stats_(stats), output_(output), directory_(directory), network_(network) {}

Requests::Thread& Requests::thread(std::uint32_t tgid, std::uint32_t tid) {
  const std::uint64_t key = thread_key(tgid, tid);
  if (const auto found = threads_.find(key); found != threads_.end()) return found->second;
  if (threads_.size() >= options_.limits.threads) {
    ++stats_.threads_evicted;
    for (const RequestRef ref : threads_.begin()->second.open) {
      if (Request* request = find(ref); request != nullptr) request->ambiguous = true;
    }
    threads_.erase(threads_.begin());
  }
  return threads_[key];
}

// The request that this thread works for.
RequestRef Requests::current(std::uint32_t tgid, std::uint32_t tid, bool count_ambiguous) {
  const auto found = threads_.find(thread_key(tgid, tid));
  if (found == threads_.end() || found->second.open.empty()) return {};
  Thread& thread = found->second;
  if (thread.open.size() == 1) return thread.open.front();
  if (count_ambiguous) ++stats_.calls_ambiguous;
  if (Request* request = find(thread.current); request != nullptr) {
    request->ambiguous = true;
    return thread.current;
  }
  return {};
}

bool Requests::owner_of_line(std::uint32_t tgid, std::uint32_t tid, std::int64_t time_ns, TraceContext& out) {
  const auto found = threads_.find(thread_key(tgid, tid));
  if (found == threads_.end()) return false;
  const Thread& thread = found->second;
  if (thread.open.size() > 1) {
    ++stats_.lines_ambiguous;
    return false;
  }
  if (thread.open.empty()) {
    if (thread.last_ns == 0 || time_ns - thread.last_ns > kAfterAnswerNs) return false;
    out = thread.last;  // access logs are written after the answer
    return true;
  }
  const Request* request = find(thread.open.front());
  if (request == nullptr) return false;
  out = request->trace;
  return true;
}

void Requests::on_state(const culprit_tcp_state_event& event) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  if (event.new_state == CULPRIT_TCP_CLOSE) {
    Socket* socket = network_.find(event.socket.sock);
    if (socket == nullptr) return;
    if (socket->connect_ns != 0 && event.old_state == CULPRIT_TCP_SYN_SENT) {
      Edge* edge = network_.edge_of(*socket);
      int error = event.error;
      if (error == 0 && time_ns - socket->connect_ns >= kImpatienceNs) error = ETIMEDOUT;
      if (error != 0) network_.connect_failed(*socket, error, time_ns);
      accrue_wait(socket->connect_parent, edge, socket->connect_ns, time_ns);
      add_wait(socket->connect_parent, edge, socket->connect_ns, time_ns);
      socket->connect_ns = 0;
    }
    const bool peer_first = event.old_state == CULPRIT_TCP_LAST_ACK || event.old_state == CULPRIT_TCP_CLOSE_WAIT;
    if (const auto gone = network_.close(event.socket.sock)) closed(*gone, time_ns, event.error, peer_first, event.positions);
    return;
  }
  std::unique_ptr<Socket> replaced;
  Socket* socket = network_.open(event.socket, replaced);
  if (replaced != nullptr) closed(*replaced, time_ns, 0, false);
  if (socket == nullptr) return;
  socket->used_ns = time_ns;
  if (event.new_state == CULPRIT_TCP_ESTABLISHED && socket->positions[CULPRIT_READ] == 0 && socket->positions[CULPRIT_WRITE] == 0) {
    std::ranges::copy(event.positions, socket->positions);  // where both streams begin
  }
  if (event.task.tgid != 0) {
    directory_.meet(event.task.tgid, event.task.cgroup_id, event.task.comm);
    socket->tgid = event.task.tgid;
    socket->tid = event.task.tid;
  }
  switch (event.new_state) {
    case CULPRIT_TCP_LISTEN: {
      network_.listen(*socket, event.task.tgid);
      const ServiceId id = directory_.service_of(event.task.tgid);
      const Service* service = directory_.find(id);
      if (service == nullptr || !service->significant) break;
      if (stream::Event* out = directory_.kernel_event(time_ns, "tcp.listen", event.task.tgid, id, std::string_view(event.task.comm, strnlen(event.task.comm, CULPRIT_COMM_LEN)))) {
        out->attributes.emplace_back("server.address", Network::address_text(event.socket.local_addr));
        out->attributes.emplace_back("server.port", std::to_string(event.socket.local_port));
        directory_.submit(out);
      }
      break;
    }
    case CULPRIT_TCP_SYN_SENT:
      socket->role = Role::Client;
      socket->role_sure = true;
      socket->connect_ns = time_ns;
      socket->connect_parent = current(event.task.tgid, event.task.tid, false);
      break;
    case CULPRIT_TCP_ESTABLISHED: {
      socket->established = true;
      if (event.old_state == CULPRIT_TCP_SYN_RECV) {
        socket->role = Role::Server;
        socket->role_sure = true;
      }
      const bool ours = event.old_state == CULPRIT_TCP_SYN_SENT || socket->connect_ns != 0;
      if (!ours) break;
      socket->role = Role::Client;
      socket->role_sure = true;
      const std::int64_t took_ns = event.connect_ns != 0 ? static_cast<std::int64_t>(event.connect_ns)
                                   : socket->connect_ns != 0 ? time_ns - socket->connect_ns : 0;
      if (Edge* edge = network_.edge_of(*socket); edge != nullptr) {
        ++edge->connects;
        edge->connect_sum_s += static_cast<double>(took_ns) * 1e-9;
        if (socket->connect_ns != 0) {
          accrue_wait(socket->connect_parent, edge, socket->connect_ns, time_ns);
          add_wait(socket->connect_parent, edge, socket->connect_ns, time_ns);
        }
      }
      socket->connect_ns = 0;
      break;
    }
    default: break;
  }
  if (const auto evicted = network_.evict()) closed(*evicted, time_ns, 0, false);
}

void Requests::on_payload(const culprit_payload_event& event) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  std::unique_ptr<Socket> replaced;
  Socket* socket = network_.open(event.socket, replaced);
  if (replaced != nullptr) closed(*replaced, time_ns, 0, false);
  if (socket == nullptr) return;
  socket->used_ns = time_ns;
  socket->payload_seen = true;
  socket->established = true;
  socket->connect_ns = 0;
  if (event.task.tgid != 0) {
    if (socket->tgid != event.task.tgid) {
      directory_.meet(event.task.tgid, event.task.cgroup_id, event.task.comm);
      socket->edge = nullptr;
    }
    socket->tgid = event.task.tgid;
    socket->tid = event.task.tid;
  }
  const std::string_view data(reinterpret_cast<const char*>(event.data), event.captured);
  on_message(*socket, event, data);
  if (const auto evicted = network_.evict()) closed(*evicted, time_ns, 0, false);
}

void Requests::on_message(Socket& socket, const culprit_payload_event& event, std::string_view data) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  const bool write = event.direction == CULPRIT_WRITE;
  const Role role_before = socket.role;
  if (!socket.role_sure) {
    // The first words of HTTP say who is who more surely than ports do.
    if (Http1Parser::starts_message(Http1Parser::Side::Requests, data)) {
      socket.role = write ? Role::Client : Role::Server;
      socket.role_sure = true;
    } else if (Http1Parser::starts_message(Http1Parser::Side::Responses, data)) {
      socket.role = write ? Role::Server : Role::Client;
      socket.role_sure = true;
    } else {
      network_.decide_role(socket);
    }
  }
  if (socket.role == Role::Unknown) socket.role = write ? Role::Client : Role::Server;
  if (role_before != Role::Unknown && role_before != socket.role) start_over(socket);  // all of it was a mistake
  if (event.bytes == 0) {
    if (!write) peer_closed(socket, time_ns);
    return;
  }
  const std::uint32_t direction = write ? CULPRIT_WRITE : CULPRIT_READ;
  std::uint32_t unseen = advance(socket, direction, event.positions[direction], static_cast<std::uint32_t>(event.bytes));
  if (socket.protocol == Protocol::Tunnel) return;
  const bool request_side = write == (socket.role == Role::Client);
  if (request_side) answered_until(socket, event.positions[1 - direction], time_ns);
  if (socket.protocol != Protocol::Http1) {
    const auto side = request_side ? Http1Parser::Side::Requests : Http1Parser::Side::Responses;
    if (Http1Parser::starts_message(side, data)) {
      start_over(socket);
      socket.protocol = Protocol::Http1;
      unseen = 0;  // nobody waits for what came before
    } else if (socket.protocol == Protocol::Unknown) {
      socket.protocol = Protocol::Generic;
    }
  }
  if (unseen != 0 && !request_side) answered_unseen(socket);
  if (!request_side) note_run_queue(socket, event);
  if (socket.protocol == Protocol::Http1) {
    http(socket, event, data, request_side, unseen);
  } else {
    generic(socket, event, data, request_side);
  }
}

// Forgets what was taken for another protocol or role.
void Requests::start_over(Socket& socket) {
  socket.calls.clear();
  drop_all(socket);
  socket.in_requests.reset();
  socket.in_responses.reset();
  socket.protocol = Protocol::Unknown;
}

void Requests::generic(Socket& socket, const culprit_payload_event& event, std::string_view data, bool request_side) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  const bool client = socket.role == Role::Client;
  const bool open = client ? !socket.calls.empty() : !socket.requests.empty();
  if (request_side) {
    if (open) {
      if (time_ns - socket.turn_ns > kPauseNs && ++socket.early >= kEarlyMax) {
        socket.one_way = true;
        socket.calls.clear();
        drop_all(socket);
      }
    } else if (!socket.one_way && !is_goodbye(data, event.bytes)) {
      if (client) {
        begin_call(socket, event, nullptr);
      } else {
        (void)open_request(socket, event);
      }
    }
    socket.turn_ns = time_ns;
    return;
  }
  socket.early = 0;
  socket.one_way = false;
  if (!open) return;  // unasked, or more of an answer
  const bool failed = is_error_reply(data);
  if (client) {
    // The thread goes on with the request for which it asked.
    const RequestRef parent = socket.calls.front().parent;
    if (find(parent) != nullptr) thread(socket.tgid, socket.tid).current = parent;
    finish_call(socket, 0, time_ns, failed);
  } else {
    finish(socket.requests.front(), time_ns, failed);
  }
}

// An answer was sent or read: what did the thread wait for a CPU since the request began, or since it asked?
void Requests::note_run_queue(Socket& socket, const culprit_payload_event& event) {
  const auto waited = [&](std::uint64_t from_ns, std::uint32_t tid) {
    return from_ns == 0 || tid != event.task.tid || event.run_queue_ns < from_ns ? -1 : static_cast<std::int64_t>(event.run_queue_ns - from_ns);
  };
  if (socket.role == Role::Client) {
    if (socket.calls.empty()) return;
    Call& call = socket.calls.front();
    Request* parent = find(call.parent);
    const std::int64_t in_call_ns = waited(call.run_queue_ns, call.tid);
    if (parent == nullptr || in_call_ns < 0) return;
    parent->run_queue_in_calls_ns += in_call_ns;
    call.run_queue_ns = event.run_queue_ns;  // an answer in pieces counts once
  } else if (!socket.requests.empty()) {
    Request* request = find(socket.requests.front());
    if (request != nullptr && request->tgid == event.task.tgid) request->run_queue_ns = waited(request->run_queue_from_ns, request->tid);
  }
}

// The direction's stream came to `position`, its last `bytes` with a record of their own: how many came without one?
std::uint32_t Requests::advance(Socket& socket, std::uint32_t direction, std::uint32_t position, std::uint32_t bytes) {
  const std::uint32_t before = socket.positions[direction];
  if (position == 0) return 0;
  socket.positions[direction] = position;
  if (before == 0) return 0;
  const std::uint32_t unseen = position - bytes - before;
  if (unseen > INT32_MAX) return 0;  // two threads at one direction: records in another order
  if (unseen != 0) ++stats_.stream_gaps;
  return unseen;
}

// The answering stream came to `position`, as a record of the other stream or the list of sockets tells.
void Requests::answered_until(Socket& socket, std::uint32_t position, std::int64_t time_ns) {
  const std::uint32_t side = socket.role == Role::Client ? CULPRIT_READ : CULPRIT_WRITE;
  if (position - socket.positions[side] == 1) return;  // the end of a stream, which takes a number too
  const std::uint32_t unseen = advance(socket, side, position, 0);
  if (unseen == 0) return;
  answered_unseen(socket);
  if (socket.protocol == Protocol::Http1) http_answer(socket, {}, 0, time_ns, unseen);
}

// Bytes of the answering side were not seen: what has waited for the first byte of its answer may have had it among
// them, and what comes now may answer a later request.
void Requests::answered_unseen(Socket& socket) {
  std::erase_if(socket.calls, [&](const Call& call) {
    stats_.answers_unseen += call.answer_ns == 0 ? 1 : 0;
    return call.answer_ns == 0;
  });
  const std::vector<RequestRef> open = socket.requests;
  for (const RequestRef ref : open) {
    if (const Request* request = find(ref); request == nullptr || request->answer_ns != 0) continue;
    ++stats_.answers_unseen;
    release(ref);
  }
}

void Requests::http(Socket& socket, const culprit_payload_event& event, std::string_view data, bool request_side, std::uint32_t unseen) {
  const auto time_ns = static_cast<std::int64_t>(event.header.time_ns);
  const bool client = socket.role == Role::Client;
  if (!request_side) {
    if (client && !socket.calls.empty()) {
      const RequestRef parent = socket.calls.front().parent;
      if (find(parent) != nullptr) thread(socket.tgid, socket.tid).current = parent;
    }
    http_answer(socket, data, event.bytes, time_ns, unseen);
    return;
  }
  if (socket.in_requests == nullptr) socket.in_requests = std::make_unique<Http1Parser>(Http1Parser::Side::Requests);
  (void)parse(*socket.in_requests, data, event.bytes, unseen);
  for (const HttpEvent& message : messages_) {
    if (message.type == HttpEvent::Type::Begin) {
      answer_unseen(socket, time_ns);
      if (client) {
        begin_call(socket, event, &message);
      } else if (Request* request = find(open_request(socket, event)); request != nullptr) {
        request->http = true;
        request->method = message.method;
        request->path = path_template(message.path);
      }
    } else if (message.type == HttpEvent::Type::Head && message.trace.span_id != 0) {
      if (client && !socket.calls.empty()) {
        socket.calls.back().trace = message.trace;
      } else if (!client && !socket.requests.empty()) {
        if (Request* request = find(socket.requests.back()); request != nullptr) {
          request->trace.trace_id[0] = message.trace.trace_id[0];
          request->trace.trace_id[1] = message.trace.trace_id[1];
          request->parent_span = message.trace.span_id;
          request->trace_given = true;
        }
      }
    }
  }
}

// Into messages_; how many of them ended in what was not seen, at a time that nobody knows.
std::size_t Requests::parse(Http1Parser& parser, std::string_view data, std::uint64_t bytes, std::uint32_t unseen) {
  const std::uint64_t resyncs = parser.resyncs(), truncated = parser.truncated();
  messages_.clear();
  if (unseen != 0) parser.feed({}, unseen, messages_);
  const std::size_t ended_unseen = messages_.size();
  if (bytes != 0) parser.feed(data, bytes, messages_);
  stats_.http_resyncs += parser.resyncs() - resyncs;
  stats_.http_truncated += parser.truncated() - truncated;
  return ended_unseen;
}

// `bytes` of an answer, of which `data` was captured, after `unseen` ones that were not seen.
void Requests::http_answer(Socket& socket, std::string_view data, std::uint64_t bytes, std::int64_t time_ns, std::uint32_t unseen) {
  const bool client = socket.role == Role::Client;
  if (socket.in_responses == nullptr) socket.in_responses = std::make_unique<Http1Parser>(Http1Parser::Side::Responses);
  bool head = false, connect = false;
  if (client && !socket.calls.empty()) {
    head = socket.calls.front().head;
    connect = socket.calls.front().connect;
  } else if (!client && !socket.requests.empty()) {
    if (const Request* request = find(socket.requests.front()); request != nullptr) {
      head = request->method == "HEAD";
      connect = request->method == "CONNECT";
    }
  }
  socket.in_responses->expect(head, connect);
  const std::size_t ended_unseen = parse(*socket.in_responses, data, bytes, unseen);
  bool ended = false;
  for (std::size_t i = 0; i < messages_.size(); ++i) {
    const HttpEvent& message = messages_[i];
    Call* call = client && !socket.calls.empty() ? &socket.calls.front() : nullptr;
    Request* request = !client && !socket.requests.empty() ? find(socket.requests.front()) : nullptr;
    if (message.type == HttpEvent::Type::Begin) {
      if (call == nullptr && request == nullptr) ++stats_.answers_unmatched;
      if (call != nullptr) {
        call->answer_ns = call->answer_last_ns = time_ns;
        call->status = message.status;
      }
      if (request != nullptr) {
        request->answer_ns = request->answer_last_ns = time_ns;
        request->status = message.status;
      }
    } else if (message.type == HttpEvent::Type::OpenEnded) {
      if (call != nullptr && call->answer_ns != 0) call->open_ended = true;
      if (request != nullptr && request->answer_ns != 0) request->open_ended = true;
    } else if (message.type == HttpEvent::Type::End) {
      ended = true;
      if (call != nullptr && call->answer_ns != 0) finish_call(socket, 0, i < ended_unseen ? call->answer_last_ns : time_ns, false);
      if (request != nullptr && request->answer_ns != 0) finish(socket.requests.front(), i < ended_unseen ? request->answer_last_ns : time_ns, false);
      if (message.upgraded) {
        start_over(socket);
        socket.protocol = Protocol::Tunnel;
        return;
      }
    }
  }
  if (ended || bytes == 0) return;
  if (client && !socket.calls.empty() && socket.calls.front().answer_ns != 0) socket.calls.front().answer_last_ns = time_ns;
  if (!client && !socket.requests.empty()) {
    if (Request* request = find(socket.requests.front()); request != nullptr && request->answer_ns != 0) request->answer_last_ns = time_ns;
  }
}

// A new request on the connection: what went before is answered, even if the end of its answer was not seen, or
// (nobody pipelines over several writes) the whole of it: a record that was dropped.
void Requests::answer_unseen(Socket& socket, std::int64_t time_ns) {
  while (!socket.calls.empty() && socket.calls.front().start_ns != time_ns) {
    if (socket.calls.front().answer_ns != 0) {
      finish_call(socket, 0, socket.calls.front().answer_last_ns, false);
    } else {
      ++stats_.answers_unseen;
      socket.calls.erase(socket.calls.begin());
    }
  }
  const std::vector<RequestRef> open = socket.requests;
  for (const RequestRef ref : open) {
    const Request* request = find(ref);
    if (request == nullptr || request->start_ns == time_ns) continue;
    if (request->answer_ns != 0) {
      finish(ref, request->answer_last_ns, false);
    } else {
      ++stats_.answers_unseen;
      release(ref);
    }
  }
}

void Requests::begin_call(Socket& socket, const culprit_payload_event& event, const HttpEvent* message) {
  if (socket.calls.size() >= kPipelineMax) {
    ++stats_.pipeline_refused;
    return;
  }
  Call call;
  call.start_ns = static_cast<std::int64_t>(event.header.time_ns);
  call.parent = current(event.task.tgid, event.task.tid, true);
  call.tid = event.task.tid;
  call.run_queue_ns = event.run_queue_ns;
  if (Request* parent = find(call.parent); parent != nullptr) {
    call.trace = parent->trace;
    parent->call_sock = socket.id.sock;
  } else {
    ++stats_.calls_without_request;
    call.trace.trace_id[0] = make_id(socket.id.sock, event.header.time_ns);
    call.trace.trace_id[1] = make_id(event.task.tid, event.task.tgid);
  }
  call.trace.span_id = make_id(socket.id.sock ^ 1, event.header.time_ns);
  if (message != nullptr) {
    call.head = message->method == "HEAD";
    call.connect = message->method == "CONNECT";
  }
  socket.calls.push_back(call);
  (void)network_.edge_of(socket);  // the edge exists from now on, also for a call that never ends
}

// The end of the peer's stream was read: for a client no answer will come any more.
void Requests::peer_closed(Socket& socket, std::int64_t time_ns) {
  socket.peer_closed = true;
  if (socket.role != Role::Client) return;
  while (!socket.calls.empty()) {
    const Call& call = socket.calls.front();
    const bool answered = call.answer_ns != 0;
    finish_call(socket, 0, answered ? call.answer_last_ns : time_ns, !answered || !call.open_ended);
  }
}

std::uint64_t Requests::make_id(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = options_.seed + a * 0x9e3779b97f4a7c15ULL + b + ++made_ * 0xd1342543de82ef95ULL;
  for (int round = 0; round < 2; ++round) {
    x ^= x >> 30;
    x *= 0xbf58476d1ce4e5b9ULL;
    x ^= x >> 27;
    x *= 0x94d049bb133111ebULL;
    x ^= x >> 31;
  }
  return x == 0 ? 1 : x;
}

}  // namespace culprit::track
