// KubernetesWatcher: Kubernetes Events from the API server itself (libcurl): list, then watch from the list's resourceVersion.
//
// A watch that ends is begun again where it was; one that the server has forgotten (410 Gone) means a new list, of which only
// what was not told before is taken. After a failure it waits, 1 s first, twice as long each time, at most a minute. The token
// is read from its file for each request: clusters exchange them. Where it was is kept, as FileFollower and JournalFollower do.
// Threads: one of its own. Limits: bytes of a page and of a line, events remembered.
// Source: kubernetes.io/docs/reference/using-api/api-concepts (efficient detection of changes).
#pragma once

#include <filesystem>
#include <memory>

#include "daemon/ingest/kubernetes.h"
#include "daemon/ingest/source.h"

namespace culprit::ingest {

struct KubernetesOptions {
  std::string server;                   // https://10.0.0.1:6443
  std::string space;                    // namespace; empty: all
  std::filesystem::path token_file;     // empty: no token
  std::filesystem::path ca_file;        // empty: the system's
  std::filesystem::path position_file;  // empty: nothing is kept
};

class KubernetesWatcher {
 public:
  static constexpr std::size_t kPageBytesMax = 32U << 20U;
  static constexpr std::size_t kLineBytesMax = 4U << 20U;  // an object in etcd has 1.5 MiB at most
  static constexpr std::size_t kSeenMax = 20'000;

  // Errors: Invalid (server, namespace).
  static Result<std::unique_ptr<KubernetesWatcher>> start(KubernetesOptions options, SourcePtr source, Intake& intake, const Clock& clock, const Resolver& resolver);
  ~KubernetesWatcher();

  // The first events of a list. Errors: Invalid; Denied, NotFound (token file); Io (no answer, or not 200).
  static Result<Decoded> probe(const KubernetesOptions& options, const Context& context);

 private:
  struct Impl;
  explicit KubernetesWatcher(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace culprit::ingest
