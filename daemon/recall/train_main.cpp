// culprit-train FILE: trains the built-in model from the built-in packs. A step of the build; not installed.
#include <fmt/format.h>

#include <fstream>

#include "daemon/recall/groups.h"

namespace {

culprit::Result<void> run(const char* file) {
  using namespace culprit;
  ASSIGN(const auto known, graph::Knowledge::load({}));
  ASSIGN(const embed::Trained trained, embed::train(recall::text_groups(*known), {}));
  const std::string bytes = embed::encode_model(trained.rows, trained.input_hash);
  std::ofstream out(file, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  if (!out.flush()) return fail(Code::Io, fmt::format("write '{}'", file));
  fmt::print("model of {} bytes, loss {:.3f} -> {:.3f}\n", bytes.size(), trained.loss_first, trained.loss_last);
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fmt::print(stderr, "usage: culprit-train FILE\n");
    return 2;
  }
  if (const auto done = run(argv[1]); !done) {
    fmt::print(stderr, "culprit-train: {}\n", done.error().message);
    return 1;
  }
  return 0;
}
