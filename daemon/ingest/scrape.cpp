#include "daemon/ingest/scrape.h"

#include <fmt/format.h>

#include <thread>

#include "daemon/ingest/curl.h"
#include "daemon/ingest/labels.h"
#include "daemon/ingest/source_thread.h"

namespace culprit::ingest {
namespace {

constexpr std::int64_t kTimeoutNs = 10 * kNsPerSecond;
constexpr int kPollMs = 250;

// One transfer and what it brought.
struct Transfer {
  Curl curl;
  CurlHeaders headers;
  std::string body;
};

std::size_t on_bytes(char* data, std::size_t size, std::size_t count, void* to) {
  auto* transfer = static_cast<Transfer*>(to);
  if (transfer->body.size() + size * count > Scraper::kAnswerBytesMax) return 0;  // ends the transfer
  transfer->body.append(data, size * count);
  return size * count;
}

std::unique_ptr<Transfer> begin(const ScrapeOptions& options) {
  auto transfer = std::make_unique<Transfer>();
  transfer->curl.reset(curl_easy_init());
  if (!transfer->curl) return nullptr;
  CURL* curl = transfer->curl.get();
  transfer->headers.reset(curl_slist_append(nullptr, "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"));
  curl_easy_setopt(curl, CURLOPT_URL, options.url.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, transfer->headers.get());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &on_bytes);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, transfer.get());
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_ACCEPT_ENCODING, "gzip");
  curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(std::min(kTimeoutNs, options.interval_ns) / kNsPerMs));
  return transfer;
}

Result<void> decode(Transfer& transfer, CURLcode code, const ScrapeOptions& options, const Context& context, Decoded& out) {
  if (code == CURLE_WRITE_ERROR) return fail(Code::Exhausted, fmt::format("scrape '{}': more than {} bytes", options.url, Scraper::kAnswerBytesMax));
  if (code != CURLE_OK) return fail(Code::Io, fmt::format("scrape '{}': {}", options.url, curl_easy_strerror(code)));
  long status = 0;
  curl_easy_getinfo(transfer.curl.get(), CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) return fail(Code::Io, fmt::format("scrape '{}': answered {}", options.url, status));
  if (auto done = decode_exposition(transfer.body, options.target, context, out); !done) return std::unexpected(done.error().context(fmt::format("scrape '{}'", options.url)));
  return {};
}

}  // namespace

struct Scraper::Impl {
  struct Target {
    ScrapeOptions options;
    SourcePtr source;
    std::int64_t due_ns = 0;
    std::unique_ptr<Transfer> transfer;  // under way
    std::unique_ptr<Counters> counters;  // its own: two targets may name their series alike
  };
  std::vector<Target> targets;
  Intake& intake;
  const Clock& clock;
  const Resolver& resolver;
  CurlMulti multi;
  std::jthread thread;  // last: ends before what it uses

  Impl(Intake& to, const Clock& time, const Resolver& who) : intake(to), clock(time), resolver(who), multi(curl_multi_init()) {}

  void finish(Target& target, CURLcode code);
  void loop(const std::stop_token& stop);
};

void Scraper::Impl::finish(Target& target, CURLcode code) {
  const auto transfer = std::move(target.transfer);
  curl_multi_remove_handle(multi.get(), transfer->curl.get());
  const Context context{clock.now_ns(), clock.wall_offset_ns(), &resolver, target.counters.get()};
  Decoded out;
  ++target.source->requests;
  target.source->bytes += transfer->body.size();
  target.counters->begin_round();
  const auto done = decode(*transfer, code, target.options, context, out);
  target.counters->end_round();  // what it does not tell any more is over; all of it, if it did not answer
  if (!done) {
    ++target.source->malformed;
    target.source->set_error(done.error().message);
    target.source->set_state("waiting", done.error().message);
    out = {};
  } else {
    target.source->set_state("running", fmt::format("{} samples", out.records));
  }
  add_up(done.has_value(), target.options.target, context, out);
  target.source->note(out);
  intake.offer(target.source, std::move(out.events));  // the next one comes soon enough
}

