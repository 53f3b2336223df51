#include "daemon/ingest/journal.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include <thread>

#include "daemon/base/fd.h"
#include "daemon/base/handle.h"
#include "daemon/base/log.h"
#include "daemon/ingest/position.h"
#include "daemon/ingest/source_thread.h"
#include "daemon/stream/line_mark.h"

namespace culprit::ingest {
namespace {

using Journal = Handle<sd_journal, sd_journal_close>;

constexpr std::size_t kBatchEvents = 1'000;
constexpr std::size_t kBatchBytes = 4U << 20U;
constexpr std::size_t kFieldsMax = 256;  // of one entry
constexpr int kPollMs = 500;
constexpr std::int64_t kSaveEveryNs = kNsPerSecond;
constexpr std::int64_t kReopenAfterNs = 5 * kNsPerSecond;
constexpr std::uint64_t kProbeEntries = 3;

Result<void> add_match(sd_journal* journal, const std::string& match) {
  if (const int error = sd_journal_add_match(journal, match.data(), match.size()); error < 0) return fail_errno(-error, fmt::format("journal: match '{}'", match));
  return {};
}

// What a unit says, or what systemd (PID 1) and the core dump handler say of it.
Result<void> match_units(sd_journal* journal, const std::vector<std::string>& units) {
  for (const std::string& unit : units) {
    const std::string name = unit.find('.') == std::string::npos ? unit + ".service" : unit;
    TRY(add_match(journal, "_SYSTEMD_UNIT=" + name));
    sd_journal_add_disjunction(journal);
    TRY(add_match(journal, "UNIT=" + name));
    TRY(add_match(journal, "_PID=1"));
    sd_journal_add_disjunction(journal);
    TRY(add_match(journal, "COREDUMP_UNIT=" + name));
    TRY(add_match(journal, "_UID=0"));
    sd_journal_add_disjunction(journal);
  }
  return {};
}

Result<Journal> open_journal(const JournalOptions& options) {
  sd_journal* journal = nullptr;
  int error = 0;
  const std::string what = options.path.empty() ? "this host's journal" : fmt::format("journal '{}'", options.path);
  if (options.path.empty()) {
    error = sd_journal_open(&journal, SD_JOURNAL_LOCAL_ONLY);
  } else if (std::error_code ignored; std::filesystem::is_directory(options.path, ignored)) {
    error = sd_journal_open_directory(&journal, options.path.c_str(), 0);
  } else {
    const char* const files[] = {options.path.c_str(), nullptr};
    error = sd_journal_open_files(&journal, const_cast<const char**>(files), 0);
  }
  if (error < 0) return fail_errno(-error, "open " + what);
  Journal opened(journal);
  (void)sd_journal_set_data_threshold(journal, JournalFollower::kFieldBytesMax);
  TRY(match_units(journal, options.units));
  return opened;
}

Result<void> check(const JournalOptions& options) {
  if (!options.path.empty() && options.path[0] != '/') return fail(Code::Invalid, fmt::format("path '{}': an absolute path", options.path));
  if (options.units.size() > JournalFollower::kUnitsMax) return fail(Code::Invalid, fmt::format("{} units; at most {}", options.units.size(), JournalFollower::kUnitsMax));
  return {};
}

// The entry at which the journal stands. Errors: Corrupt.
Result<void> read_entry(sd_journal* journal, bool mark, const Context& context, Decoded& out, std::uint64_t& bytes) {
  std::string texts;  // libsystemd's memory is good only until its next call
  std::vector<std::pair<std::size_t, std::size_t>> places;
  const void* data = nullptr;
  std::size_t size = 0;
  sd_journal_restart_data(journal);
  int got = 0;
  while (places.size() < kFieldsMax && (got = sd_journal_enumerate_available_data(journal, &data, &size)) > 0) {
    places.emplace_back(texts.size(), std::min(size, JournalFollower::kFieldBytesMax));
    texts.append(static_cast<const char*>(data), places.back().second);
  }
  if (got < 0) return fail(Code::Corrupt, fmt::format("journal: an entry cannot be read: {}", std::generic_category().message(-got)));
  bytes += texts.size();
  std::uint64_t wall_us = 0;
  if (const int error = sd_journal_get_realtime_usec(journal, &wall_us); error < 0) return fail(Code::Corrupt, fmt::format("journal: an entry has no time: {}", std::generic_category().message(-error)));
  JournalEntry entry;
  entry.wall_ns = static_cast<std::int64_t>(std::min<std::uint64_t>(wall_us, INT64_MAX / 1'000)) * 1'000;
  for (const auto& [at, length] : places) {
    const std::string_view field = std::string_view(texts).substr(at, length);
    const std::size_t equals = field.find('=');
    if (equals != std::string_view::npos) entry.fields.emplace_back(field.substr(0, equals), field.substr(equals + 1));
  }
  const std::size_t before = out.events.size();
  decode_journal_entry(entry, context, out);
  const bool written_here = entry.find("_TRANSPORT") == "stdout" && entry.find("_HOSTNAME") == context.resolver->host_name();
  if (mark && written_here && out.events.size() > before) stream::put_line_mark(out.events.back(), {.text = stream::LineMark::hash(entry.find("MESSAGE"))});
  return {};
}

std::string cursor_of(sd_journal* journal) {
  char* text = nullptr;
  if (sd_journal_get_cursor(journal, &text) < 0) return {};
  const Handle<char, ::free> owner(text);
  return text;
}

}  // namespace

struct JournalFollower::Impl {
  JournalOptions options;
  SourcePtr source;
  Intake& intake;
  const Clock& clock;
  const Resolver& resolver;
  Fd wake;
  Journal journal;
  std::string cursor;          // of the last entry that was handed on
  std::string ready_to_write;  // a second old
  std::string written;
  bool seen_start = false;     // begun once: without a cursor, the end is not looked for again
  std::jthread thread;         // last: ends before what it uses

  Impl(JournalOptions chosen, SourcePtr counted, Intake& to, const Clock& time, const Resolver& who)
      : options(std::move(chosen)), source(std::move(counted)), intake(to), clock(time), resolver(who), wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (options.followed != nullptr) options.followed->begin_journal();
  }
  ~Impl() {
    if (options.followed != nullptr) options.followed->end_journal();
  }

  Context context() const { return {clock.now_ns(), clock.wall_offset_ns(), &resolver, nullptr}; }
  Result<void> begin();
  Result<bool> read_batch(const std::stop_token& stop);
  void save(const std::string& text);
  void wait(int milliseconds);
  void loop(const std::stop_token& stop);
};

// Opens the journal and goes to the entry after which reading begins.
Result<void> JournalFollower::Impl::begin() {
  ASSIGN(journal, open_journal(options));
  sd_journal* j = journal.get();
  (void)sd_journal_get_fd(j);  // watches from here on; without inotify only the poll finds what is new
  if (!cursor.empty() && sd_journal_seek_cursor(j, cursor.c_str()) >= 0) {
    // The next entry is that of the cursor, or the first after it if it is gone.
    if (sd_journal_next(j) > 0 && sd_journal_test_cursor(j, cursor.c_str()) <= 0 && sd_journal_previous(j) <= 0) (void)sd_journal_seek_head(j);
  } else if (options.from_beginning || seen_start) {
    (void)sd_journal_seek_head(j);
  } else {
    (void)sd_journal_seek_tail(j);
    // Only where an entry stands is "after it" known; an empty journal is read from its first.
    if (sd_journal_previous(j) <= 0) (void)sd_journal_seek_head(j);
  }
  seen_start = true;
  source->set_state("running", options.path.empty() ? "this host's journal" : options.path);
  return {};
}

// What is there, at most a batch; true if there may be more. Errors: Corrupt, Io: the journal is to be opened again; Busy: the daemon ends.
Result<bool> JournalFollower::Impl::read_batch(const std::stop_token& stop) {
  Decoded out;
  std::uint64_t bytes = 0;
  std::string last;
  std::size_t entries = 0;
  Result<void> good = {};
  int next = 1;
  while (entries < kBatchEvents && bytes < kBatchBytes && (next = sd_journal_next(journal.get())) > 0) {
    ++entries;
    if (auto done = read_entry(journal.get(), options.followed != nullptr, context(), out, bytes); !done) {
      ++source->malformed;  // this one; the journal goes on behind it
      source->set_error(done.error().message);
    }
    last = cursor_of(journal.get());
  }
  if (next < 0) good = fail(Code::Io, fmt::format("journal: {}", std::generic_category().message(-next)));
  if (entries > 0) ++source->requests;
  source->bytes += bytes;
  source->note(out);
  if (!intake.deliver(source, std::move(out.events), stop)) return fail(Code::Busy, "the daemon ends");  // the cursor stays behind: it is read again
  if (!last.empty()) cursor = std::move(last);
  if (!good) return std::unexpected(good.error());
  return next > 0;
}

void JournalFollower::Impl::save(const std::string& text) {
  if (options.position_file.empty() || text.empty() || text == written) return;
  if (auto done = replace_file(options.position_file, text); !done) {
    log::warn("{}; after a restart some lines of the journal may come twice", done.error().message);
    return;
  }
  written = text;
}

void JournalFollower::Impl::wait(int milliseconds) {
  const int fd = journal ? sd_journal_get_fd(journal.get()) : -1;
  pollfd waits[] = {{wake.get(), POLLIN, 0}, {fd, POLLIN, 0}};
  (void)::poll(waits, std::size(waits), milliseconds);
  if (journal) (void)sd_journal_process(journal.get());
}

void JournalFollower::Impl::loop(const std::stop_token& stop) {
  const std::stop_callback awake(stop, [this] {
    const std::uint64_t one = 1;
    (void)!::write(wake.get(), &one, sizeof(one));
  });
  if (!options.position_file.empty()) written = cursor = ready_to_write = read_position(options.position_file);
  std::int64_t saved_ns = clock.now_ns(), opened_ns = 0;
  while (!stop.stop_requested()) {
    const std::int64_t now_ns = clock.now_ns();
    if (now_ns - saved_ns >= kSaveEveryNs) {
      save(ready_to_write);
      ready_to_write = cursor;
      saved_ns = now_ns;
    }
    if (!journal) {
      if (opened_ns == 0 || now_ns - opened_ns >= kReopenAfterNs) {
        opened_ns = now_ns;
        if (auto begun = begin(); !begun) {
          source->set_state("waiting", begun.error().message);
          journal.reset();
        }
      }
      if (!journal) {
        wait(kPollMs);
        continue;
      }
    }
    const auto more = read_batch(stop);
    if (!more) {
      if (more.error().code == Code::Busy) return save(ready_to_write);
      source->set_error(more.error().message);
      source->set_state("waiting", more.error().message);
      journal.reset();
      continue;
    }
    if (!*more) wait(kPollMs);
  }
  save(cursor);  // an orderly end: what was handed on is still stored
}

JournalFollower::JournalFollower(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
JournalFollower::~JournalFollower() = default;

Result<std::unique_ptr<JournalFollower>> JournalFollower::start(JournalOptions options, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver) {
  TRY(check(options));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(source), intake, clock, resolver);
  Impl* self = impl.get();
  impl->thread = start_source_thread("journal", "journal", {impl->source}, [self](const std::stop_token& stop) { self->loop(stop); });
  return std::unique_ptr<JournalFollower>(new JournalFollower(std::move(impl)));
}

Result<JournalFollower::Probe> JournalFollower::probe(const JournalOptions& options, const Context& context) {
  TRY(check(options));
  ASSIGN(const Journal journal, open_journal(options));
  Probe probe;
  Decoded out;
  std::uint64_t bytes = 0, entries = 0;
  (void)sd_journal_seek_tail(journal.get());
  while (entries < kProbeEntries && sd_journal_previous(journal.get()) > 0) {
    ++entries;
    if (auto done = read_entry(journal.get(), false, context, out, bytes); !done) probe.problems.push_back(done.error().message);
  }
  if (entries == 0) {
    return fail(Code::NotFound, fmt::format("{} has no entry that the daemon may read{}; its user has to be in the group systemd-journal",
                                            options.path.empty() ? "this host's journal" : fmt::format("'{}'", options.path), options.units.empty() ? "" : " of these units"));
  }
  std::uint64_t first_us = 0, last_us = 0;
  (void)sd_journal_get_cutoff_realtime_usec(journal.get(), &first_us, &last_us);
  probe.text = fmt::format("entries from {} to {}", format_wall(static_cast<std::int64_t>(first_us) * 1'000), format_wall(static_cast<std::int64_t>(last_us) * 1'000));
  if (out.rejected > 0) probe.problems.push_back(out.rejected_why);
  probe.examples = std::move(out.events);
  return probe;
}

}  // namespace culprit::ingest
