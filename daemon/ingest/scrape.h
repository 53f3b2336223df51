// Scraper: asks Prometheus targets for their metrics, each at its interval, all that are due at once (libcurl's multi
// interface), so that one that hangs delays no other. A target that does not answer within its interval, or 10 s, has failed once;
// its `up` is 0 then, else 1. Threads: one of its own.
#pragma once

#include <memory>
#include <optional>

#include "daemon/ingest/prometheus.h"
#include "daemon/ingest/source.h"

namespace culprit::ingest {

struct ScrapeOptions {
  std::string url;  // http://127.0.0.1:9100/metrics; a bare host:port means http and /metrics
  std::int64_t interval_ns = 15 * kNsPerSecond;
  ScrapeTarget target;
};

class Scraper {
 public:
  static constexpr std::size_t kTargetsMax = 64;
  static constexpr std::size_t kAnswerBytesMax = 32U << 20U;

  static std::unique_ptr<Scraper> start(std::vector<std::pair<ScrapeOptions, SourcePtr>> targets, Intake& intake, const Clock& clock, const Resolver& resolver);
  ~Scraper();

  // Errors: Invalid: no URL of http or https.
  static Result<std::string> url_of(const std::string& target);
  // The labels that Prometheus gives a target: those of `options`, `job` unless they have one, and, unless they have one in the end,
  // its address as `instance`. `relabel` (may be null) are its relabel_configs: they see __scheme__, __address__ and __metrics_path__
  // (with the query) as well; then the URL is what these three say, and the labels without "__" are those of its samples. Nothing
  // if the target is dropped, or left without an address.
  static std::optional<ScrapeOptions> labelled(ScrapeOptions options, const std::string& job, const Relabel* relabel);
  // One scrape, for `culprit sources test`. Errors: Io (no answer), Invalid.
  static Result<Decoded> probe(const ScrapeOptions& options, const Context& context);

 private:
  struct Impl;
  explicit Scraper(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::ingest
