#include "daemon/ingest/labels.h"

#include <algorithm>
#include <charconv>

namespace culprit::ingest {

std::string service_of_address(std::string_view address, const Context& context) {
  if (context.resolver == nullptr) return {};
  const std::size_t colon = address.rfind(':');
  if (colon == std::string_view::npos) return {};
  const std::string_view host = address.substr(0, colon);
  const std::string_view port_text = address.substr(colon + 1);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (error != std::errc() || end != port_text.data() + port_text.size()) return {};
  const bool here = host == "localhost" || host.starts_with("127.") || host == "[::1]" || host == context.resolver->host_name();
  return here ? context.resolver->service_of_port(port) : std::string();
}

std::string entity_of_labels(const stream::Attributes& labels, const Context& context) {
  const auto value = [&](std::string_view key) -> std::string_view {
    const auto found = std::ranges::find(labels, key, [](const auto& label) { return std::string_view(label.first); });
    return found == labels.end() ? std::string_view() : std::string_view(found->second);
  };
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
  if (const auto text = value("job"); !text.empty()) return named(text.substr(text.rfind('/') + 1));
  return {};
}

}  // namespace culprit::ingest
