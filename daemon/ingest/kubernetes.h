// Kubernetes Events, of core/v1 and events.k8s.io/v1: one, a list, JSON lines, or what a watch gives ({"type","object"}).
//
// An event becomes a log event whose entity is the workload its object belongs to (pod order-7c5d8f9b6d-x2x4z -> service
// order; a node is the host), body "Reason: message (n times)". Those by which somebody changed something (scaling, a
// rollout, a kill, a start) become events of kind Change, named "kubernetes.<Reason>".
// Source: kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1.
#pragma once

#include "daemon/ingest/record.h"

namespace culprit::ingest {

inline constexpr std::size_t kKubernetesEventsMax = 10'000;  // in one document

// Errors: Invalid.
Result<void> decode_kubernetes_events(std::string_view json, const Context& context, Decoded& out);

// The resourceVersion to go on watching from, and a watch's error ("too old"), if the document says them.
struct WatchPosition {
  std::string resource_version;
  bool expired = false;
};
WatchPosition watch_position(std::string_view json);

}  // namespace culprit::ingest
