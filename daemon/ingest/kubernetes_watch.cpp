#include "daemon/ingest/kubernetes_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <thread>
#include <unordered_map>

#include "daemon/base/log.h"
#include "daemon/base/text.h"
#include "daemon/ingest/curl.h"
#include "daemon/ingest/position.h"
#include "daemon/ingest/source_thread.h"

namespace culprit::ingest {
namespace {

constexpr int kPollMs = 250;
constexpr long kConnectS = 10, kListS = 60;
constexpr long kWatchS = 300;  // the server ends a watch then; a minute later we do
constexpr std::size_t kPageEvents = 500;
constexpr std::size_t kProbeEvents = 3;
constexpr std::size_t kTokenBytesMax = 64U << 10U;
constexpr std::size_t kTroubleBytesMax = 512;  // of what a refusal says
constexpr std::int64_t kBackOffNsMin = kNsPerSecond, kBackOffNsMax = 60 * kNsPerSecond;
constexpr std::int64_t kSaveEveryNs = kNsPerSecond;

constexpr long kOk = 200, kGone = 410;

Result<std::string> base_of(const KubernetesOptions& options) {
  if (!options.server.starts_with("http://") && !options.server.starts_with("https://")) return fail(Code::Invalid, fmt::format("server '{}': a URL of http or https", options.server));
  const auto is_label = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  if (!std::ranges::all_of(options.space, is_label)) return fail(Code::Invalid, fmt::format("namespace '{}': lower-case letters, digits and '-'", options.space));
  std::string base = options.server;
  while (base.ends_with('/')) base.pop_back();
  return base + (options.space.empty() ? "/api/v1/events" : fmt::format("/api/v1/namespaces/{}/events", options.space));
}

// "Authorization: Bearer ...", empty without a file. Never part of an error or a log.
Result<std::string> authorization(const std::filesystem::path& token_file) {
  if (token_file.empty()) return std::string();
  std::ifstream in(token_file, std::ios::binary);
  if (!in) return fail_errno(errno, fmt::format("read the token '{}'", token_file.string()));
  std::string token(kTokenBytesMax, '\0');
  in.read(token.data(), static_cast<std::streamsize>(token.size()));
  token.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, in.gcount())));
  while (!token.empty() && std::isspace(static_cast<unsigned char>(token.back())) != 0) token.pop_back();
  const bool plain = std::ranges::all_of(token, [](char c) { return c > ' ' && c <= '~'; });
  if (token.empty() || token.size() >= kTokenBytesMax - 1 || !plain) return fail(Code::Invalid, fmt::format("'{}' holds no token", token_file.string()));
  return "Authorization: Bearer " + token;
}

// One request: what it brings goes to `take`, which ends it by false. `trouble` keeps the start of a refusal's body.
struct Request {
  Curl curl;
  CurlHeaders headers;
  std::function<bool(std::string_view)> take;
  std::string trouble;
};

std::size_t on_bytes(char* data, std::size_t size, std::size_t count, void* to) {
  auto* request = static_cast<Request*>(to);
  const std::string_view bytes(data, size * count);
  long status = 0;
  curl_easy_getinfo(request->curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status != kOk) {
    request->trouble += bytes.substr(0, kTroubleBytesMax - std::min(kTroubleBytesMax, request->trouble.size()));
    return bytes.size();
  }
  try {
    return request->take(bytes) ? bytes.size() : 0;
  } catch (const std::exception& e) {  // nothing may pass through C
    log::error("Kubernetes events: {}; the request is given up", e.what());
    return 0;
  }
}

