#include "daemon/collect/sensor_client.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <fmt/format.h>
#include <map>
#include <mutex>

#include "daemon/sensor/protocol.h"

namespace culprit::collect {
namespace {

using sensor::Message;
using sensor::MessageHeader;
using sensor::MessageType;
using sensor::Reader;
using sensor::RequestKind;
using sensor::Writer;
using SteadyClock = std::chrono::steady_clock;

constexpr std::chrono::seconds kReplyWait{15};
constexpr std::size_t kReplyBytesMax = 64 << 20;
constexpr std::size_t kMessagesPerDispatch = 256;
constexpr int kSocketBytes = 1 << 20;

using Answer = std::function<void(Result<std::span<const std::byte>>)>;

struct Waiting {
  Answer answer;
  std::vector<std::byte> body;  // parts so far
  SteadyClock::time_point due;
};

template <typename T>
Answer decode_into(Reply<T> reply) {
  return [reply = std::move(reply)](Result<std::span<const std::byte>> body) {
    if (!body) return reply(std::unexpected(body.error()));
    Reader in(*body);
    T value{};
    if constexpr (std::is_same_v<T, std::string>) {
      value = in.get_string();
    } else {
      decode(in, value);
    }
    if (!in.ok()) return reply(fail(Code::Corrupt, "unreadable reply of the sensor"));
    reply(std::move(value));
  };
}

template <typename T>
Answer decode_list_into(Reply<std::vector<T>> reply) {
  return [reply = std::move(reply)](Result<std::span<const std::byte>> body) {
    if (!body) return reply(std::unexpected(body.error()));
    Reader in(*body);
    const auto count = in.get<std::uint32_t>();
    std::vector<T> items;
    for (std::uint32_t i = 0; i < count && in.ok(); ++i) {
      T item{};
      decode(in, item);
      items.push_back(std::move(item));
    }
    if (!in.ok()) return reply(fail(Code::Corrupt, "unreadable reply of the sensor"));
    reply(std::move(items));
  };
}

}  // namespace

struct SensorClient::Impl {
  Result<void> receive_sensors();
  void adopt(Fd socket);
  Result<void> receive_messages();
  void handle(Message message);
  void handle_hello(const Message& message);
  void handle_rings(Message& message);
  void handle_snapshot(const Message& message);
  void handle_reply(const Message& message);
  void count(std::uint64_t SensorClientCounts::* what) {
    const std::lock_guard lock(mutex);
    ++(counts.*what);
  }
  void malformed() { count(&SensorClientCounts::malformed); }
  void lose(const std::string& reason);
  void expire();
  void flush_locked();
  void request(RequestKind kind, std::span<const std::byte> arguments, Answer answer);

  SensorHandlers handlers;
  Fd control;  // of the supervisor, if any
  Fd waker;

  mutable std::mutex mutex;  // guards what follows
  Fd socket;
  std::map<std::uint32_t, Waiting> waiting;
  std::deque<std::vector<std::byte>> unsent;
  std::uint32_t next_id = 1;
  SensorClientCounts counts;

