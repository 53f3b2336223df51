#include "daemon/track/network.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

namespace culprit::track {

namespace {

constexpr std::size_t kEvictLook = 16;  // sockets looked at for the one to go
constexpr std::uint8_t kMapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_v4(const std::uint8_t (&address)[16]) { return std::memcmp(address, kMapped, 12) == 0; }
bool is_loopback(const std::uint8_t (&address)[16]) {
  if (is_v4(address)) return address[12] == 127;
  static constexpr std::uint8_t kOne[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
  return std::memcmp(address, kOne, 16) == 0;
}
bool is_any(const std::uint8_t (&address)[16]) {
  if (is_v4(address)) return address[12] == 0 && address[13] == 0 && address[14] == 0 && address[15] == 0;
  return std::ranges::all_of(address, [](std::uint8_t byte) { return byte == 0; });
}

Tuple tuple_of(const std::uint8_t (&local)[16], const std::uint8_t (&remote)[16], std::uint16_t local_port, std::uint16_t remote_port) {
  Tuple tuple;
  std::memcpy(&tuple.words[0], local, 16);
  std::memcpy(&tuple.words[2], remote, 16);
  tuple.words[4] = static_cast<std::uint64_t>(local_port) << 16 | remote_port;
  return tuple;
}
Tuple tuple_of(const culprit_socket& id) { return tuple_of(id.local_addr, id.remote_addr, id.local_port, id.remote_port); }

// A SYN_SENT record comes before the kernel has chosen a local port, and perhaps a local address.
bool same_connection(const culprit_socket& known, const culprit_socket& seen) {
  if (known.remote_port != seen.remote_port || std::memcmp(known.remote_addr, seen.remote_addr, 16) != 0) return false;
  if (known.local_port == 0) return true;
  if (seen.local_port == 0) return false;
  return known.local_port == seen.local_port && std::memcmp(known.local_addr, seen.local_addr, 16) == 0;
}

std::uint64_t mix(std::uint64_t x) {
  x ^= x >> 30;
  x *= 0xbf58476d1ce4e5b9ULL;
  x ^= x >> 27;
  x *= 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

std::size_t TupleHash::operator()(const Tuple& tuple) const {
  std::uint64_t hash = 0x9e3779b97f4a7c15ULL;
  for (const std::uint64_t word : tuple.words) hash = mix(hash ^ word);
  return static_cast<std::size_t>(hash);
}

Network::Network(const TrackerOptions& options, TrackStats& stats, Output& output, Directory& directory)
    : options_(options), stats_(stats), output_(output), directory_(directory) {}

Socket* Network::find(std::uint64_t sock) {
  const auto found = sockets_.find(sock);
  return found == sockets_.end() ? nullptr : found->second.get();
}

Socket* Network::open(const culprit_socket& id, std::unique_ptr<Socket>& replaced) {
  if (id.sock == 0) return nullptr;
  if (Socket* known = find(id.sock); known != nullptr) {
    if (same_connection(known->id, id) || (known->listening && known->id.local_port == id.local_port && id.remote_port == 0)) {
      if (known->id.local_port == 0 && id.local_port != 0) {
        known->id = id;
        by_tuple_[tuple_of(id)] = known;
      }
      if (known->id.netns == 0) known->id.netns = id.netns;
      return known;
    }
    replaced = close(id.sock);
  }
  auto socket = std::make_unique<Socket>();
  socket->id = id;
  Socket* added = socket.get();
  sockets_.emplace(id.sock, std::move(socket));
  if (id.local_port != 0 && id.remote_port != 0) by_tuple_[tuple_of(id)] = added;
  return added;
}

void Network::drop_tuple(const Socket& socket) {
  const auto found = by_tuple_.find(tuple_of(socket.id));
  if (found != by_tuple_.end() && found->second == &socket) by_tuple_.erase(found);
}

std::unique_ptr<Socket> Network::close(std::uint64_t sock) {
  const auto found = sockets_.find(sock);
  if (found == sockets_.end()) return nullptr;
  std::unique_ptr<Socket> socket = std::move(found->second);
  sockets_.erase(found);
  drop_tuple(*socket);
  if (socket->listening) {
    ++epoch_;
    if (const auto list = listeners_.find(socket->id.local_port); list != listeners_.end()) {
      bool alive = false;
      ServiceId gone = ServiceId::None;
      for (Listener& listener : list->second) {
        if (listener.sock == sock) {
          listener.alive = false;
          gone = listener.service;
        }
      }
      for (const Listener& listener : list->second) alive |= listener.alive && listener.service == gone;
      if (!alive) directory_.listens_no_more(gone, socket->id.local_port);
    }
  }
  return socket;
}

std::unique_ptr<Socket> Network::evict() {
  if (sockets_.size() <= options_.limits.sockets) return nullptr;
  // The table's own order is as good as random; among a few, the one that was not used for longest.
  std::uint64_t oldest = 0;
  std::int64_t oldest_ns = INT64_MAX;
  std::size_t looked = 0;
  for (const auto& [sock, socket] : sockets_) {
    if (++looked > kEvictLook) break;
    if (socket->listening || socket->used_ns >= oldest_ns) continue;
    oldest_ns = socket->used_ns;
    oldest = sock;
  }
  if (oldest == 0) oldest = sockets_.begin()->first;
  ++stats_.sockets_evicted;
  return close(oldest);
}

void Network::listen(Socket& socket, std::uint32_t pid) {
  socket.listening = true;
  if (pid != 0) socket.tgid = pid;
  auto& list = listeners_[socket.id.local_port];
  auto found = std::ranges::find_if(list, [&](const Listener& listener) {
    return std::memcmp(listener.address, socket.id.local_addr, 16) == 0 &&
           (listener.netns == socket.id.netns || listener.netns == 0 || socket.id.netns == 0);
  });
  if (found == list.end()) {
    if (listener_count_ >= options_.limits.listeners) {
      ++stats_.listeners_refused;
      return;
    }
    ++listener_count_;
    Listener listener;
    std::memcpy(listener.address, socket.id.local_addr, 16);
    listener.netns = socket.id.netns;
    list.push_back(std::move(listener));
    found = list.end() - 1;
  }
  found->used_ns = directory_.now_ns();
  const ServiceId service = directory_.service_of(pid);
  const bool same = found->alive && found->sock == socket.id.sock && found->pid == pid && found->service == service;
  if (same) return;
  // One of several workers that share the socket: the first stays its owner while it lives.
  if (found->alive && found->sock == socket.id.sock && found->service != ServiceId::None && directory_.find(found->pid) != nullptr &&
      directory_.service_of(found->pid) == found->service) {
    return;
  }
  found->alive = true;
  found->sock = socket.id.sock;
  if (pid != 0) found->pid = pid;
  if (service != ServiceId::None) {
    found->service = service;
    if (const Service* owner = directory_.find(service); owner != nullptr) found->name = owner->name;
    directory_.listens(pid, socket.id.local_port);
  }
  ++epoch_;
}

void Network::on_socket_owner(std::uint32_t pid, std::uint64_t inode) {
  if (inode == 0 || pid == 0) return;
  const auto found = inode_owners_.find(inode);
  if (found == inode_owners_.end()) {
    if (inode_owners_.size() >= 2 * options_.limits.sockets) return;  // forget() makes room
    inode_owners_.emplace(inode, pid);
    return;
  }
  if (found->second == pid) return;
  const Process* old = directory_.find(found->second);
  const Process* now = directory_.find(pid);
  // Workers inherit the sockets of their parent: the older one is the owner.
  if (old == nullptr || (now != nullptr && now->start_ns < old->start_ns)) found->second = pid;
}

std::uint32_t Network::owner_of(std::uint64_t inode) const {
  const auto found = inode_owners_.find(inode);
  return found == inode_owners_.end() ? 0 : found->second;
}

void Network::set_own_addresses(const std::vector<std::vector<std::uint8_t>>& addresses) {
  std::unordered_set<std::string> now;
  for (const auto& address : addresses) {
    std::string key;
    if (address.size() == 4) key.assign(reinterpret_cast<const char*>(kMapped), 12);
    if (address.size() != 4 && address.size() != 16) continue;
    key.append(reinterpret_cast<const char*>(address.data()), address.size());
    now.insert(std::move(key));
  }
  if (now == own_addresses_) return;
  own_addresses_ = std::move(now);
  ++epoch_;
}

bool Network::is_own(const std::uint8_t (&address)[16]) const {
  return is_loopback(address) || is_any(address) || own_addresses_.contains(std::string(reinterpret_cast<const char*>(address), 16));
}

Network::Listener* Network::listener_for(const std::uint8_t (&address)[16], std::uint16_t port, std::uint32_t netns) {
  const auto list = listeners_.find(port);
  if (list == listeners_.end()) return nullptr;
  Listener* best = nullptr;
  int best_score = -1;
  const bool own = is_own(address);
  for (Listener& listener : list->second) {
    const bool same_netns = listener.netns == netns || listener.netns == 0 || netns == 0;
    const bool exact = std::memcmp(listener.address, address, 16) == 0;
    int score = -1;
    if (same_netns && exact) {
      score = 6;
    } else if (same_netns && own && is_any(listener.address)) {
      score = 4;
    } else if (!same_netns && exact && !is_loopback(address)) {
      score = 2;  // a container's own address
    }
    if (score < 0) continue;
    score = 2 * score + (listener.alive ? 1 : 0);
    if (score <= best_score) continue;
    best_score = score;
    best = &listener;
  }
  return best;
}

void Network::decide_role(Socket& socket) {
  if (socket.role_sure || socket.listening) return;
  const std::uint64_t epoch = epoch_ + directory_.epoch();
  if (socket.role != Role::Unknown && socket.role_epoch == epoch) return;
  socket.role_epoch = epoch;
  const Listener* ours = listener_for(socket.id.local_addr, socket.id.local_port, socket.id.netns);
  const Listener* theirs = listener_for(socket.id.remote_addr, socket.id.remote_port, socket.id.netns);
  if ((ours != nullptr) != (theirs != nullptr)) {
    socket.role = ours != nullptr ? Role::Server : Role::Client;
    socket.role_sure = true;
    return;
  }
  if (const Socket* peer = peer_of(socket); peer != nullptr && peer->role_sure) {
    socket.role = peer->role == Role::Server ? Role::Client : Role::Server;
    socket.role_sure = true;
    return;
  }
  if (socket.role != Role::Unknown || socket.id.local_port == 0 || socket.id.remote_port == 0) return;
  // Ephemeral ports are high (ip_local_port_range starts at 32768); services' are mostly low.
  socket.role = socket.id.local_port < socket.id.remote_port ? Role::Server : Role::Client;
}

Socket* Network::peer_of(const Socket& socket) {
  if (socket.id.local_port == 0 || socket.id.remote_port == 0) return nullptr;
  const Tuple tuple = tuple_of(socket.id.remote_addr, socket.id.local_addr, socket.id.remote_port, socket.id.local_port);
  const auto found = by_tuple_.find(tuple);
  return found == by_tuple_.end() || found->second == &socket ? nullptr : found->second;
}

std::string Network::address_text(const std::uint8_t (&address)[16]) {
  char text[INET6_ADDRSTRLEN] = "";
  if (is_v4(address)) {
    inet_ntop(AF_INET, address + 12, text, sizeof(text));
  } else {
    inet_ntop(AF_INET6, address, text, sizeof(text));
  }
  return text;
}

std::string Network::callee_name(Socket& socket) {
  if (Listener* listener = listener_for(socket.id.remote_addr, socket.id.remote_port, socket.id.netns); listener != nullptr) {
    if (const ServiceId now = directory_.service_of(listener->pid); now != ServiceId::None && now != listener->service) {
      listener->service = now;
    }
    if (const Service* service = directory_.find(listener->service); service != nullptr) listener->name = service->name;
    listener->used_ns = directory_.now_ns();
    if (!listener->name.empty()) return listener->name;
  }
  if (const Socket* peer = peer_of(socket); peer != nullptr && peer->tgid != 0) {
    if (const Service* service = directory_.find(directory_.service_of(peer->tgid)); service != nullptr) return service->name;
  }
  return address_of_callee(socket);
}

std::string Network::address_of_callee(const Socket& socket) {
  const bool v4 = is_v4(socket.id.remote_addr);
  return v4 ? fmt::format("{}:{}", address_text(socket.id.remote_addr), socket.id.remote_port)
            : fmt::format("[{}]:{}", address_text(socket.id.remote_addr), socket.id.remote_port);
}

Edge* Network::open_edge(ServiceId caller, const std::string& callee) {
  const Service* service = directory_.find(caller);
  if (service == nullptr) return nullptr;
  const auto key = std::make_pair(caller, callee);
  auto found = edges_.find(key);
  if (found == edges_.end()) {
    if (edges_.size() >= options_.limits.edges) {
      ++stats_.edges_refused;
      return nullptr;
    }
    auto edge = std::make_unique<Edge>();
    edge->caller = caller;
    edge->caller_name = service->name;
    edge->callee = callee;
    edge->entity = "edge:" + service->name + "->" + callee;
    edge->wait_attribute = "wait." + callee;
    found = edges_.emplace(key, std::move(edge)).first;
  }
  found->second->used_ns = directory_.now_ns();
  return found->second.get();
}

Edge* Network::edge_of(Socket& socket) {
  const std::uint64_t epoch = epoch_ + directory_.epoch();
  if (socket.edge != nullptr && socket.edge_epoch == epoch) {
    socket.edge->used_ns = directory_.now_ns();
    return socket.edge;
  }
  Edge* before = std::exchange(socket.edge, nullptr);
  const ServiceId caller = directory_.service_of(socket.tgid);
  if (caller == ServiceId::None) return nullptr;
  const std::string callee = callee_name(socket);
  socket.edge = open_edge(caller, callee);
  // An address whose owner has become known is no edge of its own any more.
  if (before != nullptr && socket.edge != nullptr && before != socket.edge && before->window.durations.count() == 0 &&
      before->callee == address_of_callee(socket)) {
    before->used_ns = std::numeric_limits<std::int64_t>::min() / 2;
  }
  socket.edge_epoch = epoch;
  if (Process* process = directory_.find(socket.tgid); process != nullptr && !process->connects) {
    const Service* service = directory_.find(caller);
    process->connects = service != nullptr && service->name != callee;
  }
  return socket.edge;
}

Edge* Network::edge_to(Socket& socket) {
  Socket* client = peer_of(socket);
  if (client == nullptr || client->tgid == 0) return nullptr;
  return edge_of(*client);
}

Edge* Network::any_edge(Socket& socket) {
  decide_role(socket);
  return socket.role == Role::Client ? edge_of(socket) : edge_to(socket);
}

std::string Network::peer_name(Socket& socket) {
  if (const Socket* peer = peer_of(socket); peer != nullptr && peer->tgid != 0) {
    if (const Service* service = directory_.find(directory_.service_of(peer->tgid)); service != nullptr) return service->name;
  }
  return {};
}

}  // namespace culprit::track