Result<std::unique_ptr<Request>> begin(const KubernetesOptions& options, const std::string& url, long timeout_s) {
  ASSIGN(const std::string bearer, authorization(options.token_file));
  auto request = std::make_unique<Request>();
  request->curl.reset(curl_easy_init());
  if (!request->curl) return fail(Code::Exhausted, "libcurl did not start");
  CURL* curl = request->curl.get();
  curl_slist* headers = curl_slist_append(nullptr, "Accept: application/json");
  if (!bearer.empty()) headers = curl_slist_append(headers, bearer.c_str());
  request->headers.reset(headers);
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &on_bytes);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, request.get());
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, kConnectS);
  curl_easy_setopt(curl, CURLOPT_TIMEOUT, timeout_s);
  curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  if (!options.ca_file.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, options.ca_file.c_str());
  return request;
}

// How it ended. Errors: NotFound (410 Gone), Io.
Result<void> outcome(const Request& request, CURLcode code, const std::string& url) {
  long status = 0;
  curl_easy_getinfo(request.curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status == kGone) return fail(Code::NotFound, "the server has forgotten where the watch was");
  if (status != 0 && status != kOk) return fail(Code::Io, fmt::format("'{}' answered {}: {}", url.substr(0, url.find('?')), status, sanitize_utf8(request.trouble)));
  if (code != CURLE_OK) return fail(Code::Io, fmt::format("'{}': {}", url.substr(0, url.find('?')), curl_easy_strerror(code)));
  return {};
}

std::string escaped(const Request& request, const std::string& text) {
  const Handle<char, curl_free> owner(curl_easy_escape(request.curl.get(), text.data(), static_cast<int>(text.size())));
  return owner ? owner.get() : "";
}

}  // namespace

struct KubernetesWatcher::Impl {
  KubernetesOptions options;
  std::string base;
  SourcePtr source;
  Intake& intake;
  const Clock& clock;
  const Resolver& resolver;
  CurlMulti multi;
  std::string version;           // to watch from; empty: list first
  std::int64_t newest_wall_ns = 0;  // of the events that were handed on
  std::int64_t before_wall_ns = 0;  // as a run before this one left it: of a list, what is older was told by it
  std::unordered_map<std::string, std::string> seen, seen_earlier;  // uid -> resourceVersion; two generations of kSeenMax / 2
  std::string ready_to_write, written;
  std::int64_t saved_ns = 0;
  bool listed = false;
  std::jthread thread;  // last: ends before what it uses

  Impl(KubernetesOptions chosen, std::string url, SourcePtr counted, Intake& to, const Clock& time, const Resolver& who)
      : options(std::move(chosen)), base(std::move(url)), source(std::move(counted)), intake(to), clock(time), resolver(who), multi(curl_multi_init()) {}

  bool is_new(const KubernetesIdentity& event, bool from_list);
  Result<void> hand_on(std::string_view json, bool from_list, const std::stop_token& stop);
  Result<void> run(Request& request, const std::string& url, const std::stop_token& stop);
  Result<void> list(const std::stop_token& stop);
  Result<void> watch(const std::stop_token& stop);
  void save(bool now);
  void load();
  void loop(const std::stop_token& stop);
};

bool KubernetesWatcher::Impl::is_new(const KubernetesIdentity& event, bool from_list) {
  const std::string uid(event.uid);
  for (const auto* generation : {&seen, &seen_earlier}) {
    if (const auto found = generation->find(uid); found != generation->end() && found->second == event.resource_version) return false;
  }
  if (from_list && !listed && event.wall_ns != 0 && event.wall_ns <= before_wall_ns) return false;
  if (seen.size() >= kSeenMax / 2) seen_earlier = std::exchange(seen, {});
  seen[uid] = event.resource_version;
  newest_wall_ns = std::max(newest_wall_ns, event.wall_ns);
  return true;
}

// The events of a page or line into the stream. Errors: Invalid; Busy: the daemon ends.
Result<void> KubernetesWatcher::Impl::hand_on(std::string_view json, bool from_list, const std::stop_token& stop) {
  Decoded out;
  const Context context{clock.now_ns(), clock.wall_offset_ns(), &resolver, nullptr};
  if (auto done = decode_kubernetes_events_if([&](const KubernetesIdentity& event) { return is_new(event, from_list); }, json, context, out); !done) {
    ++source->malformed;
    source->set_error(done.error().message);
    return done;
  }
  source->note(out);
  if (!intake.deliver(source, std::move(out.events), stop)) return fail(Code::Busy, "the daemon ends");
  return {};
}

