// Labels, as Prometheus and Alertmanager use them, to the entity they are about.
#pragma once

#include "daemon/ingest/record.h"

namespace culprit::ingest {

// "service:<name>" by what names a service best: labels service, service_name, app, a Kubernetes workload or pod, a
// container, an instance of this host whose port a known service has, job. Empty if no label says.
std::string entity_of_labels(const Labels& labels, const Context& context);

std::string_view label_of(const Labels& labels, std::string_view key);  // empty if it is not there
std::string entity_of_job(std::string_view job);                                    // "namespace/web" -> "service:web"

std::string_view host_of_address(std::string_view address);  // "host:port" without its port
bool is_this_host(std::string_view host, const Context& context);

// The service behind "host:port" if host is this one; empty if unknown.
std::string service_of_address(std::string_view address, const Context& context);

}  // namespace culprit::ingest
