#include "daemon/ingest/join.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "daemon/ingest/record.h"

namespace culprit::ingest {
namespace {

using stream::Event;

constexpr std::int64_t kSlackNs = 20 * kNsPerMs;         // between what the kernel and what a program take for the begin
constexpr std::int64_t kConnectionNs = kNsPerSecond;     // the same, when both name the same connection
constexpr std::int64_t kKernelSeesNs = 60 * kNsPerSecond;

std::uint64_t trace_key(const std::uint64_t (&trace_id)[2], std::uint64_t parent) {
  return trace_id[0] ^ trace_id[1] * 0x9e3779b97f4a7c15ULL ^ parent * 0xff51afd7ed558ccdULL;
}

std::uint32_t number_of(std::string_view text) {
  std::uint32_t value = 0;
  (void)std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

std::uint64_t worker_key(std::uint32_t pid, std::uint32_t tid) { return std::uint64_t{pid} << 32U | tid; }

std::string_view first_of(const Event& event, std::initializer_list<std::string_view> keys) {
  for (const std::string_view key : keys) {
    if (const auto text = event.attribute(key); !text.empty()) return text;
  }
  return {};
}

std::uint64_t parent_of(const Event& event) {
  std::uint64_t parent = 0;
  (void)parse_span_id(event.attribute("parent.span_id"), parent);
  return parent;
}

bool has_trace(const Event& event) { return event.trace_id[0] != 0 || event.trace_id[1] != 0; }

void put(Event& event, std::string_view key, std::string_view value) {
  if (event.attribute(key).empty()) event.attributes.emplace_back(key, value);
}

std::string_view next_segment(std::string_view& path) {
  while (path.starts_with('/')) path.remove_prefix(1);
  const std::string_view segment = path.substr(0, path.find('/'));
  path.remove_prefix(segment.size());
  return segment;
}

// "/orders/{id}" is "/orders/:order", "/orders/17" and "/orders/*": whoever cut it, what stands is the same.
bool same_path(std::string_view a, std::string_view b) {
  const auto variable = [](std::string_view text) { return text.starts_with('{') || text.starts_with(':') || text.starts_with('<') || text.starts_with('*'); };
  while (true) {
    const std::string_view left = next_segment(a), right = next_segment(b);
    if (left.empty() || right.empty()) return left.empty() && right.empty() ? true : (left == "*" || right == "*");
    if (left.starts_with('*') || right.starts_with('*')) return true;
    if (left != right && !variable(left) && !variable(right)) return false;
  }
}

bool same_operation(const Event& told, const Event& kernel) {
  std::string_view name = told.name, method = first_of(told, {"http.request.method", "http.method"});
  const std::size_t blank = name.find(' ');
  const bool named = blank != std::string_view::npos && std::ranges::all_of(name.substr(0, blank), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (method.empty() && named) method = name.substr(0, blank);
  if (!method.empty() && method != kernel.attribute("http.request.method")) return false;
  const std::string_view status = first_of(told, {"http.response.status_code", "http.status_code"}), seen_status = kernel.attribute("http.response.status_code");
  if (!status.empty() && !seen_status.empty() && status != seen_status) return false;
  std::string_view path = first_of(told, {"url.path", "http.target"});
  if (path.empty()) path = first_of(told, {"http.route", "url.full", "http.url"});
  if (path.empty() && named) path = name.substr(blank + 1);
  if (path.empty()) return true;
  return same_path(path.starts_with('/') && path.find('?') == std::string_view::npos && path.find('{') != std::string_view::npos ? std::string(path) : path_template(path), kernel.attribute("url.path"));
}

// Seconds of the kernel's span in which it waited for others.
double waited_s(const Event& kernel) {
  double sum = 0;
  for (const auto& [key, value] : kernel.attributes) {
    if (key.starts_with("wait.")) sum += std::strtod(std::string(value).c_str(), nullptr);
  }
  return sum;
}

template <typename Index, typename Key>
void erase_time(Index& index, const Key& key, std::int64_t end_ns, std::uint64_t number) {
  const auto found = index.find(key);
  if (found == index.end()) return;
  found->second.by_end.erase({end_ns, number});
  if (found->second.by_end.empty()) index.erase(found);
}

}  // namespace

std::int64_t grain_of(std::int64_t wall_ns) {
  for (const std::int64_t grain : {kNsPerSecond, kNsPerMs, std::int64_t{1000}}) {
    if (wall_ns % grain == 0) return grain;
  }
  return 1;
}

bool Join::of_this_host(const Event& event) const {
  const std::string_view host = event.attribute("host.name");
  return host.empty() || host == host_name_;
}

bool Join::tells(std::string_view entity, std::int64_t now_ns) const {
  const auto found = tells_.find(entity);
  return found != tells_.end() && now_ns - found->second < kTellsNs;
}

std::map<std::string, std::string> Join::names() const {
  std::map<std::string, std::string> names;
  for (const auto& [told, seen] : names_) names.emplace(told.substr(8), seen.substr(std::min<std::size_t>(8, seen.size())));
  return names;
}

Join::Number Join::remember(Seen seen) {
  while (seen_.size() >= kRememberedMax || (seen.held && stats_.held >= kHeldMax)) {
    auto oldest = seen_.begin();
    if (seen_.size() < kRememberedMax) {
      while (!oldest->second.held) ++oldest;
    }
    if (oldest->second.held) {
      overdue_.push_back(std::move(oldest->second.event));
      ++stats_.alone;
      ++stats_.pushed_out;
    }
    forget(oldest);
  }
  const Number number = next_++;
  if (seen.by_kernel) {
    if (seen.trace_id[0] != 0 || seen.trace_id[1] != 0) by_trace_.emplace(trace_key(seen.trace_id, seen.parent), number);
  }
  Seen& kept = seen_.emplace(number, std::move(seen)).first->second;
  const auto add = [&](ByTime& to) {
    to.by_end.emplace(std::pair(kept.end_ns, number), &kept);
    to.longest_ns = std::max(to.longest_ns, kept.end_ns - kept.start_ns);
  };
  if (kept.pid != 0) add(by_worker_[worker_key(kept.pid, 0)]);
  if (kept.pid != 0 && kept.tid != 0) add(by_worker_[worker_key(kept.pid, kept.tid)]);
  if (kept.held) {
    add(by_service_[kept.entity]);
    if (kept.port != 0) add(by_connection_[{kept.entity, kept.port}]);
    ++stats_.held;
  }
  return number;
}

// It is held no more: nothing told finds it by time.
void Join::let_go(const Seen& seen, Number number) {
  if (!seen.held) return;
  erase_time(by_service_, seen.entity, seen.end_ns, number);
  if (seen.port != 0) erase_time(by_connection_, std::pair(seen.entity, seen.port), seen.end_ns, number);
  --stats_.held;
}

void Join::forget(std::map<Number, Seen>::iterator seen) {
  const auto& [number, what] = *seen;
  if (what.by_kernel) by_trace_.erase({trace_key(what.trace_id, what.parent), number});
  let_go(what, number);
  erase_time(by_worker_, worker_key(what.pid, 0), what.end_ns, number);
  erase_time(by_worker_, worker_key(what.pid, what.tid), what.end_ns, number);
  seen_.erase(seen);
}

void Join::kernel(std::vector<Event>& events, std::int64_t now_ns) {
  std::erase_if(events, [&](Event& event) {
    if (event.kind != stream::Kind::Span || !event.attribute("span.kind").empty()) return false;
    if (const auto found = kernel_sees_.find(event.entity); found != kernel_sees_.end()) found->second = now_ns;
    else if (kernel_sees_.size() < kNamesMax) kernel_sees_.emplace(event.entity, now_ns);
    Seen seen{.entity = event.entity, .span_id = event.span_id, .parent = parent_of(event), .start_ns = event.start_ns(), .end_ns = event.time_ns,
              .pid = number_of(event.attribute("process.pid")), .tid = number_of(event.attribute("thread.id")), .port = number_of(event.attribute("client.port")), .by_kernel = true};
    seen.trace_id[0] = event.trace_id[0];
    seen.trace_id[1] = event.trace_id[1];
    seen.held = tells(event.entity, now_ns);
    const bool held = seen.held;
    if (held) {
      seen.event = std::move(event);
    } else {  // what is needed to know it again
      for (const std::string_view key : {"http.request.method", "url.path", "http.response.status_code"}) {
        if (const auto text = event.attribute(key); !text.empty()) seen.event.attributes.emplace_back(key, text);
      }
    }
    (void)remember(std::move(seen));
    return held;
  });
}

std::int64_t Join::ready_ns(const std::vector<Event>& told, std::int64_t now_ns) const {
  std::int64_t ready = now_ns;
  for (const Event& event : told) {
    const std::int64_t until = event.time_ns + kEarlyNs;
    if (until <= ready || !of_this_host(event)) continue;
    if (event.kind == stream::Kind::Span && event.attribute("span.kind") == "server") {
      const auto name = names_.find(event.entity);
      const auto sees = kernel_sees_.find(name == names_.end() ? event.entity : name->second);
      if (sees != kernel_sees_.end() && now_ns - sees->second < kKernelSeesNs) ready = until;
    } else if (event.kind == stream::Kind::Log && !has_trace(event) && by_worker_.contains(worker_key(number_of(event.attribute("process.pid")), 0))) {
      ready = until;
    }
  }
  return std::min(ready, now_ns + kEarlyNs);
}

Join::Seen* Join::find_by_trace(const Event& event, Number& number) {
  if (!has_trace(event)) return nullptr;
  const std::uint64_t parent = parent_of(event);
  if (parent == 0) return nullptr;
  const std::uint64_t key = trace_key(event.trace_id, parent);
  Seen* best = nullptr;
  std::int64_t best_ns = INT64_MAX;
  const bool own_name = kernel_sees_.contains(event.entity);
  auto each = by_trace_.upper_bound({key, UINT64_MAX});
  for (std::size_t looked = 0; looked < kSameTraceMax && each != by_trace_.begin(); ++looked) {
    if ((--each)->first != key) break;
    Seen& seen = seen_.at(each->second);
    if (seen.trace_id[0] != event.trace_id[0] || seen.trace_id[1] != event.trace_id[1] || seen.parent != parent || seen.joined) continue;
    const bool same = seen.entity == event.entity;
    // Somebody else's request with the same header: a proxy that passes it on. It waits at least as long as the program works.
    if (!same && (own_name || (seen.held ? waited_s(seen.event) : 0) >= event.value)) continue;
    const std::int64_t apart = std::abs(seen.start_ns - event.start_ns()) + std::abs(seen.end_ns - event.time_ns);
    if (event.start_ns() > seen.end_ns + kConnectionNs || event.time_ns < seen.start_ns - kConnectionNs) continue;
    if (best != nullptr && (same ? best->entity == event.entity : true) && apart >= best_ns) continue;
    best = &seen;
    best_ns = apart;
    number = each->second;
  }
  return best;
}

// The request of the same connection that is nearest; else the nearest of the service whose times fit closely, if it can be but of another connection.
Join::Seen* Join::find_by_time(const Event& event, Number& number) {
  const auto held = by_service_.find(event.entity);
  if (held == by_service_.end()) return nullptr;
  const std::uint32_t port = number_of(first_of(event, {"client.port", "network.peer.port", "net.peer.port", "net.sock.peer.port"}));
  const std::int64_t start_ns = event.start_ns();
  Seen* best = nullptr;
  std::int64_t best_ns = INT64_MAX;
  const auto look = [&](ByTime& among, std::int64_t around_ns, bool connection) {
    // What ends nearest comes first, from both sides.
    auto after = among.by_end.lower_bound({event.time_ns, 0}), before = after;
    for (std::size_t looked = 0; looked < kLookedMax; ++looked) {
      const bool has_after = after != among.by_end.end() && after->first.first - event.time_ns <= around_ns;
      const bool has_before = before != among.by_end.begin() && event.time_ns - std::prev(before)->first.first <= around_ns;
      if (!has_after && !has_before) return;
      const auto each = has_after && (!has_before || after->first.first - event.time_ns <= event.time_ns - std::prev(before)->first.first) ? after++ : --before;
      Seen& seen = *each->second;
      const std::int64_t ends_apart = std::abs(seen.end_ns - event.time_ns), apart = std::abs(seen.start_ns - start_ns) + ends_apart;
      if (ends_apart >= best_ns) return;  // none of the others is nearer
      if (apart >= best_ns || (!connection && port != 0 && seen.port != 0)) continue;
      // A program begins after the kernel has handed it the request, and may do its own things after the answer.
      const bool near = connection ? apart <= kConnectionNs : start_ns >= seen.start_ns - kSlackNs && apart <= kSlackNs + (seen.end_ns - seen.start_ns) / 4;
      if (!near || !same_operation(event, seen.event)) continue;
      best = &seen;
      best_ns = apart;
      number = each->first.second;
    }
  };
  if (const auto same = port == 0 ? by_connection_.end() : by_connection_.find({event.entity, port}); same != by_connection_.end()) look(same->second, kConnectionNs, true);
  // apart <= slack + d/4 with d <= told + apart: the kernel's d is at most 4/3 (told + slack), so ends are at most this far apart.
  if (best == nullptr) look(held->second, kSlackNs + (event.time_ns - start_ns + kSlackNs) / 3, false);
  return best;
}

void Join::join(Event& event, Seen& seen, Number number, bool by_trace, std::int64_t now_ns) {
  if (seen.entity != event.entity) {
    if (event.entity.starts_with("service:")) {
      if (names_.size() < kNamesMax) names_.emplace(event.entity, seen.entity);
      put(event, "service.name", event.entity.substr(8));
    }
    event.entity = seen.entity;
  }
  if (tells_.size() < kNamesMax || tells_.contains(seen.entity)) tells_[seen.entity] = now_ns;
  put(event, "seen_by", "both");
  put(event, "kernel.span_id", fmt::format("{:016x}", seen.span_id));
  if (seen.trace_id[0] != event.trace_id[0] || seen.trace_id[1] != event.trace_id[1]) {
    put(event, "kernel.trace_id", fmt::format("{:016x}{:016x}", seen.trace_id[0], seen.trace_id[1]));
  }
  if (seen.pid != 0) put(event, "process.pid", fmt::to_string(seen.pid));
  if (seen.tid != 0) put(event, "thread.id", fmt::to_string(seen.tid));
  if (seen.held) {
    put(event, "kernel.duration", fmt::format("{:.6f}", seen.event.value));
    for (const auto& [key, value] : seen.event.attributes) {
      if (key.starts_with("wait.") || key.starts_with("run_queue") || key == "self" || key == "client.service" || key == "error.type" || key == "culprit.ambiguous") put(event, key, value);
    }
    if (!has_trace(event)) std::ranges::copy(seen.trace_id, event.trace_id);
    event.severity = std::max(event.severity, seen.event.severity);
    ++(by_trace ? stats_.by_trace : stats_.by_time);
  } else {
    ++stats_.late;
  }
  // Lines of its thread that come later belong to the program's span. It stays findable by process and time only.
  by_trace_.erase({trace_key(seen.trace_id, seen.parent), number});
  let_go(seen, number);
  seen.held = seen.by_kernel = false;
  seen.joined = true;
  seen.event = {};
  std::ranges::copy(event.trace_id, seen.trace_id);
  seen.span_id = event.span_id;
}

// The request of these that was worked at then; false if it may have been another.
bool Join::find_worked_at(const ByTime& by_time, std::int64_t from_ns, std::int64_t to_ns, std::uint32_t tid, const Seen*& only) const {
  std::size_t looked = 0;
  for (auto each = by_time.by_end.lower_bound({from_ns - kAfterAnswerNs, 0}); each != by_time.by_end.end(); ++each) {
    const Seen& seen = *each->second;
    if (seen.end_ns > to_ns + by_time.longest_ns) break;  // this and all that follow began later
    if (++looked > kLookedMax) return false;
    if (seen.start_ns > to_ns || (tid != 0 && seen.tid != 0 && seen.tid != tid)) continue;
    if (only != nullptr && (only->trace_id[0] != seen.trace_id[0] || only->trace_id[1] != seen.trace_id[1])) return false;
    if (only == nullptr || seen.start_ns > only->start_ns) only = &seen;  // the innermost one
  }
  return true;
}

// The one request that was worked at when the line was written; none if it may have been another.
void Join::attach(Event& line, std::int64_t wall_offset_ns) {
  const std::uint32_t pid = number_of(line.attribute("process.pid")), tid = number_of(line.attribute("thread.id"));
  if (pid == 0 || !line.attribute("container.id").empty()) return;  // a container has its own numbers
  // A process either tells threads of all its requests or of none.
  auto of = by_worker_.find(worker_key(pid, tid));
  if (of == by_worker_.end() && tid != 0) of = by_worker_.find(worker_key(pid, 0));
  if (of == by_worker_.end()) return;
  const std::int64_t grain = grain_of(line.time_ns + wall_offset_ns);
  const Seen* only = nullptr;
  if (!find_worked_at(of->second, line.time_ns, line.time_ns + grain - 1, tid, only) || only == nullptr) return;
  std::ranges::copy(only->trace_id, line.trace_id);
  line.span_id = only->span_id;
  ++stats_.lines;
}

void Join::told(std::vector<Event>& events, std::int64_t now_ns, std::int64_t wall_offset_ns) {
  const auto is_request = [&](const Event& event) { return event.kind == stream::Kind::Span && event.attribute("span.kind") == "server" && of_this_host(event); };
  for (Event& event : events) {
    if (names_.empty() || !of_this_host(event)) continue;
    if (const auto name = names_.find(event.entity); name != names_.end()) {
      put(event, "service.name", event.entity.substr(8));
      event.entity = name->second;
    }
  }
  // By trace first, so that what is sure takes nothing from what is likely.
  for (Event& event : events) {
    if (!is_request(event)) continue;
    Number number = 0;
    if (Seen* seen = find_by_trace(event, number); seen != nullptr) join(event, *seen, number, true, now_ns);
  }
  for (Event& event : events) {
    if (!is_request(event) || !event.attribute("seen_by").empty()) continue;
    Number number = 0;
    if (Seen* seen = find_by_time(event, number); seen != nullptr) {
      join(event, *seen, number, false, now_ns);
    } else if (kernel_sees_.contains(event.entity) && (tells_.size() < kNamesMax || tells_.contains(event.entity))) {
      tells_[event.entity] = now_ns;  // from now on its requests wait
    }
  }
  for (const Event& event : events) {  // threads that programs name themselves
    if (event.kind != stream::Kind::Span || !event.attribute("seen_by").empty() || !of_this_host(event) || !event.attribute("container.id").empty()) continue;
    const std::uint32_t pid = number_of(event.attribute("process.pid")), tid = number_of(event.attribute("thread.id"));
    if (pid == 0 || tid == 0 || now_ns - event.time_ns > kRememberNs) continue;
    Seen seen{.entity = event.entity, .span_id = event.span_id, .start_ns = event.start_ns(), .end_ns = event.time_ns, .pid = pid, .tid = tid};
    std::ranges::copy(event.trace_id, seen.trace_id);
    (void)remember(std::move(seen));
  }
  for (Event& event : events) {
    if (event.kind == stream::Kind::Log && !has_trace(event) && of_this_host(event)) attach(event, wall_offset_ns);
  }
}

void Join::release(std::int64_t now_ns, bool all, std::vector<Event>& out) {
  std::ranges::move(overdue_, std::back_inserter(out));
  overdue_.clear();
  for (auto each = seen_.begin(); each != seen_.end();) {
    const auto at = each++;
    Seen& seen = at->second;
    const std::int64_t age_ns = now_ns - seen.end_ns;
    if (seen.held && (all || age_ns >= kHoldNs)) {
      out.push_back(std::move(seen.event));
      let_go(seen, at->first);
      seen.held = false;
      ++stats_.alone;
      seen.event = {};
    }
    if (age_ns > kRememberNs) forget(at);
  }
  std::erase_if(tells_, [&](const auto& each) { return now_ns - each.second > kTellsNs; });
  std::erase_if(kernel_sees_, [&](const auto& each) { return now_ns - each.second > kTellsNs; });
  std::erase_if(names_, [&](const auto& each) { return !kernel_sees_.contains(each.second); });
}

}  // namespace culprit::ingest
