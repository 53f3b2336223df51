// Records made by hand, as the probes would.
#pragma once

#include <cstring>

#include "daemon/collect/record.h"

namespace culprit::test {

template <typename Event>
Event make(std::uint64_t time_ns, std::size_t size = sizeof(Event)) {
  Event event{};
  event.header = {time_ns, static_cast<culprit_u32>(size), static_cast<culprit_u16>(collect::EventKind<Event>::value), 0};
  return event;
}

template <typename Event>
collect::RecordBytes bytes_of(const Event& event) {
  return std::as_bytes(std::span(&event, 1)).first(event.header.size);
}

inline constexpr std::size_t kSmallPayload = offsetof(culprit_payload_event, data) + CULPRIT_PAYLOAD_SMALL;

}  // namespace culprit::test
