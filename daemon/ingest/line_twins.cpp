#include "daemon/ingest/line_twins.h"

#include <algorithm>
#include <charconv>

namespace culprit::ingest {
namespace {

using stream::Event;

std::uint64_t pid_of(const Event& event) {
  std::uint64_t pid = 0;
  const std::string_view text = event.attribute("process.pid");
  (void)std::from_chars(text.data(), text.data() + text.size(), pid);
  return pid;
}

bool lately(const std::unordered_map<std::uint64_t, std::int64_t>& known, std::uint64_t place, std::int64_t now_ns) {
  const auto found = known.find(place);
  return found != known.end() && now_ns - found->second < LineTwins::kKnownNs;
}

void put(Event& event, std::string_view key, std::string_view value) {
  if (!value.empty() && event.attribute(key).empty()) event.attributes.emplace_back(key, value);
}

bool is_from_journal(const Event& event) { return event.attribute("journal.transport") == "stdout"; }

}  // namespace

void LineTwins::forget(std::map<Number, Line>::iterator line) {
  const auto [from, to] = by_key_.equal_range(line->second.key);
  by_key_.erase(std::find_if(from, to, [&](const auto& each) { return each.second == line->first; }));
  stats_.held -= line->second.held ? 1 : 0;
  lines_.erase(line);
}

void LineTwins::remember(Line line) {
  if (lines_.size() >= kLinesMax) {
    const auto oldest = lines_.begin();
    if (oldest->second.held) overdue_.push_back(std::move(oldest->second.event));
    forget(oldest);
  }
  stats_.held += line.held ? 1 : 0;
  by_key_.emplace(line.key, next_);
  lines_.emplace(next_++, std::move(line));
}

void LineTwins::kernel(std::vector<Event>& events, std::int64_t now_ns) {
  const bool journal = followed_.reads_journal();
  std::erase_if(events, [&](Event& event) {
    if (event.kind != stream::Kind::Log) return false;
    const auto mark = stream::take_line_mark(event);
    if (!mark) return false;
    if (mark->device != 0) {
      const Followed::File file(mark->device, mark->inode);
      if (!followed_.reads(file, event.time_ns)) return false;
      ++stats_.files;
      if (writers_.contains(file) || writers_.size() < kKnownMax) writers_[file] = {event.entity, now_ns};
      remember({{mark->device, mark->inode, 0, mark->text}, std::move(event), now_ns, false});
      return true;
    }
    const bool container = mark->container != 0 && followed_.reads_container(mark->container);
    if (!container && !journal) return false;
    const std::uint64_t place = container ? mark->container : pid_of(event);
    const Key key{0, 0, place, mark->text};
    if (shown_.size() >= kKnownMax) shown_.clear();  // learned again within a line
    shown_[place] = now_ns;
    if (const auto entry = entries_.find(key); entry != entries_.end()) {  // it was told before the kernel's came
      entries_.erase(entry);
      ++stats_.journal;
      return true;
    }
    if (!lately(in_journal_, place, now_ns) && lately(elsewhere_, place, now_ns)) return false;
    remember({key, std::move(event), now_ns, true});
    return true;
  });
}

std::int64_t LineTwins::ready_ns(const std::vector<Event>& told, std::int64_t now_ns) const {
  std::int64_t ready = now_ns;
  for (const Event& event : told) {
    if (event.kind != stream::Kind::Log || event.time_ns + kEarlyNs <= ready) continue;
    const auto mark = stream::line_mark(event);
    if (!mark) continue;
    // A process or container that is new here may be one that the kernel shows.
    const std::uint64_t place = mark->container != 0 ? mark->container : is_from_journal(event) ? pid_of(event) : 0;
    const bool twin = place != 0 ? lately(shown_, place, now_ns) || !lately(in_journal_, place, now_ns) : !writers_.empty();
    if (twin) ready = event.time_ns + kEarlyNs;
  }
  return std::min(ready, now_ns + kEarlyNs);
}

// The kernel knows who wrote it, and when; what the line itself says counts more.
void LineTwins::join(Event& told, Event& seen) {
  ++stats_.joined;
  for (const std::string_view key : {"process.pid", "thread.id"}) put(told, key, seen.attribute(key));
  put(told, "service", seen.attribute("service"));
  if (told.trace_id[0] == 0 && told.trace_id[1] == 0) {
    std::ranges::copy(seen.trace_id, told.trace_id);
    told.span_id = seen.span_id;
  }
  told.time_ns = std::min(told.time_ns, seen.time_ns);
  told.severity = told.severity == stream::kUnset ? seen.severity : told.severity;
}

void LineTwins::told(std::vector<Event>& events, std::int64_t now_ns) {
  for (Event& event : events) {
    if (event.kind != stream::Kind::Log) continue;
    const auto mark = stream::take_line_mark(event);
    if (!mark) continue;
    Key key{mark->device, mark->inode, 0, mark->text};
    if (mark->device != 0) {
      if (const auto writer = writers_.find({mark->device, mark->inode}); mark->guessed && writer != writers_.end()) event.entity = writer->second.first;
    } else {
      key.place = mark->container != 0 ? mark->container : is_from_journal(event) ? pid_of(event) : 0;
      if (key.place == 0) continue;
      if (in_journal_.size() >= kKnownMax) in_journal_.clear();
      in_journal_[key.place] = now_ns;
    }
    const auto twin = by_key_.lower_bound(key);
    if (twin != by_key_.end() && twin->first == key) {
      const auto line = lines_.find(twin->second);
      stats_.journal += line->second.held ? 1 : 0;
      if (mark->container != 0 && mark->guessed) event.entity = line->second.event.entity;
      join(event, line->second.event);
      forget(line);
    } else if (mark->device == 0 && entries_.size() < kLinesMax) {
      entries_.emplace(key, now_ns);
    }
  }
}

void LineTwins::release(std::int64_t now_ns, bool all, std::vector<Event>& out) {
  std::ranges::move(overdue_, std::back_inserter(out));
  overdue_.clear();
  for (auto each = lines_.begin(); each != lines_.end();) {
    const auto at = each++;
    Line& line = at->second;
    const std::int64_t age_ns = now_ns - line.came_ns;
    if (!all && age_ns < kHoldNs) break;  // those behind it came later
    if (line.held) {
      if (!lately(in_journal_, line.key.place, now_ns) && (elsewhere_.size() < kKnownMax || elsewhere_.contains(line.key.place))) elsewhere_[line.key.place] = now_ns;
      out.push_back(std::move(line.event));
      forget(at);
    } else if (all || age_ns >= kRememberNs) {
      forget(at);
    }
  }
  std::erase_if(entries_, [&](const auto& each) { return now_ns - each.second >= kRememberNs; });
  std::erase_if(writers_, [&](const auto& each) { return now_ns - each.second.second >= kKnownNs; });
  std::erase_if(in_journal_, [&](const auto& each) { return now_ns - each.second >= kKnownNs; });
  std::erase_if(shown_, [&](const auto& each) { return now_ns - each.second >= kKnownNs; });
  std::erase_if(elsewhere_, [&](const auto& each) { return now_ns - each.second >= kKnownNs; });
}

}  // namespace culprit::ingest
