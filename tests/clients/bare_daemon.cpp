// The daemon without its sensor: everything from receivers to answers, for tests with real clients that need neither
// root nor a kernel. bare_daemon STATE_DIR SOCKET [KEY=VALUE...]; ends with SIGTERM. kernel=PIPE: what it reads there takes
// the place of what tracking would make of the kernel's records.
#include <signal.h>
#include <sys/socket.h>
#include <sys/signalfd.h>

#include <cstdio>
#include <fstream>
#include <thread>

#include <fmt/format.h>

#include "daemon/api/server.h"
#include "daemon/app/live_backend.h"
#include "daemon/base/log.h"
#include "daemon/ingest/record.h"
#include "daemon/stream/embedded_store.h"

#ifdef __SANITIZE_THREAD__
// glibc guards what tzset keeps by a lock of its own, which the sanitizer does not see.
extern "C" const char* __tsan_default_suppressions() { return "race:tzset_internal\n"; }  // NOLINT(bugprone-reserved-identifier): its name
#endif

namespace culprit {
namespace {

// The sensor's part in a play: spans as tracking makes them, a JSON object a line, until the pipe's writer ends.
void play_kernel(const std::string& pipe, app::Pipeline& pipeline) {
  std::ifstream in(pipe);
  for (std::string line; std::getline(in, line);) {
    const api::Json said = api::Json::parse(line, nullptr, false);
    if (!said.is_object()) continue;
    stream::Event event;
    event.kind = stream::Kind::Span;
    event.time_ns = said.value("end_ns", std::int64_t{0});
    event.value = said.value("duration_s", 0.0);
    event.entity = said.value("entity", "");
    event.name = said.value("name", "");
    (void)ingest::parse_trace_id(said.value("trace_id", ""), event.trace_id);
    (void)ingest::parse_span_id(said.value("span_id", ""), event.span_id);
    for (const auto& [key, value] : said.at("attributes").items()) event.attributes.emplace_back(key, value.get<std::string>());
    pipeline.add({std::move(event)});
  }
}

Result<void> run(const Config& config, const std::string& kernel) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  const SystemClock clock;
  const app::Host host;
  app::Sources sources({config, clock, host.name()});
  sources.open();
  const bool has_port = config.origins.contains("page_port");  // many of these run at once: none takes the usual one
  ASSIGN(auto listeners, api::Listeners::open({.socket = config.socket, .port = has_port ? std::optional(config.page_port) : std::nullopt}));
  stream::StoreOptions store_options;
  store_options.folder = config.state_dir / "events";
  ASSIGN(auto store, stream::EmbeddedStore::open(store_options, clock));
  ASSIGN(auto knowledge, graph::Knowledge::load({}));
  ASSIGN(embed::Model model, recall::built_in_model());
  const auto modes = std::make_shared<const recall::Modes>(knowledge, std::move(model));
  ASSIGN(auto rules, rules::load_rules(std::filesystem::path(), {.knowledge = knowledge.get()}));
  rules::RuleBook rule_book(std::filesystem::path(), knowledge, std::move(rules));
  concurrent::Registry registry;
  app::Accounting accounting;
  app::DetectChannel detect({.name = "detect", .capacity = 64, .when_full = concurrent::WhenFull::Wait, .registry = &registry});
  const auto graph_file = config.state_dir / "graph.db";
  ASSIGN(auto diagnosis, app::Diagnosis::start({clock, *store, accounting, detect, graph_file, host.boot_id(), modes, rule_book}));
  int silent[2];  // a supervisor that never says a word
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, silent) != 0) return fail_errno(errno, "socketpair");
  const Fd supervisor(silent[1]);
  ASSIGN(auto pipeline, app::Pipeline::start({config, clock, *store, registry, accounting, detect, Fd(silent[0]), config.state_dir, [&diagnosis] { return diagnosis->something_wrong(); }}));
  sources.start(*pipeline);
  app::LiveBackend backend({config, clock, *store, registry, accounting, *pipeline, *diagnosis, sources, graph_file, clock.now_ns(), "test", "test", rule_book});
  ASSIGN(auto server, api::Server::start(std::move(listeners), backend, {}));
  std::jthread player;  // ends when its writer does
  if (!kernel.empty()) player = std::jthread([&] { play_kernel(kernel, *pipeline); });
  std::puts("ready");
  std::fflush(stdout);
  int signal = 0;
  ::sigwait(&signals, &signal);
  if (player.joinable()) player.join();
  server.reset();
  sources.stop();
  pipeline.reset();
  (void)detect.close();
  diagnosis.reset();
  return store->flush();
}

}  // namespace
}  // namespace culprit

int main(int argc, char** argv) {
  using namespace culprit;
  log::set_program("bare_daemon");
  Config config;
  std::vector<std::string> arguments(argv + 1, argv + argc);
  if (arguments.size() < 2) {
    log::error("usage: bare_daemon STATE_DIR SOCKET [KEY=VALUE...] [CONFIG.yaml]");
    return 2;
  }
  for (std::size_t i = 2; i < arguments.size(); ++i) {
    if (!arguments[i].ends_with(".yaml")) continue;
    auto loaded = Config::load(arguments[i]);
    if (!loaded) {
      log::error("{}", loaded.error().message);
      return 6;
    }
    config = std::move(*loaded);
  }
  config.state_dir = arguments[0];
  config.socket = arguments[1];
  std::string kernel;
  for (std::size_t i = 2; i < arguments.size(); ++i) {
    if (arguments[i].starts_with("kernel=")) {
      kernel = arguments[i].substr(7);
      continue;
    }
    const std::size_t equals = arguments[i].find('=');
    if (equals == std::string::npos) continue;
    if (auto set = config.set(arguments[i].substr(0, equals), arguments[i].substr(equals + 1), "command line"); !set) {
      log::error("{}", set.error().message);
      return 6;
    }
  }
  std::filesystem::create_directories(config.state_dir);
  const auto done = run(config, kernel);
  if (!done) log::error("{}", done.error().message);
  return done ? 0 : 7;
}
