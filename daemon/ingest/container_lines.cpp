#include "daemon/ingest/container_lines.h"

#include "daemon/ingest/json.h"
#include "daemon/ingest/record.h"
#include "daemon/stream/line_mark.h"

namespace culprit::ingest {
namespace {

constexpr std::string_view kPods = "/var/log/pods/", kContainers = "/var/log/containers/";

bool is_stream(std::string_view name) { return name == "stdout" || name == "stderr"; }

std::optional<ContainerLine> unwrap_docker(std::string_view line) {
  thread_local JsonParser parser;
  const auto root = parser.parse(line);
  if (!root || !root->is_object()) return std::nullopt;
  const std::string_view stream = text_of(*root, "stream"), time = text_of(*root, "time");
  if (!is_stream(stream) || time.empty()) return std::nullopt;
  ContainerLine out;
  out.text = text_of(*root, "log");
  out.whole = out.text.ends_with('\n');
  while (out.text.ends_with('\n') || out.text.ends_with('\r')) out.text.pop_back();
  out.wall_ns = parse_wall(time).value_or(0);
  out.is_stderr = stream == "stderr";
  return out;
}

std::optional<ContainerLine> unwrap_cri(std::string_view line) {
  const std::size_t after_time = line.find(' ');
  if (after_time == std::string_view::npos || after_time < 20 || after_time > 35 || line[10] != 'T') return std::nullopt;
  std::string_view rest = line.substr(after_time + 1);
  if (rest.size() < 8 || !is_stream(rest.substr(0, 6)) || rest[6] != ' ' || (rest[7] != 'F' && rest[7] != 'P')) return std::nullopt;
  if (rest.size() > 8 && rest[8] != ' ' && rest[8] != ':') return std::nullopt;  // more tags come after colons
  const auto wall = parse_wall(line.substr(0, after_time));
  if (!wall) return std::nullopt;
  const std::size_t text = rest.find(' ', 7);
  return ContainerLine{text == std::string_view::npos ? std::string() : std::string(rest.substr(text + 1)), *wall, rest[7] == 'F', rest.starts_with("stderr")};
}

}  // namespace

std::optional<ContainerLine> unwrap_container_line(std::string_view line) {
  if (line.starts_with(R"({"log":")")) return unwrap_docker(line);
  if (line.size() > 28 && line[4] == '-' && line[7] == '-') return unwrap_cri(line);
  return std::nullopt;
}

std::string_view container_of_path(std::string_view path) { return stream::LineMark::container_in(path); }

std::string service_of_container_path(std::string_view path) {
  if (path.starts_with(kPods)) {  // NS_POD_UID
    path.remove_prefix(kPods.size());
    const std::size_t space = path.find('_'), pod = path.find('_', space + 1);
    return space == std::string_view::npos || pod == std::string_view::npos ? std::string() : workload_of_pod(path.substr(space + 1, pod - space - 1));
  }
  if (path.starts_with(kContainers)) return workload_of_pod(path.substr(kContainers.size(), path.find('_') - kContainers.size()));
  const std::string_view id = container_of_path(path);
  return path.find("-json.log") != std::string_view::npos ? std::string(id.substr(0, 12)) : std::string();
}

}  // namespace culprit::ingest
