// Kubernetes Events, of core/v1 and events.k8s.io/v1: one, a list, JSON lines, or what a watch gives ({"type","object"}).
//
// An event becomes a log event whose entity is the workload its object belongs to (pod order-7c5d8f9b6d-x2x4z -> service
// order; a node is the host), body "Reason: message (n times)". Those by which somebody changed something (scaling, a
// rollout, a kill, a start) become events of kind Change, named "kubernetes.<Reason>".
// Source: kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1.
#pragma once

#include <functional>

#include "daemon/ingest/record.h"

namespace culprit::ingest {

inline constexpr std::size_t kKubernetesEventsMax = 10'000;  // in one document

// What tells one telling of an event from another; false leaves it out.
struct KubernetesIdentity {
  std::string_view uid, resource_version;
  std::int64_t wall_ns = 0;  // when it happened last; 0 if it does not say
};
using KubernetesFilter = std::function<bool(const KubernetesIdentity&)>;

// Errors: Invalid.
Result<void> decode_kubernetes_events(std::string_view json, const Context& context, Decoded& out);
Result<void> decode_kubernetes_events_if(const KubernetesFilter& wanted, std::string_view json, const Context& context, Decoded& out);

// What a list or one line of a watch says of where to go on.
struct WatchPosition {
  std::string resource_version;
  std::string next_page;   // of a list: its `continue`
  bool expired = false;    // a watch's error: list again
  std::string error;       // its message
};
WatchPosition watch_position(std::string_view json);

}  // namespace culprit::ingest
