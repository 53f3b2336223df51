// Any bytes are a configuration of the daemon or an error that names its place, never a crash or a hang.
#include <cstdlib>
#include <string>
#include <string_view>

#include "daemon/base/config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace culprit;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto config = Config::parse(text, "c.yaml");
  if (config) {
    (void)config->rows();
  } else if (!config.error().message.starts_with("c.yaml:")) {
    abort();
  }
  const std::size_t equals = text.find('=');
  Config flags;
  (void)flags.set(text.substr(0, equals), equals == std::string::npos ? "" : text.substr(equals + 1), "command line");
  return 0;
}