  // Of the dispatching thread only:
  bool greeted = false;
  bool ready = false;
  sensor::Hello hello;
  RingFds fds;
  sensor::Snapshot snapshot;
  std::uint32_t snapshot_id = 0;
};

// A fresh sensor takes the place of the last one.
void SensorClient::Impl::adopt(Fd fresh) {
  fcntl(fresh.get(), F_SETFL, O_NONBLOCK);
  setsockopt(fresh.get(), SOL_SOCKET, SO_SNDBUF, &kSocketBytes, sizeof(kSocketBytes));
  const std::lock_guard lock(mutex);
  socket = std::move(fresh);
  greeted = ready = false;
  hello = {};
  fds = {};
  snapshot = {};
}

void SensorClient::Impl::lose(const std::string& reason) {
  std::map<std::uint32_t, Waiting> orphans;
  {
    const std::lock_guard lock(mutex);
    socket.reset();
    orphans.swap(waiting);
    unsent.clear();
  }
  for (auto& [id, request] : orphans) request.answer(fail(Code::Busy, "the sensor ended: " + reason));
  if (handlers.on_lost) handlers.on_lost(reason);
}

void SensorClient::Impl::expire() {
  const auto now = SteadyClock::now();
  std::vector<Answer> late;
  {
    const std::lock_guard lock(mutex);
    for (auto it = waiting.begin(); it != waiting.end();) {
      if (it->second.due > now) {
        ++it;
        continue;
      }
      late.push_back(std::move(it->second.answer));
      it = waiting.erase(it);
    }
  }
  for (const Answer& answer : late) answer(fail(Code::Busy, "the sensor did not answer in time"));
}

Result<void> SensorClient::Impl::receive_sensors() {
  while (control) {
    auto message = sensor::receive_message(control.get());
    if (!message) {
      if (message.error().code == Code::Busy) return {};
      return std::unexpected(message.error().context("the supervisor is gone"));
    }
    if (message->fds.size() != 1) {
      malformed();
      continue;
    }
    if (socket) lose("another one was started");
    adopt(std::move(message->fds.front()));
  }
  return {};
}

Result<void> SensorClient::Impl::receive_messages() {
  for (std::size_t i = 0; i < kMessagesPerDispatch && socket; ++i) {
    auto message = sensor::receive_message(socket.get());
    if (message) {
      handle(std::move(*message));
      continue;
    }
    if (message.error().code == Code::Busy) break;
    if (message.error().code == Code::Corrupt) {
      malformed();
      continue;
    }
    lose(message.error().message);
    if (!control) return fail(Code::NotFound, "the sensor is gone");
  }
  return {};
}

void SensorClient::Impl::handle(Message message) {
  switch (static_cast<MessageType>(message.header.type)) {
    case MessageType::Hello: return handle_hello(message);
    case MessageType::Rings: return handle_rings(message);
    case MessageType::Counters:
      if (message.fds.size() != 1) return malformed();
      fds.counters = std::move(message.fds.front());
      return;
    case MessageType::Ready:
      if (!greeted || ready) return malformed();
      ready = true;
      count(&SensorClientCounts::sensors);
      if (handlers.on_hello) handlers.on_hello(std::move(hello), std::move(fds));
      return;
    case MessageType::Snapshot: return handle_snapshot(message);
    case MessageType::Reply: return handle_reply(message);
    default: return malformed();
  }
}

void SensorClient::Impl::handle_hello(const Message& message) {
  Reader in(message.body);
  sensor::Hello told;
  if (!decode(in, told)) return malformed();
  if (told.version != sensor::kProtocolVersion) {
    lose(fmt::format("it speaks version {} of the protocol, this is {}", told.version, sensor::kProtocolVersion));
    return;
  }
  hello = std::move(told);
  greeted = true;
}

void SensorClient::Impl::handle_rings(Message& message) {
  Reader in(message.body);
  const auto set = in.get<std::uint32_t>();
  const auto first = in.get<std::uint32_t>();
  auto& into = set == 0 ? fds.control : fds.data;
  if (!in.ok() || set > 1 || first != into.size()) return malformed();
  for (Fd& fd : message.fds) into.push_back(std::move(fd));
}

void SensorClient::Impl::handle_snapshot(const Message& message) {
  if (message.header.id != snapshot_id) {
    snapshot = {};
    snapshot_id = message.header.id;
  }
  if (!decode_part(message.body, snapshot)) return malformed();
  if ((message.header.flags & sensor::kLastPart) == 0) return;
  count(&SensorClientCounts::snapshots);
  sensor::Snapshot whole = std::move(snapshot);
  snapshot = {};
  if (ready && handlers.on_snapshot) handlers.on_snapshot(std::move(whole));
}

void SensorClient::Impl::handle_reply(const Message& message) {
  Waiting done;
  {
    const std::lock_guard lock(mutex);
    const auto it = waiting.find(message.header.id);
    if (it == waiting.end()) return;  // it came too late
    auto& body = it->second.body;
    if (body.size() + message.body.size() > kReplyBytesMax) {
      ++counts.malformed;
      return;
    }
    body.insert(body.end(), message.body.begin(), message.body.end());
    if ((message.header.flags & sensor::kLastPart) == 0) return;
    ++counts.replies;
    done = std::move(it->second);
    waiting.erase(it);
  }
  Reader in(done.body);
  const auto code = in.get<std::uint32_t>();  // 0: the value follows; else 1 + Code and a message
  if (!in.ok() || code > 1 + static_cast<std::uint32_t>(Code::Exhausted)) {
    malformed();
    return done.answer(fail(Code::Corrupt, "unreadable reply of the sensor"));
  }
  if (code != 0) return done.answer(fail(static_cast<Code>(code - 1), in.get_string()));
  done.answer(std::span<const std::byte>(done.body).subspan(sizeof(code)));
}

void SensorClient::Impl::flush_locked() {
  while (!unsent.empty() && socket) {
    MessageHeader header;
    const auto& message = unsent.front();
    std::memcpy(&header, message.data(), sizeof(header));
    const auto sent =
        sensor::send_message(socket.get(), header, std::span(message).subspan(sizeof(header)));
    if (!sent && sent.error().code == Code::Exhausted) return;
    unsent.pop_front();  // sent, or the sensor is gone and dispatch() will say so
  }
}

void SensorClient::Impl::request(RequestKind kind, std::span<const std::byte> arguments, Answer answer) {
  const char* refusal = nullptr;
  Code code = Code::Busy;
  {
    const std::lock_guard lock(mutex);
    if (!socket) {
      refusal = "no sensor is running";
    } else if (waiting.size() >= kRequestsMax) {
      refusal = "too many requests wait for the sensor";
      code = Code::Exhausted;
    }
    if (refusal == nullptr) {
      MessageHeader header;
      header.type = static_cast<std::uint16_t>(MessageType::Request);
      header.id = next_id++;
      std::vector<std::byte> message;
      Writer out(message);
      out.put(header);
      out.put(kind);
      message.insert(message.end(), arguments.begin(), arguments.end());
      waiting.emplace(header.id, Waiting{std::move(answer), {}, SteadyClock::now() + kReplyWait});
      unsent.push_back(std::move(message));
      ++counts.requests;
      flush_locked();
      return;
    }
    ++counts.refused;
  }
  answer(fail(code, refusal));
}

SensorClient::SensorClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SensorClient::~SensorClient() = default;

Result<std::unique_ptr<SensorClient>> SensorClient::open(Fd socket, SensorHandlers handlers) {
  auto impl = std::make_unique<Impl>();
  impl->handlers = std::move(handlers);
  impl->waker = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->waker) return fail_errno(errno, "eventfd");
  impl->adopt(std::move(socket));
  return std::unique_ptr<SensorClient>(new SensorClient(std::move(impl)));
}

