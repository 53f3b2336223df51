#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "daemon/ingest/journal.h"
#include "daemon/ingest/syslog.h"

namespace culprit::ingest {
namespace {

// A process id that an entry names may be somebody else's by now.
constexpr std::int64_t kPidIsFreshNs = 60 * kNsPerSecond;

template <typename T>
bool number_of(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// "postgresql@15-main.service" -> "postgresql@15-main"; scopes, slices and user managers say where a process was put, not what it is.
std::string_view service_of_unit(std::string_view unit) {
  if (!unit.ends_with(".service") || unit.starts_with("user@")) return {};
  return unit.substr(0, unit.size() - std::string_view(".service").size());
}

// syslog(3) facilities are not among them: who asks for those asks by name.
constexpr std::pair<std::string_view, std::string_view> kKept[] = {
    {"_HOSTNAME", "host.name"},        {"_PID", "process.pid"},           {"_COMM", "process.command"},       {"_SYSTEMD_UNIT", "systemd.unit"},
    {"UNIT", "systemd.object"},        {"CONTAINER_NAME", "container.name"}, {"CONTAINER_ID", "container.id"}, {"SYSLOG_IDENTIFIER", "syslog.identifier"},
    {"_TRANSPORT", "journal.transport"}, {"MESSAGE_ID", "journal.message_id"}, {"_KERNEL_DEVICE", "kernel.device"}, {"_KERNEL_SUBSYSTEM", "kernel.subsystem"},
    {"ERRNO", "error.errno"},          {"COREDUMP_EXE", "process.executable.path"}, {"CODE_FILE", "code.file.path"},
};

}  // namespace

std::string_view JournalEntry::find(std::string_view field) const {
  const auto found = std::ranges::find(fields, field, [](const auto& each) { return each.first; });
  return found == fields.end() ? std::string_view() : found->second;
}

void decode_journal_entry(const JournalEntry& entry, const Context& context, Decoded& out) {
  ++out.records;
  std::string_view message = entry.find("MESSAGE");
  while (message.ends_with('\n') || message.ends_with(' ')) message.remove_suffix(1);
  if (message.empty()) return out.reject("an entry without MESSAGE");
  stream::Event event;
  event.kind = stream::Kind::Log;
  event.value = 1;
  // Its sender's time, if that is not later than when journald took it.
  std::int64_t sent_us = 0;
  const bool sent = number_of(entry.find("_SOURCE_REALTIME_TIMESTAMP"), sent_us) && sent_us > 0 && sent_us <= entry.wall_ns / 1'000;
  const std::int64_t wall_ns = sent ? sent_us * 1'000 : entry.wall_ns;
  event.time_ns = stream_time(wall_ns, context, out);
  unsigned priority = 6;
  (void)number_of(entry.find("PRIORITY"), priority);
  event.severity = severity_of_syslog(priority);

  const std::string_view host = entry.find("_HOSTNAME");
  const bool here = context.resolver != nullptr && (host.empty() || host == context.resolver->host_name());
  const bool kernel = entry.find("_TRANSPORT") == "kernel";
  std::string named;
  for (const std::string_view field : {"COREDUMP_UNIT", "UNIT", "OBJECT_SYSTEMD_UNIT"}) {
    if (named.empty()) named = service_of_unit(entry.find(field));
  }
  std::uint32_t pid = 0;
  const bool fresh = context.now_ns + context.wall_offset_ns - wall_ns < kPidIsFreshNs;
  if (named.empty() && !kernel && here && fresh && number_of(entry.find("_PID"), pid)) named = context.resolver->service_of_pid(pid);
  if (const auto id = entry.find("CONTAINER_ID_FULL"); named.empty() && here && !id.empty()) named = context.resolver->service_of_container(id);
  if (named.empty()) named = entry.find("CONTAINER_NAME");
  if (named.empty() && !kernel) {
    named = service_of_unit(entry.find("_SYSTEMD_UNIT"));
    if (named.empty()) named = service_of_unit(entry.find("_SYSTEMD_USER_UNIT"));
    if (named.empty()) named = entry.find("SYSLOG_IDENTIFIER");
    if (named.empty()) named = entry.find("_COMM");
  }
  event.entity = named.empty() ? "host" : "service:" + bounded_text(named, kNameBytesMax, out);

  event.body = bounded_text(message, kBodyBytesMax, out);
  if (!parse_trace_id(entry.find("TRACE_ID"), event.trace_id)) (void)find_trace_id(event.body, event.trace_id, event.span_id);
  else (void)parse_span_id(entry.find("SPAN_ID"), event.span_id);
  for (const auto& [field, attribute] : kKept) {
    if (const auto value = entry.find(field); !value.empty()) add_attribute(event.attributes, attribute, value, out);
  }
  out.events.push_back(std::move(event));
}

}  // namespace culprit::ingest