void Scraper::Impl::loop(const std::stop_token& stop) {
  const std::stop_callback awake(stop, [this] { curl_multi_wakeup(multi.get()); });
  while (!stop.stop_requested()) {
    const std::int64_t now = clock.now_ns();
    for (Target& target : targets) {
      if (target.transfer || now < target.due_ns) continue;
      // From when it was due, so that scrapes keep their distance; a host that slept does not make up for it.
      target.due_ns = target.due_ns + target.options.interval_ns > now ? target.due_ns + target.options.interval_ns : now + target.options.interval_ns;
      target.transfer = begin(target.options);
      if (target.transfer) curl_multi_add_handle(multi.get(), target.transfer->curl.get());
    }
    int running = 0;
    curl_multi_perform(multi.get(), &running);
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi.get(), &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      const CURLcode code = message->data.result;
      CURL* const curl = message->easy_handle;
      for (Target& target : targets) {
        if (target.transfer && target.transfer->curl.get() == curl) {
          finish(target, code);
          break;
        }
      }
    }
    curl_multi_poll(multi.get(), nullptr, 0, kPollMs, nullptr);
  }
  for (Target& target : targets) {
    if (target.transfer) curl_multi_remove_handle(multi.get(), target.transfer->curl.get());
  }
}

Scraper::Scraper(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Scraper::~Scraper() = default;

std::unique_ptr<Scraper> Scraper::start(std::vector<std::pair<ScrapeOptions, SourcePtr>> targets, Intake& intake, const Clock& clock, const Resolver& resolver) {
  auto impl = std::make_unique<Impl>(intake, clock, resolver);
  for (auto& [options, source] : targets) {
    if (impl->targets.size() >= kTargetsMax) {
      source->set_state("failed", fmt::format("more than {} targets", kTargetsMax));
      continue;
    }
    impl->targets.push_back({std::move(options), std::move(source), 0, nullptr, std::make_unique<Counters>(kScrapeSamplesMax)});
  }
  Impl* self = impl.get();
  std::vector<SourcePtr> sources;
  for (const auto& target : impl->targets) sources.push_back(target.source);
  impl->thread = start_source_thread("scrape", "scrape", std::move(sources), [self](const std::stop_token& stop) { self->loop(stop); });
  return std::unique_ptr<Scraper>(new Scraper(std::move(impl)));
}

Result<std::string> Scraper::url_of(const std::string& target) {
  if (target.starts_with("http://") || target.starts_with("https://")) return target;
  if (target.find("://") != std::string::npos || target.find(':') == std::string::npos) return fail(Code::Invalid, fmt::format("target '{}': a URL of http or https, or HOST:PORT", target));
  return "http://" + target + (target.find('/') == std::string::npos ? "/metrics" : "");
}

std::optional<ScrapeOptions> Scraper::labelled(ScrapeOptions options, const std::string& job, const Relabel* relabel) {
  const std::size_t scheme = options.url.find("://"), path = std::min(options.url.find('/', scheme + 3), options.url.size());
  Labels labels = std::move(options.target.labels);
  if (label_of(labels, "job").empty()) labels.emplace_back("job", job);
  labels.insert(labels.end(), {{"__scheme__", options.url.substr(0, scheme)}, {"__address__", options.url.substr(scheme + 3, path - scheme - 3)},
                               {"__metrics_path__", path < options.url.size() ? options.url.substr(path) : "/metrics"}});
  std::string name = "target";  // of no meaning here; steps that took it away would drop samples, not targets
  if (relabel != nullptr && !relabel->apply(name, labels)) return std::nullopt;
  options.target.labels.clear();
  std::string parts[3];
  for (auto& [key, value] : labels) {
    if (key == "__scheme__") parts[0] = value;
    else if (key == "__address__") parts[1] = value;
    else if (key == "__metrics_path__") parts[2] = value;
    else if (!key.starts_with("__") && !value.empty()) options.target.labels.emplace_back(key, value);
  }
  if (parts[1].empty() || (parts[0] != "http" && parts[0] != "https")) return std::nullopt;
  if (label_of(options.target.labels, "instance").empty()) options.target.labels.emplace_back("instance", parts[1]);
  options.target.default_job = job;
  options.url = fmt::format("{}://{}{}{}", parts[0], parts[1], parts[2].starts_with('/') ? "" : "/", parts[2]);
  return options;
}

Result<Decoded> Scraper::probe(const ScrapeOptions& options, const Context& context) {
  const auto transfer = begin(options);
  if (!transfer) return fail(Code::Exhausted, "libcurl did not start");
  Decoded out;
  TRY(decode(*transfer, curl_easy_perform(transfer->curl.get()), options, context, out));
  return out;
}

}  // namespace culprit::ingest