Result<std::unique_ptr<SensorClient>> SensorClient::open_supervised(Fd control, SensorHandlers handlers) {
  auto impl = std::make_unique<Impl>();
  impl->handlers = std::move(handlers);
  impl->waker = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->waker) return fail_errno(errno, "eventfd");
  impl->control = std::move(control);
  return std::unique_ptr<SensorClient>(new SensorClient(std::move(impl)));
}

Result<void> SensorClient::dispatch(std::chrono::milliseconds timeout) {
  std::array<pollfd, 3> wait{};
  wait[0] = {impl_->waker.get(), POLLIN, 0};
  wait[1] = {impl_->control ? impl_->control.get() : -1, POLLIN, 0};
  {
    const std::lock_guard lock(impl_->mutex);
    if (!impl_->socket && !impl_->control) return fail(Code::NotFound, "the sensor is gone");
    const short events = impl_->unsent.empty() ? POLLIN : POLLIN | POLLOUT;
    wait[2] = {impl_->socket ? impl_->socket.get() : -1, events, 0};
  }
  if (::poll(wait.data(), wait.size(), static_cast<int>(timeout.count())) < 0 && errno != EINTR) {
    return fail_errno(errno, "wait for the sensor");
  }
  if (wait[0].revents != 0) {
    std::uint64_t value = 0;
    (void)!read(impl_->waker.get(), &value, sizeof(value));
  }
  // Messages first, so that the last words of a dead sensor are heard before the next one is adopted.
  TRY(impl_->receive_messages());
  TRY(impl_->receive_sensors());
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->flush_locked();
  }
  impl_->expire();
  return {};
}

