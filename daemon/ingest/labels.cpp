#include "daemon/ingest/labels.h"

#include <algorithm>
#include <charconv>

namespace culprit::ingest {

std::string_view host_of_address(std::string_view address) {
  const std::size_t colon = address.rfind(':');
  return colon == std::string_view::npos || address.ends_with(']') ? address : address.substr(0, colon);
}

bool is_this_host(std::string_view host, const Context& context) {
  return host == "localhost" || host.starts_with("127.") || host == "[::1]" || (context.resolver != nullptr && host == context.resolver->host_name());
}

std::string service_of_address(std::string_view address, const Context& context) {
  if (context.resolver == nullptr) return {};
  const std::string_view host = host_of_address(address);
  if (host.size() == address.size()) return {};
  const std::string_view port_text = address.substr(host.size() + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (error != std::errc() || end != port_text.data() + port_text.size()) return {};
  return is_this_host(host, context) ? context.resolver->service_of_port(port) : std::string();
}

std::string_view label_of(const Labels& labels, std::string_view key) {
  const auto found = std::ranges::find(labels, key, [](const auto& label) { return std::string_view(label.first); });
  return found == labels.end() ? std::string_view() : std::string_view(found->second);
}

std::string entity_of_job(std::string_view job) { return "service:" + std::string(job.substr(job.rfind('/') + 1).substr(0, kNameBytesMax)); }

std::string entity_of_labels(const Labels& labels, const Context& context) {
  const auto value = [&](std::string_view key) { return label_of(labels, key); };
  const auto named = [](std::string_view name) { return "service:" + std::string(name.substr(0, kNameBytesMax)); };
  for (const std::string_view key : {"service", "service_name", "service.name", "app", "app_kubernetes_io_name", "deployment", "statefulset", "daemonset", "k8s_deployment_name"}) {
    if (const auto text = value(key); !text.empty()) return named(text);
  }
  for (const std::string_view key : {"pod", "pod_name", "k8s_pod_name"}) {
    if (const auto text = value(key); !text.empty()) return named(workload_of_pod(text));
  }
  if (const auto text = value("container"); !text.empty()) return named(text);
  if (auto service = service_of_address(value("instance"), context); !service.empty()) return named(service);
  if (const auto unit = value("name"); unit.ends_with(".service")) return named(unit.substr(0, unit.size() - 8));
  if (const auto text = value("job"); !text.empty()) return entity_of_job(text);
  return {};
}

}  // namespace culprit::ingest
