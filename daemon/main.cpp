// culpritd: what exists, in which order it is made, and which process and thread owns it.
//
//   start as root ─► supervise() ─┬─ supervisor: only starts and restarts the other two
//                                 ├─ culprit-sensor: the only part with kernel rights
//                                 └─ worker: opens files and ports, gives up every right, runs everything below
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <poll.h>

#include <cstring>

#include "daemon/api/server.h"
#include "daemon/app/config_watch.h"
#include "daemon/app/library.h"
#include "daemon/app/live_backend.h"
#include "daemon/app/notify.h"
#include "daemon/app/rule_watch.h"
#include "daemon/base/at_end.h"
#include "daemon/base/log.h"
#include "daemon/explain/learn/model.h"
#include "daemon/sensor/privileges.h"
#include "daemon/sensor/supervise.h"
#include "daemon/stream/embedded_store.h"
#include "ui/web/assets.h"

namespace culprit {
namespace {

// Exit codes, as docs/api.md gives them for `culprit`.
enum Exit { kExitOk = 0, kExitUsage = 2, kExitDenied = 5, kExitConfig = 6, kExitInternal = 7 };

constexpr int kNice = -10;

int exit_code(const Error& error) {
  switch (error.code) {
    case Code::Denied: return kExitDenied;
    case Code::Invalid: return kExitConfig;
    default: return kExitInternal;
  }
}

struct Start {
  Config config;
  std::string sensor_path;
  bool check_only = false;
  explain::Model weights = explain::built_in_model();
};

// Flags over file over defaults. Returns an exit code when there is nothing to start.
std::optional<int> read_command_line(int argc, char** argv, Start& start) {
  CLI::App app{"culpritd: watches this host from inside the kernel and finds root causes. Ask it with `culprit`."};
  app.footer("The configuration file is optional; `culprit config` shows the values in force. Runs in the foreground;\n"
             "logs go to standard error. Exit codes: 0 stopped, 2 usage, 5 no rights, 6 configuration, 7 internal error.");
  std::string config_file;
  std::vector<std::pair<std::string, std::string>> settings;  // key, value, in order
  app.add_option("--config", config_file, "configuration file (YAML)");
  const auto setting = [&](const char* flag, const char* key, const char* help) {
    app.add_option_function<std::string>(flag, [&settings, key](const std::string& value) { settings.emplace_back(key, value); }, help)
        ->take_last();
  };
  setting("--state", "state_dir", "folder for events, incidents and knowledge");
  setting("--socket", "socket", "the API's Unix socket");
  setting("--port", "page_port", "port of the page on loopback, 0 for none");
  setting("--user", "user", "whom the daemon becomes after start");
  setting("--log-level", "log_level", "debug, info, warn or error");
  app.add_option_function<std::vector<std::string>>(
         "--watch",
         [&settings](const std::vector<std::string>& targets) {
           for (const std::string& target : targets) settings.emplace_back("watch", target);
         },
         "read requests and log lines of cgroup:GLOB, unit:NAME, exe:GLOB, service:NAME or pid:N (repeatable)")
      ->allow_extra_args(false);
  app.add_flag_callback("--all", [&settings] { settings.emplace_back("watch", "all"); }, "watch everything on this host");
  std::vector<std::string> sets;
  app.add_option("--set", sets, "KEY=VALUE: any key of the configuration (repeatable)")->allow_extra_args(false);
  app.add_option("--sensor", start.sensor_path, "the culprit-sensor program (default: beside this one)");
  app.add_flag("--check", start.check_only, "check the configuration and end");
  app.set_version_flag("--version", CULPRIT_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kExitOk : kExitUsage;
  }
  if (!config_file.empty()) {
    auto loaded = Config::load(config_file);
    if (!loaded) {
      log::error("{}", loaded.error().message);
      return kExitConfig;
    }
    start.config = std::move(*loaded);
  }
  for (const std::string& text : sets) {
    const std::size_t equals = text.find('=');
    settings.emplace_back(text.substr(0, equals), equals == std::string::npos ? "" : text.substr(equals + 1));
  }
  for (const auto& [key, value] : settings) {
    if (auto set = start.config.set(key, value, "command line"); !set) {
      log::error("{}", set.error().message);
      return kExitConfig;
    }
  }
  if (auto checked = start.config.check(); !checked) {
    log::error("{}", checked.error().message);
    return kExitConfig;
  }
  return std::nullopt;
}

log::Level level_of(const std::string& name) {
  if (name == "debug") return log::Level::Debug;
  if (name == "warn") return log::Level::Warn;
  return name == "error" ? log::Level::Error : log::Level::Info;
}

struct User {
  std::string name;
  std::string group;
  sensor::Account account;
};

Result<User> find_user(const std::string& wanted) {
  for (const std::string& name : {wanted, std::string("nobody")}) {
    if (auto account = sensor::find_account(name)) {
      const group* group = ::getgrgid(account->gid);
      return User{name, group == nullptr ? std::string() : std::string(group->gr_name), *account};
    }
  }
  return fail(Code::NotFound, fmt::format("there is neither a user '{}' nor 'nobody'", wanted));
}

// Makes a folder that the daemon's user owns; root's other folders are left as they are.
Result<void> make_folder(const std::filesystem::path& folder, const sensor::Account& account, mode_t mode) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(folder, error);
  if (error) return fail_errno(error.value(), fmt::format("make folder '{}'", folder.string()));
  struct stat info {};
  if (::stat(folder.c_str(), &info) != 0) return fail_errno(errno, fmt::format("folder '{}'", folder.string()));
  if (info.st_uid == account.uid) return {};
  if (!made && !std::filesystem::is_empty(folder, error) && !std::filesystem::exists(folder / "graph.db")) {
    return fail(Code::Denied, fmt::format("folder '{}' belongs to somebody else and is not empty; choose another with --state", folder.string()));
  }
  // Everything in it: a run under another user may have come before this one.
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, error)) {
    if (::lchown(entry.path().c_str(), account.uid, account.gid) != 0) return fail_errno(errno, fmt::format("give '{}' to the daemon", entry.path().string()));
  }
  if (::chown(folder.c_str(), account.uid, account.gid) != 0 || ::chmod(folder.c_str(), mode) != 0) {
    return fail_errno(errno, fmt::format("give folder '{}' to the daemon", folder.string()));
  }
  return {};
}