void SensorClient::wake() {
  const std::uint64_t one = 1;
  (void)!write(impl_->waker.get(), &one, sizeof(one));
}

bool SensorClient::connected() const {
  const std::lock_guard lock(impl_->mutex);
  return static_cast<bool>(impl_->socket);
}

namespace {

template <typename... Fields>
std::vector<std::byte> arguments(const Fields&... fields) {
  std::vector<std::byte> bytes;
  Writer out(bytes);
  const auto put = [&](const auto& field) {
    if constexpr (std::is_same_v<std::decay_t<decltype(field)>, std::string>) {
      out.put_string(field);
    } else {
      out.put(field);
    }
  };
  (put(fields), ...);
  return bytes;
}

Answer decode_nothing(Reply<void> reply) {
  return [reply = std::move(reply)](Result<std::span<const std::byte>> body) {
    if (!body) return reply(std::unexpected(body.error()));
    reply({});
  };
}

}  // namespace

void SensorClient::who_is(std::uint32_t tgid, Reply<sensor::ProcessInfo> reply) {
  impl_->request(RequestKind::WhoIs, arguments(tgid), decode_into(std::move(reply)));
}
void SensorClient::fd_path(std::uint32_t tgid, std::int32_t fd, Reply<std::string> reply) {
  impl_->request(RequestKind::FdPath, arguments(tgid, fd), decode_into(std::move(reply)));
}
void SensorClient::watch_tgid(std::uint32_t tgid, std::uint32_t capture, Reply<void> reply) {
  impl_->request(RequestKind::WatchTgid, arguments(tgid, capture), decode_nothing(std::move(reply)));
}
void SensorClient::watch_cgroup(const std::string& path, std::uint32_t capture, Reply<void> reply) {
  impl_->request(RequestKind::WatchCgroup, arguments(path, capture), decode_nothing(std::move(reply)));
}
void SensorClient::list_processes(Reply<std::vector<sensor::ProcessRow>> reply) {
  impl_->request(RequestKind::ListProcesses, {}, decode_list_into(std::move(reply)));
}
void SensorClient::list_sockets(std::uint32_t tgid, Reply<std::vector<sensor::SocketOwner>> reply) {
  impl_->request(RequestKind::ListSockets, arguments(tgid), decode_list_into(std::move(reply)));
}
void SensorClient::filesystem_spaces(Reply<std::vector<sensor::FilesystemSpace>> reply) {
  impl_->request(RequestKind::FilesystemSpaces, {}, decode_list_into(std::move(reply)));
}
void SensorClient::read_cgroup(const std::string& path, Reply<sensor::CgroupLimits> reply) {
  impl_->request(RequestKind::ReadCgroup, arguments(path), decode_into(std::move(reply)));
}
void SensorClient::look_closely(std::uint32_t seconds, Reply<void> reply) {
  impl_->request(RequestKind::LookClosely, arguments(seconds), decode_nothing(std::move(reply)));
}

SensorClientCounts SensorClient::counts() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->counts;
}

}  // namespace culprit::collect
