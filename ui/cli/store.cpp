// culprit store: the event store's files: info | verify | repair | export | import | prune | backup.
#include <fmt/format.h>

#include <fstream>
#include <iostream>

#include "daemon/base/text.h"
#include "daemon/stream/embedded_store.h"
#include "daemon/stream/maintenance.h"
#include "ui/cli/command.h"
#include "ui/cli/offline.h"
#include "ui/cli/render.h"
#include "ui/cli/when.h"

namespace culprit::cli {
namespace {

std::string counted(std::uint64_t number, std::string_view what) { return fmt::format("{} {}{}", group_digits(number), what, number == 1 ? "" : "s"); }

struct Options {
  std::string folder, filter, since, until, file, to, keep;
  bool again = false;
};

template <typename T>
Result<T> if_free(Result<T> done) {
  if (!done && done.error().code == Code::Busy) return std::unexpected(done.error().context("the daemon has the store; stop it first"));
  return done;
}

Result<std::unique_ptr<stream::EmbeddedStore>> open_store(stream::StoreOptions store, const Clock& clock) {
  store.disk_bytes = 0;
  store.background = false;  // a command ends when its work is done
  return if_free(stream::EmbeddedStore::open(std::move(store), clock));
}

// Reports of files: one row each, and a line for each damage. `done` is said of files that are damaged in part.
Result<Exit> show_reports(const Session& session, const std::vector<stream::FileReport>& reports, std::string_view done) {
  const bool any_damaged = std::ranges::any_of(reports, [](const auto& report) { return !report.damaged.empty(); });
  const bool any_refused = std::ranges::any_of(reports, [](const auto& report) { return !report.refused.empty(); });
  Json files = Json::array();
  bool sound = true;
  for (const stream::FileReport& report : reports) {
    sound = sound && report.sound();
    files.push_back({{"file", report.file.string()}, {"blocks", report.blocks}, {"events", report.rows}, {"groups", report.groups},
                     {"pending", report.pending}, {"damaged", report.damaged}, {"events_lost", report.rows_lost},
                     {"refused", report.refused.empty() ? Json(nullptr) : Json(report.refused)}});
  }
  TRY(session.show_document({{"api", 1}, {"sound", sound}, {"files", files}}, [&](const Json& document, const Style& style) {
    Table table({{"file"}, {"blocks", Table::Align::Right}, {"events", Table::Align::Right}, {"not sealed", Table::Align::Right}, {"state"}});
    for (const Json& file : list(document, "files")) {
      std::string state = text(file, "refused");
      for (const std::string& each : texts(file, "damaged")) state += (state.empty() ? "" : "; ") + each;
      table.add({std::filesystem::path(text(file, "file")).filename().string(), whole(file, "blocks"), whole(file, "events"), whole(file, "pending"),
                 state.empty() ? "sound" : state});
    }
    return (table.empty() ? "no event files\n" : table.text(style, 0)) + (any_damaged ? std::string(done) : "") +
           (any_refused ? "files that cannot be opened are left as they are: move away those that culprit did not write\n" : "");
  }));
  return sound ? kAnswered : kSomethingWrong;
}

Result<Exit> export_to(const Session& session, const Options& options) {
  ASSIGN(const auto store, open_store({.folder = options.folder, .read_only = true}, session.clock));
  stream::Query query;
  ASSIGN(query.filter, stream::parse_filter(options.filter));
  if (query.filter.needs_topology()) return fail(Code::Invalid, "'near' needs the daemon, who knows the topology: name the entities");
  const std::int64_t offset = session.clock.wall_offset_ns();
  TRY(check_order(options.since, options.until, session.now_wall_ns()));
  if (!options.since.empty()) {
    ASSIGN(const std::int64_t since, parse_when(options.since, session.now_wall_ns()));
    query.from_ns = since - offset;
  }
  if (!options.until.empty()) {
    ASSIGN(const std::int64_t until, parse_when(options.until, session.now_wall_ns()));
    query.to_ns = until - offset;
  }
  std::ofstream file;
  if (options.file != "-") {
    file.open(options.file, std::ios::binary | std::ios::trunc);
    if (!file) return fail_errno(errno, fmt::format("write '{}'", options.file));
  }
  auto count = stream::export_events(*store, query, session.clock, options.file == "-" ? session.out : file);
  if (!count) return std::unexpected(count.error().context(fmt::format("'{}'", options.file)));
  session.err << fmt::format("{} written to '{}'\n", counted(*count, "event"), options.file);
  return kAnswered;
}

Result<Exit> import_from(const Session& session, const Options& options) {
  std::ifstream file;
  if (options.file != "-") {
    file.open(options.file, std::ios::binary);
    if (!file) return fail_errno(errno, fmt::format("open '{}'", options.file));
  }
  std::istream& in = options.file == "-" ? std::cin : file;
  std::error_code error;
  if (options.file != "-" && std::filesystem::is_directory(options.file, error)) return fail(Code::Invalid, fmt::format("'{}' is a folder, not an exported file", options.file));
  const auto of_file = [&](const Error& why) { return std::unexpected(why.context(fmt::format("'{}'", options.file))); };
  // Before there is a store: what is refused leaves nothing behind. What cannot be read twice is taken as far as it is right.
  std::optional<stream::CheckedExport> checked;
  if (options.file != "-" && std::filesystem::is_regular_file(options.file, error)) {
    auto all = stream::check_export(file);
    if (!all) return of_file(all.error());
    checked = std::move(*all);
    file.clear();
    file.seekg(0);
  }
  const auto offset_ns = stream::read_export_header(in);
  if (!offset_ns) return of_file(offset_ns.error());
  std::filesystem::create_directories(options.folder, error);  // a state folder that is new is what an import is for
  if (error) return fail_errno(error.value(), fmt::format("create folder '{}'", options.folder));
  ASSIGN(const auto store, open_store({.folder = options.folder}, session.clock));
  if (checked) {
    const auto before = stream::noted_import(options.folder, checked->mark);
    if (before && !options.again) {
      const std::string when = format_wall(before->wall_ns);
      return of_file({Code::Invalid, before->whole ? fmt::format("taken already on {} ({} from '{}'); --again takes it once more", when, counted(before->events, "event"), before->file)
                                                   : fmt::format("an import of it was cut off on {}: some of its events may be there; --again takes all of them", when)});
    }
    TRY(stream::note_import(options.folder, {.mark = checked->mark, .file = options.file, .wall_ns = session.now_wall_ns()}));
  }
  const auto count = stream::import_events(in, *offset_ns, *store, session.clock);
  if (!count) return of_file(count.error());
  if (checked) TRY(stream::note_import(options.folder, {.mark = checked->mark, .file = options.file, .wall_ns = session.now_wall_ns(), .events = *count, .whole = true}));
  session.err << fmt::format("{} taken from '{}'\n", counted(*count, "event"), options.file);
  return kAnswered;
}

Result<Exit> prune(const Session& session, const Options& options) {
  ASSIGN(const std::int64_t keep, parse_window(options.keep));
  TRY(stream::need_store(options.folder));  // else a new one would be made
  ASSIGN(const auto store, open_store({.folder = options.folder}, session.clock));
  TRY(store->prune(session.clock.now_ns() - keep));
  const std::uint64_t removed = store->stats().pruned;
  session.err << fmt::format("{} removed{}\n", counted(removed, "event"), removed == 0 ? ": no whole day is that old" : "");
  return kAnswered;
}

}  // namespace

void add_store(CLI::App& app, Session& session) {
  const auto options = std::make_shared<Options>();
  app.require_subcommand(1, 1);
  app.add_option("--folder", options->folder, "The store's files; else events/ of --state DIR, else the daemon's")->type_name("DIR");
  const auto add = [&](const char* name, const char* what) {
    CLI::App* command = app.add_subcommand(name, what);
    command->fallthrough()->group("Commands");
    return command;
  };
  add("info", "What the daemon's store holds, and what it lost");
  add("verify", "* Read everything; exits with 1 if anything is damaged");
  add("repair", "* Write damaged files anew from what can be read; the old ones are set aside");
  CLI::App* save = add("export", "* Events as one file that can be imported again");
  save->add_option("FILTER", options->filter, "Which events; '' for all")->required()->check(check_filter);
  save->add_option("FILE", options->file, "Where to; - is standard output")->required();
  save->add_option("--since", options->since, "Not before")->type_name("TIME")->check(check_when);
  save->add_option("--until", options->until, "Before")->type_name("TIME")->check(check_when);
  CLI::App* load = add("import", "* Append an exported file's events");
  load->add_option("FILE", options->file, "What `export` wrote; - is standard input")->required();
  load->add_flag("--again", options->again, "Even if this file was taken before: its events are then there twice");
  CLI::App* old = add("prune", "* Remove whole days of events that are older than this");
  old->add_option("KEEP", options->keep, "How much to keep: 12h, 3d")->required()->check(check_window);
  CLI::App* copy = add("backup", "* Copy the files, each as of one moment");
  copy->add_option("DIR", options->to, "A new or empty folder")->required();
  app.callback([&session, &app, options] {
    const std::string chosen = app.get_subcommands().front()->get_name();
    const bool told = !options->folder.empty() || !session.state_dir.empty();
    if (chosen == "info" && told) throw CLI::ValidationError("info", "asks the daemon, whatever the folder; `culprit store verify` tells what a folder holds");
    if (!options->folder.empty() && !session.state_dir.empty()) throw CLI::ValidationError("--folder", "and --state both say where the files are: give one");
    session.run = [&session, options, chosen]() -> Result<Exit> {
      if (chosen == "info") return session.show(session.client().get("/api/v1/store"), render_store);
      if (options->folder.empty()) options->folder = state_folder(session) / "events";
      if (chosen == "verify") {
        ASSIGN(const auto reports, stream::verify_store(options->folder));
        return show_reports(session, reports, "queries go on without what is damaged; `culprit store repair` writes the rest anew\n");
      }
      if (chosen == "repair") {
        ASSIGN(const auto reports, if_free(stream::repair_store(options->folder)));
        TRY(show_reports(session, reports, "what could be read was written anew; the damaged files are set aside as *.corrupt-N\n"));
        return std::ranges::any_of(reports, [](const auto& report) { return !report.refused.empty(); }) ? kSomethingWrong : kAnswered;
      }
      if (chosen == "export") return export_to(session, *options);
      if (chosen == "import") return import_from(session, *options);
      if (chosen == "prune") return prune(session, *options);
      ASSIGN(const std::uint64_t files, stream::backup_store(options->folder, options->to));
      session.err << fmt::format("{} copied to '{}'\n", counted(files, "file"), options->to);
      return kAnswered;
    };
  });
}

}  // namespace culprit::cli
