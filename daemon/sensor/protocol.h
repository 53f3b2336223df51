// Protocol between culprit-sensor and culpritd: messages over one Unix seqpacket pair, at most 64 KiB each.
//
// The sensor speaks first: Hello, then the ring descriptors in Rings messages (SCM_RIGHTS), the counters map
// in a Counters message; then a Snapshot a second, in parts; and a Reply for each request, by its id.
// The daemon may ask for the kinds of Request below and nothing else; an unknown or malformed request gets an
// error reply. Every message begins with MessageHeader; the body is fields in order: little-endian integers
// of fixed width, strings as u32 length and bytes, vectors as u32 count and items. Readers check every bound.
#pragma once

#include <cstddef>
#include <span>

#include "daemon/base/fd.h"
#include "daemon/base/result.h"
#include "daemon/sensor/facts.h"

namespace culprit::sensor {

inline constexpr std::uint32_t kProtocolVersion = 5;
inline constexpr std::size_t kMessageBytesMax = 64 * 1024;
inline constexpr std::size_t kFdsPerMessageMax = 64;
inline constexpr std::uint32_t kMessageMagic = 0x43554c50;  // "CULP"

enum class MessageType : std::uint16_t {
  Hello = 1,
  Rings = 2,     // body: u32 set (0 control, 1 data), u32 index of the first; descriptors attached
  Counters = 3,  // descriptor of the counters map attached
  Ready = 4,     // everything was handed over
  Snapshot = 5,  // a part of a snapshot; kLastPart on its last
  Reply = 6,     // a part of a reply; kLastPart on its last
  Request = 7,
};

inline constexpr std::uint16_t kLastPart = 1;
inline constexpr std::uint32_t kCloselyMaxS = 60;

struct MessageHeader {
  std::uint32_t magic = kMessageMagic;
  std::uint16_t type = 0;
  std::uint16_t flags = 0;
  std::uint32_t id = 0;     // of the request; of the snapshot's sequence (low bits)
  std::uint32_t bytes = 0;  // of the body
};
static_assert(sizeof(MessageHeader) == 16);

// What the daemon may ask for: the sensor's allow-list.
enum class RequestKind : std::uint32_t {
  WhoIs = 1,            // u32 tgid -> ProcessInfo
  FdPath = 2,           // u32 tgid, i32 fd -> string
  WatchTgid = 3,        // u32 tgid, u32 Capture flags (0: unwatch) -> nothing
  WatchCgroup = 4,      // string path (v2, or v1 memory), u32 flags -> nothing; members and new children too
  ListProcesses = 5,    // -> vector<ProcessRow>
  ListSockets = 6,      // u32 tgid (0: all) -> vector<SocketOwner>
  FilesystemSpaces = 7, // -> vector<FilesystemSpace>, real mounts only
  ReadCgroup = 8,       // string path -> CgroupLimits
  LookClosely = 9,      // u32 seconds, at most kCloselyMaxS -> nothing; every system call is observed for so long
};

// Encodes fields into a growing buffer.
class Writer {
 public:
  explicit Writer(std::vector<std::byte>& out) : out_(out) {}
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  void put(const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  void put_string(std::string_view text);

 private:
  std::vector<std::byte>& out_;
};

// Decodes fields; once a bound is passed every later read fails and ok() is false.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> in) : in_(in) {}
  template <typename T>
    requires std::is_trivially_copyable_v<T>
  T get() {
    T value{};
    take(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  std::string get_string(std::size_t bytes_max = kMessageBytesMax);
  bool ok() const { return ok_; }
  std::size_t left() const { return in_.size(); }

 private:
  void take(std::span<std::byte> out);
  std::span<const std::byte> in_;
  bool ok_ = true;
};

void encode(Writer& out, const Hello& hello);
void encode(Writer& out, const ProcessInfo& info);
void encode(Writer& out, const ProcessRow& row);
void encode(Writer& out, const SocketOwner& owner);
void encode(Writer& out, const FilesystemSpace& space);
void encode(Writer& out, const CgroupLimits& limits);
bool decode(Reader& in, Hello& hello);
bool decode(Reader& in, ProcessInfo& info);
bool decode(Reader& in, ProcessRow& row);
bool decode(Reader& in, SocketOwner& owner);
bool decode(Reader& in, FilesystemSpace& space);
bool decode(Reader& in, CgroupLimits& limits);

// A snapshot as message bodies of at most kMessageBytesMax each; any order and number of parts adds up.
std::vector<std::vector<std::byte>> encode_parts(const Snapshot& snapshot);
// Adds one part to `into`.
bool decode_part(std::span<const std::byte> body, Snapshot& into);

struct Message {
  MessageHeader header;
  std::vector<std::byte> body;
  std::vector<Fd> fds;
};

// Sends one message. Errors: Exhausted if the peer does not read (EAGAIN), Io if it is gone.
Result<void> send_message(int socket, MessageHeader header, std::span<const std::byte> body,
                          std::span<const int> fds = {});
// Receives one message without waiting. Errors: Busy if there is none, NotFound at the end of the
// connection, Corrupt if it is no message of ours.
Result<Message> receive_message(int socket);

}  // namespace culprit::sensor