// The socket's folder may be shared (/run, /tmp): it is only taken when this program made it.
Result<void> make_socket_folder(const std::filesystem::path& folder, const sensor::Account& account) {
  if (std::filesystem::exists(folder)) return {};
  return make_folder(folder, account, 0755);
}

// Watched for policies when the configuration names nothing; what is not there costs nothing.
constexpr const char* kUsualConfiguration[] = {"/etc/nginx", "/etc/redis", "/etc/postgresql", "/etc/apisix", "/etc/envoy", "/etc/prometheus", "/etc/systemd/system"};

// Built-in policies and those beside the rules folder.
Result<std::shared_ptr<const rules::PolicySet>> load_policies(const std::filesystem::path& folder) {
  std::error_code ignored;  // a folder that cannot be seen counts as none
  if (std::filesystem::is_directory(folder, ignored)) return rules::PolicySet::load(folder);
  return rules::PolicySet::load(rules::built_in_policies());
}

Result<int> run_worker(const Start& start, sensor::Role role) {
  const Config& config = start.config;
  const SystemClock clock;
  const std::int64_t started_ns = clock.now_ns();
  ASSIGN(const User user, find_user(config.user));
  TRY(make_folder(config.state_dir, user.account, 0750));
  TRY(make_socket_folder(config.socket.parent_path(), user.account));

  // What needs rights comes first: listening where the user may not, then no rights at all.
  api::ListenOptions listen;
  listen.socket = config.socket;
  listen.group = user.group;
  listen.port = config.page_port == 0 ? std::nullopt : std::optional(config.page_port);
  // In the unit root may not write where the daemon's user may: then the socket is made by that user from the start.
  const bool as_user = ::access(config.socket.parent_path().c_str(), W_OK) != 0 && errno == EACCES;
  if (as_user) TRY(sensor::act_as(user.account));
  ASSIGN(auto listeners, api::Listeners::open(listen));
  if (as_user) TRY(sensor::act_as({}));
  const app::Host host;
  app::Sources sources({config, clock, host.name()});
  sources.open();
  TRY(sensor::drop_all(user.account));

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGHUP);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  const Fd signal_fd(::signalfd(-1, &signals, SFD_CLOEXEC));
  ::signal(SIGPIPE, SIG_IGN);

  stream::StoreOptions store_options;
  store_options.folder = config.state_dir / "events";
  store_options.memory_bytes = config.memory_bytes_max;
  store_options.disk_bytes = config.retention_bytes;
  store_options.minutes_ns = static_cast<std::int64_t>(config.summaries_days) * 86'400 * kNsPerSecond;
  ASSIGN(auto store, stream::EmbeddedStore::open(store_options, clock));

  graph::KnowledgeOptions knowledge_options;
  std::error_code ignored;  // a folder that cannot be seen counts as none
  if (std::filesystem::is_directory(config.packs_dir, ignored)) knowledge_options.pack_directories = {config.packs_dir};
  auto knowledge = graph::Knowledge::load(knowledge_options);
  if (!knowledge && !knowledge_options.pack_directories.empty()) {
    log::warn("{}; going on with the built-in packs", knowledge.error().message);
    knowledge = graph::Knowledge::load({});
  }
  if (!knowledge) return std::unexpected(knowledge.error());
  std::string model_said;
  ASSIGN(embed::Model model, recall::load_model(config.state_dir, model_said));
  if (!model_said.empty()) log::warn("{}; going on with the built-in model", model_said);
  const auto modes = std::make_shared<const recall::Modes>(*knowledge, std::move(model));
  auto rules = rules::load_rules(config.rules_dir, {.knowledge = knowledge->get(), .run_tests = true});
  if (!rules) {
    log::warn("{}; going on with the built-in rules", rules.error().message);
    rules = rules::load_rules(std::filesystem::path(), {.knowledge = knowledge->get()});
  }
  if (!rules) return std::unexpected(rules.error());
  rules::RuleBook rule_book(config.rules_dir, *knowledge, std::move(*rules));

  concurrent::Registry registry;
  app::Accounting accounting;
  app::DetectChannel detect({.name = "detect", .capacity = 64, .when_full = concurrent::WhenFull::Wait, .registry = &registry});
  const std::filesystem::path graph_file = config.state_dir / "graph.db";
  ASSIGN(auto diagnosis, app::Diagnosis::start({clock, *store, accounting, detect, graph_file, host.boot_id(), modes, rule_book, host.name(), start.weights}));
  const app::Library library({clock, config, graph_file, modes, diagnosis->begun_anew()});
  // When the start fails half-way, everything ends in the order of an ordinary end: sources, pipeline, diagnosis.
  const AtEnd end_diagnosis([&detect] { (void)detect.close(); });
  ASSIGN(auto pipeline, app::Pipeline::start({config, clock, *store, registry, accounting, detect, std::move(role.control), config.state_dir, [&diagnosis] { return diagnosis->something_wrong(); }}));
  const AtEnd end_sources([&sources] { sources.stop(); });
  sources.start(*pipeline);
  app::LiveBackend backend({config, clock, *store, registry, accounting, *pipeline, *diagnosis, sources, graph_file, started_ns, CULPRIT_VERSION, user.name, rule_book});
  auto policies = load_policies((config.rules_dir / "..").lexically_normal() / "policies");
  std::unique_ptr<app::ConfigWatch> config_watch;
  const std::vector<std::string> usual(std::begin(kUsualConfiguration), std::end(kUsualConfiguration));
  if (policies) config_watch = app::ConfigWatch::start(config.policy_files.empty() ? usual : config.policy_files, *policies, clock, [&pipeline](std::vector<stream::Event> events) { pipeline->add(std::move(events)); });
  else log::warn("policies: {}; configuration files are not watched", policies.error().message);
  ASSIGN(auto rule_watch, app::RuleWatch::start(rule_book, clock));
  ASSIGN(auto server, api::Server::start(std::move(listeners), backend, {.page = web::assets()}));
  log::info("ready socket='{}' page={} state='{}' user='{}'", config.socket.string(),
            config.page_port == 0 ? "none" : fmt::format("http://127.0.0.1:{}/", config.page_port), config.state_dir.string(), user.name);
  app::notify_ready();

  int code = kExitOk;
  while (true) {
    pollfd wait{.fd = signal_fd.get(), .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, 500) > 0) {
      signalfd_siginfo info{};
      if (::read(signal_fd.get(), &info, sizeof(info)) != sizeof(info)) continue;
      if (info.ssi_signo != SIGHUP) break;
      rule_watch->ask();
    }
    if (const std::string failure = pipeline->failure(); !failure.empty()) {
      log::error("{}", failure);
      code = kExitInternal;
      break;
    }
  }
  log::info("stopping");
  app::notify_stopping();
  server.reset();    // no more questions
  sources.stop();    // nothing more from other tools
  rule_watch.reset();
  config_watch.reset();
  pipeline.reset();  // from the rings to the store
  (void)detect.close();
  diagnosis.reset();
  if (auto flushed = store->flush(); !flushed) log::warn("write events: {}", flushed.error().message);
  return code;
}

