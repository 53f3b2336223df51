// gRPC's own layer on HTTP/2: the frame of a message, status codes, and how errors are written into trailers.
// Sources: github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, opentelemetry.io/docs/specs/otlp (failures, throttling),
// github.com/googleapis/googleapis google/rpc/{code,status,error_details}.proto.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "daemon/base/result.h"

namespace culprit::ingest {

enum class GrpcCode : int { Ok = 0, InvalidArgument = 3, PermissionDenied = 7, ResourceExhausted = 8, Unimplemented = 12, Internal = 13, Unavailable = 14 };

inline constexpr std::size_t kGrpcPrefixBytes = 5;  // one byte: packed or not; four bytes: length, big endian

struct GrpcMessage {
  bool packed = false;
  std::string_view bytes;
};

// What the first bytes of a request say of its length; false while there are fewer than kGrpcPrefixBytes.
bool grpc_message_size(std::string_view body, std::uint32_t& size);

// The one message of a unary request. Errors: Invalid with the offset: cut short, none, more than one, an unknown flag.
Result<GrpcMessage> parse_grpc_message(std::string_view body);

std::string grpc_message(std::string_view bytes);  // with its prefix, not packed

// A message as the trailer grpc-message carries it: printable ASCII but '%', the rest as %XX; at most kGrpcTextBytesMax of text.
inline constexpr std::size_t kGrpcTextBytesMax = 512;
std::string grpc_text(std::string_view message);

// google.rpc.Status with google.rpc.RetryInfo in base64 without padding, as the trailer grpc-status-details-bin carries it:
// only with it a client of OTLP comes again at the time we name.
std::string grpc_retry_details(GrpcCode code, std::string_view message, int retry_after_s);

}  // namespace culprit::ingest
