// A folder that one input of a fuzzer fills: "@name" lines begin a file, the lines after it are its bytes.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>

namespace culprit::fuzz {

class Folder {
 public:
  // In memory where there is such a file system: thousands of inputs a second.
  Folder() {
    const std::filesystem::path memory = "/dev/shm";
    root_ = (std::filesystem::is_directory(memory) ? memory : std::filesystem::temp_directory_path()) / ("culprit-fuzz-" + std::to_string(getpid()));
    std::filesystem::remove_all(root_);
    std::filesystem::create_directories(root_);
  }
  ~Folder() { std::filesystem::remove_all(root_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  // Only names of `allowed`: an input is no way out of the folder. Files of the input before are removed.
  void fill(std::string_view input, const std::set<std::string, std::less<>>& allowed) {
    for (const auto& name : written_) std::filesystem::remove(root_ / name);
    written_.clear();
    while (!input.empty()) {
      const std::size_t next = input.find("\n@", 1);
      const std::string_view part = input.substr(0, next);
      input.remove_prefix(next == std::string_view::npos ? input.size() : next + 1);
      const std::size_t end = part.find('\n');
      if (!part.starts_with('@') || end == std::string_view::npos) continue;
      const auto name = allowed.find(part.substr(1, end - 1));
      if (name == allowed.end()) continue;
      std::filesystem::create_directories((root_ / *name).parent_path());
      std::ofstream(root_ / *name, std::ios::binary) << part.substr(end + 1) << '\n';
      written_.insert(*name);
    }
  }
  const std::filesystem::path& path() const { return root_; }

 private:
  std::filesystem::path root_;
  std::set<std::string> written_;
};

}  // namespace culprit::fuzz
