// Network, second part: what happened on edges, once a second.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "daemon/track/network.h"

namespace culprit::track {

namespace {

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kForgetNs = 600 * kSecond;
constexpr std::int64_t kLongAgo = -2 * kForgetNs;

std::string errno_name(int error) {
  const char* name = strerrorname_np(error);
  return name == nullptr ? std::to_string(error) : std::string(name);
}

}  // namespace

void Network::connect_failed(Socket& socket, int error, std::int64_t time_ns) {
  Edge* edge = edge_of(socket);
  if (edge == nullptr) return;
  constexpr std::size_t kErrnosPerEdge = 32;
  auto found = edge->failures.find(error);
  if (found == edge->failures.end()) {
    if (edge->failures.size() >= kErrnosPerEdge) error = 0;  // the last place is for all others
    found = edge->failures.try_emplace(error).first;
  }
  Edge::Failure& failure = found->second;
  if (failure.count.count++ == 0) {
    failure.first_ns = time_ns;
    failure.pid = socket.tgid;
    if (const Process* process = directory_.find(socket.tgid); process != nullptr) failure.comm = process->comm;
  }
  ++edge->window.errors;
}

void Network::reset(Socket& socket, std::int64_t time_ns) {
  if (Edge* edge = any_edge(socket); edge != nullptr) {
    if (edge->resets++ == 0) edge->first_reset_ns = time_ns;
  }
  const std::uint32_t pid = socket.tgid;
  if (Service* service = directory_.find(directory_.service_of(pid)); service != nullptr) ++service->resets;
}

void Network::retransmit(Socket& socket, std::uint64_t count) {
  if (Edge* edge = any_edge(socket); edge != nullptr) edge->retransmits += count;
  if (Service* service = directory_.find(directory_.service_of(socket.tgid)); service != nullptr) service->retransmits += count;
}

void Network::emit_second(std::int64_t now_ns, double seconds, double seen_s) {
  for (auto& [key, edge] : edges_) {
    const Service* caller = directory_.find(edge->caller);
    const bool shown = caller != nullptr && caller->significant;
    if (shown) {
      for (auto& [error, failure] : edge->failures) {
        if (failure.count.count == 0) continue;
        if (stream::Event* event = directory_.kernel_event(failure.first_ns, "tcp.connect.failed", failure.pid, edge->caller, failure.comm)) {
          event->severity = stream::kError;
          event->value = static_cast<double>(failure.count.count);
          event->attributes.emplace_back("peer", edge->callee);
          event->attributes.emplace_back("errno", errno_name(error));
          directory_.submit(event);
        }
      }
      if (edge->resets != 0) {
        if (stream::Event* event = directory_.kernel_event(edge->first_reset_ns, "tcp.reset", 0, edge->caller, "")) {
          event->severity = stream::kWarn;
          event->value = static_cast<double>(edge->resets);
          event->attributes.emplace_back("peer", edge->callee);
          directory_.submit(event);
        }
      }
    }
    RequestWindow& window = edge->window;
    edge->last.rate = static_cast<double>(window.durations.count()) / seen_s;
    edge->last.errors = static_cast<double>(window.errors) / seen_s;
    edge->last.mean_s = window.durations.mean_s();
    edge->last.p99_s = window.durations.quantile_s(0.99);
    edge->last.inflight = static_cast<double>(window.inflight);
    edge->last.age_s = static_cast<double>(window.age_max_ns) * 1e-9;
    edge->last_retransmits = static_cast<double>(edge->retransmits) / seconds;
    edge->last_rtt_s = edge->rtts == 0 ? edge->last_rtt_s : edge->rtt_sum_s / static_cast<double>(edge->rtts);
    const std::int64_t wait_ns = edge->wait_ns != 0 ? edge->wait_ns : edge->wait_unlinked_ns;
    edge->last_wait_share =
        caller == nullptr || caller->open_ns <= 0 ? 0 : std::min(1.0, static_cast<double>(wait_ns) / static_cast<double>(caller->open_ns));
    if (shown) {
      const auto put = [&](Series series, double value) { output_.sample(now_ns, edge->entity, edge->mask, series, value); };
      put(Series::ClientRate, edge->last.rate);
      put(Series::ClientErrors, edge->last.errors);
      put(Series::ClientMean, edge->last.mean_s);
      put(Series::ClientP99, edge->last.p99_s);
      put(Series::ClientInflight, edge->last.inflight);
      put(Series::ClientAgeMax, edge->last.age_s);
      put(Series::ClientWaitShare, edge->last_wait_share);
      put(Series::ConnectMean, edge->connects == 0 ? 0 : edge->connect_sum_s / static_cast<double>(edge->connects));
      put(Series::TcpRetransmits, edge->last_retransmits);
      put(Series::TcpResets, static_cast<double>(edge->resets) / seconds);
      if (edge->rtts != 0) put(Series::TcpRtt, edge->last_rtt_s);
    }
    for (auto& [error, failure] : edge->failures) {
      if (shown) {
        output_.sample(now_ns, edge->entity, fmt::format("connect.failures{{errno=\"{}\"}}", errno_name(error)), failure.count, seconds);
      }
      failure.count.count = 0;
    }
    window.durations.clear();
    window.errors = window.inflight = 0;
    window.age_max_ns = 0;
    edge->wait_ns = edge->wait_unlinked_ns = 0;
    edge->retransmits = edge->resets = edge->connects = edge->rtts = 0;
    edge->connect_sum_s = edge->rtt_sum_s = 0;
  }
}

void Network::forget_name(ServiceId id, const std::string& old_name) {
  for (auto& [key, edge] : edges_) {
    if (edge->caller == id || edge->callee == old_name) edge->used_ns = kLongAgo;
  }
  for (auto& [port, list] : listeners_) {
    for (Listener& listener : list) {
      const Service* service = directory_.find(listener.service);
      if (listener.service == id && service != nullptr) listener.name = service->name;
    }
  }
  ++epoch_;
  forget(directory_.now_ns());
}

void Network::forget(std::int64_t now_ns) {
  std::unordered_set<const Edge*> gone;
  for (const auto& [key, edge] : edges_) {
    if (now_ns - edge->used_ns > kForgetNs || directory_.find(edge->caller) == nullptr) gone.insert(edge.get());
  }
  if (!gone.empty()) {
    for (auto& [sock, socket] : sockets_) {
      if (gone.contains(socket->edge)) socket->edge = nullptr;
    }
    std::erase_if(edges_, [&](const auto& entry) { return gone.contains(entry.second.get()); });
  }
  for (auto& [port, list] : listeners_) {
    listener_count_ -= std::erase_if(list, [&](const Listener& listener) {
      return !listener.alive && now_ns - listener.used_ns > 2 * kForgetNs;
    });
  }
  std::erase_if(listeners_, [](const auto& entry) { return entry.second.empty(); });
  std::erase_if(inode_owners_, [&](const auto& entry) { return directory_.find(entry.second) == nullptr; });
}

}  // namespace culprit::track
