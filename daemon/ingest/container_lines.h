// Lines that container engines write: what a program said, wrapped with the stream and the time.
//
//   Docker, json-file   {"log":"it failed\n","stream":"stderr","time":"2026-11-23T14:02:08.123456789Z"}; 16 KiB each, the end of a line
//                       has the newline. Source: docs.docker.com, JSON File logging driver.
//   CRI                 2026-11-23T14:02:08.123456789Z stderr F it failed; P instead of F: it goes on in the next. Source: the
//                       Kubernetes design proposal kubelet-cri-logging.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace culprit::ingest {

struct ContainerLine {
  std::string text;
  std::int64_t wall_ns = 0;  // 0: not told
  bool whole = true;         // false: the line goes on
  bool is_stderr = false;
};

// Nothing if the line is neither of both.
std::optional<ContainerLine> unwrap_container_line(std::string_view line);

// The id in the path of a container's log, 64 hexadecimal digits; empty if there is none.
std::string_view container_of_path(std::string_view path);

// Whose log it is as far as the path says so: the workload of /var/log/pods/NS_POD_UID/CONTAINER/0.log and of
// /var/log/containers/POD_NS_CONTAINER-ID.log, the first 12 digits of the id of Docker's; empty for any other path.
std::string service_of_container_path(std::string_view path);

}  // namespace culprit::ingest
