#include "daemon/ingest/grpc_message.h"

#include <fmt/format.h>

#include "daemon/ingest/wire.h"

namespace culprit::ingest {
namespace {

std::string base64(std::string_view bytes) {
  static constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  std::uint32_t bits = 0;
  unsigned held = 0;
  for (const char c : bytes) {
    bits = (bits << 8U) | static_cast<std::uint8_t>(c);
    for (held += 8; held >= 6; held -= 6) out += kDigits[(bits >> (held - 6)) & 63U];
  }
  if (held > 0) out += kDigits[(bits << (6 - held)) & 63U];
  return out;
}

}  // namespace

bool grpc_message_size(std::string_view body, std::uint32_t& size) {
  if (body.size() < kGrpcPrefixBytes) return false;
  size = 0;
  for (std::size_t i = 1; i < kGrpcPrefixBytes; ++i) size = (size << 8U) | static_cast<std::uint8_t>(body[i]);
  return true;
}

Result<GrpcMessage> parse_grpc_message(std::string_view body) {
  std::uint32_t size = 0;
  if (!grpc_message_size(body, size)) return fail(Code::Invalid, fmt::format("no message: {} bytes of its prefix at offset 0", body.size()));
  const auto flag = static_cast<std::uint8_t>(body[0]);
  if (flag > 1) return fail(Code::Invalid, fmt::format("flag {} at offset 0; 0 and 1 are known", flag));
  const std::string_view rest = body.substr(kGrpcPrefixBytes);
  if (rest.size() < size) return fail(Code::Invalid, fmt::format("a message of {} bytes ends at offset {}", size, body.size()));
  if (rest.size() > size) return fail(Code::Invalid, fmt::format("more than one message, at offset {}", kGrpcPrefixBytes + size));
  return GrpcMessage{flag == 1, rest};
}

std::string grpc_message(std::string_view bytes) {
  std::string out(kGrpcPrefixBytes, '\0');
  for (std::size_t i = 1; i < kGrpcPrefixBytes; ++i) out[i] = static_cast<char>((bytes.size() >> (8 * (kGrpcPrefixBytes - 1 - i))) & 0xFFU);
  out += bytes;
  return out;
}

std::string grpc_text(std::string_view message) {
  std::string out;
  for (const char c : message.substr(0, kGrpcTextBytesMax)) {
    if (c >= ' ' && c <= '~' && c != '%') out += c;
    else out += fmt::format("%{:02X}", static_cast<std::uint8_t>(c));
  }
  return out;
}

std::string grpc_retry_details(GrpcCode code, std::string_view message, int retry_after_s) {
  WireWriter delay, info, any, status;
  delay.number(1, static_cast<std::uint64_t>(retry_after_s));
  info.bytes(1, delay.text());
  any.bytes(1, "type.googleapis.com/google.rpc.RetryInfo");
  any.bytes(2, info.text());
  status.number(1, static_cast<std::uint64_t>(code));
  status.bytes(2, message.substr(0, kGrpcTextBytesMax));
  status.bytes(3, any.text());
  return base64(status.text());
}

}  // namespace culprit::ingest