Result<void> KubernetesWatcher::Impl::run(Request& request, const std::string& url, const std::stop_token& stop) {
  ++source->requests;
  curl_multi_add_handle(multi.get(), request.curl.get());
  CURLcode code = CURLE_OK;
  bool ended = false;
  while (!ended && !stop.stop_requested()) {
    int running = 0, left = 0;
    curl_multi_perform(multi.get(), &running);
    while (const CURLMsg* message = curl_multi_info_read(multi.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      code = message->data.result;
      ended = true;
    }
    save(false);
    if (!ended) curl_multi_poll(multi.get(), nullptr, 0, kPollMs, nullptr);
  }
  curl_multi_remove_handle(multi.get(), request.curl.get());
  if (!ended) return fail(Code::Busy, "the daemon ends");
  return outcome(request, code, url);
}

Result<void> KubernetesWatcher::Impl::list(const std::stop_token& stop) {
  std::string next_page, from;
  std::uint64_t pages = 0;
  do {
    ASSIGN(auto request, begin(options, base, kListS));
    std::string url = fmt::format("{}?limit={}", base, kPageEvents);
    if (!next_page.empty()) url += "&continue=" + escaped(*request, next_page);
    curl_easy_setopt(request->curl.get(), CURLOPT_URL, url.c_str());
    std::string page;
    bool too_large = false;
    request->take = [&](std::string_view bytes) {
      source->bytes += bytes.size();
      too_large = page.size() + bytes.size() > kPageBytesMax;
      if (!too_large) page += bytes;
      return !too_large;
    };
    const auto done = run(*request, url, stop);
    if (too_large) return fail(Code::Exhausted, fmt::format("a list of more than {} bytes", kPageBytesMax));
    if (!done) return done;
    TRY(hand_on(page, true, stop));
    const WatchPosition position = watch_position(page);
    if (position.resource_version.empty()) return fail(Code::Invalid, fmt::format("'{}' answered with no list of events", base));
    from = position.resource_version;
    next_page = position.next_page;
    ++pages;
  } while (!next_page.empty());
  version = std::move(from);
  listed = true;
  source->set_state("running", fmt::format("listed in {} pages; watching", pages));
  return {};
}

Result<void> KubernetesWatcher::Impl::watch(const std::stop_token& stop) {
  ASSIGN(auto request, begin(options, base, kWatchS + 60));
  const std::string url = fmt::format("{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}", base, kWatchS, escaped(*request, version));
  curl_easy_setopt(request->curl.get(), CURLOPT_URL, url.c_str());
  std::string rest;
  Result<void> wrong = {};
  const auto take_line = [&](std::string_view line) {
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    WatchPosition position = watch_position(line);
    if (position.expired) {
      wrong = fail(Code::NotFound, position.error);
      return;
    }
    // A line that is wrong is counted; those behind it may be right.
    if (auto done = hand_on(line, false, stop); !done && done.error().code == Code::Busy) {
      wrong = done;
      return;
    }
    if (!position.resource_version.empty()) version = std::move(position.resource_version);
  };
  request->take = [&](std::string_view bytes) {
    source->bytes += bytes.size();
    rest += bytes;
    std::size_t at = 0;
    for (std::size_t end = 0; wrong && (end = rest.find('\n', at)) != std::string::npos; at = end + 1) take_line(std::string_view(rest).substr(at, end - at));
    rest.erase(0, at);
    if (wrong && rest.size() > kLineBytesMax) {
      ++source->malformed;
      wrong = fail(Code::Exhausted, fmt::format("a line of more than {} bytes", kLineBytesMax));
    }
    return wrong.has_value();
  };
  source->set_state("running", "watching");
  const auto done = run(*request, url, stop);
  if (done && wrong) take_line(rest);  // the last one may have no newline
  if (!wrong) return wrong;
  return done;
}

void KubernetesWatcher::Impl::save(bool now) {
  const std::int64_t now_ns = clock.now_ns();
  if (options.position_file.empty() || (!now && now_ns - saved_ns < kSaveEveryNs)) return;
  saved_ns = now_ns;
  const std::string text = version.empty() ? "" : fmt::format("{} {}\n", newest_wall_ns, version);
  // What the store has had for a second, unless the end is an orderly one.
  const std::string& write = now ? text : ready_to_write;
  if (!write.empty() && write != written) {
    if (auto done = replace_file(options.position_file, write); done) written = write;
    else log::warn("{}; after a restart some events may come twice", done.error().message);
  }
  ready_to_write = text;
}

void KubernetesWatcher::Impl::load() {
  if (options.position_file.empty()) return;
  std::istringstream words(read_position(options.position_file));
  if (words >> before_wall_ns >> version) newest_wall_ns = before_wall_ns;
  else before_wall_ns = 0, version.clear();
}

void KubernetesWatcher::Impl::loop(const std::stop_token& stop) {
  const std::stop_callback awake(stop, [this] { curl_multi_wakeup(multi.get()); });
  load();
  std::int64_t back_off_ns = kBackOffNsMin;
  while (!stop.stop_requested()) {
    const std::int64_t began_ns = clock.now_ns();
    const std::string before = version;
    const auto done = version.empty() ? list(stop) : watch(stop);
    if (stop.stop_requested()) break;
    if (!done && done.error().code == Code::NotFound && !version.empty()) {
      version.clear();
      source->set_state("waiting", fmt::format("{}; listing again", done.error().message));
      continue;
    }
    if (!done) {
      source->set_error(done.error().message);
      source->set_state("waiting", done.error().message);
    } else if (version != before || clock.now_ns() - began_ns >= kBackOffNsMin) {
      back_off_ns = kBackOffNsMin;
      continue;
    }
    // A failure, or a watch that ends at once and brings nothing.
    for (std::int64_t until = clock.now_ns() + back_off_ns; clock.now_ns() < until && !stop.stop_requested();) {
      curl_multi_poll(multi.get(), nullptr, 0, kPollMs, nullptr);
    }
    back_off_ns = std::min(2 * back_off_ns, kBackOffNsMax);
  }
  save(true);
}

KubernetesWatcher::KubernetesWatcher(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
KubernetesWatcher::~KubernetesWatcher() = default;

Result<std::unique_ptr<KubernetesWatcher>> KubernetesWatcher::start(KubernetesOptions options, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver) {
  ASSIGN(std::string base, base_of(options));
  auto impl = std::make_unique<Impl>(std::move(options), std::move(base), std::move(source), intake, clock, resolver);
  if (!impl->multi) return fail(Code::Exhausted, "libcurl did not start");
  Impl* self = impl.get();
  impl->thread = start_source_thread("kubernetes", "Kubernetes events", {impl->source}, [self](const std::stop_token& stop) { self->loop(stop); });
  return std::unique_ptr<KubernetesWatcher>(new KubernetesWatcher(std::move(impl)));
}

Result<Decoded> KubernetesWatcher::probe(const KubernetesOptions& options, const Context& context) {
  ASSIGN(const std::string base, base_of(options));
  const std::string url = fmt::format("{}?limit={}", base, kProbeEvents);
  ASSIGN(const auto request, begin(options, url, kConnectS));
  std::string page;
  request->take = [&](std::string_view bytes) {
    page += bytes;
    return page.size() <= kPageBytesMax;
  };
  const CURLcode code = curl_easy_perform(request->curl.get());
  TRY(outcome(*request, code, url));
  Decoded out;
  TRY(decode_kubernetes_events(page, context, out));
  if (watch_position(page).resource_version.empty()) return fail(Code::Invalid, fmt::format("'{}' answered with no list of events", base));
  return out;
}

}  // namespace culprit::ingest