int run(int argc, char** argv) {
  log::set_program("culpritd");
  Start start;
  if (const auto code = read_command_line(argc, argv, start)) return *code;
  log::set_level(level_of(start.config.log_level));
  if (!start.config.weights_file.empty()) {
    auto weights = explain::load_model(start.config.weights_file);
    if (!weights) {
      log::error("weights_file: {}", weights.error().message);
      return kExitConfig;
    }
    start.weights = std::move(*weights);
  }
  if (start.check_only) return kExitOk;
  if (::geteuid() != 0) {
    log::error("culpritd must start as root to load kernel programs; it gives up every right afterwards. Run: sudo {}", argv[0]);
    return kExitDenied;
  }
  if (::access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
    log::error("this kernel has no BTF (/sys/kernel/btf/vmlinux): no program can be loaded. Use a kernel built with CONFIG_DEBUG_INFO_BTF");
    return kExitInternal;
  }
  sensor::SuperviseOptions options;
  options.sensor_path = start.sensor_path.empty() ? sensor::default_sensor_path() : start.sensor_path;
  // Later it is started again and again; at the start its absence is a mistake to be told.
  if (::access(options.sensor_path.c_str(), X_OK) != 0) {
    log::error("sensor '{}': {}; name the program with --sensor", options.sensor_path, std::strerror(errno));
    return kExitConfig;
  }
  options.settings.payload_records_per_cpu = start.config.payload_per_second;
  options.settings.slow_ms = start.config.slow_ms;
  options.settings.calls_percent = start.config.calls_percent;
  options.settings.control_ring_bytes = start.config.control_ring_bytes;
  options.settings.data_ring_bytes = start.config.data_ring_bytes;
  const bool all = std::ranges::find(start.config.watch, "all") != start.config.watch.end();
  options.settings.watch_all_payload = options.settings.watch_all_logs = all;
  // The answer is needed most when something else has taken every CPU; what we use ourselves is bounded. Without the
  // right (a unit gives it with Nice=) we go on as we are.
  (void)::setpriority(PRIO_PROCESS, 0, kNice);
  auto role = sensor::supervise(options);
  if (!role) {
    log::error("{}", role.error().message);
    return exit_code(role.error());
  }
  if (!role->worker) return role->exit_status;
  auto code = run_worker(start, std::move(*role));
  if (!code) {
    log::error("{}", code.error().message);
    return exit_code(code.error());
  }
  return *code;
}

}  // namespace
}  // namespace culprit

int main(int argc, char** argv) {
  try {
    return culprit::run(argc, argv);
  } catch (const std::exception& e) {
    culprit::log::error("{}", e.what());
    return culprit::kExitInternal;
  }
}
