// Configuration files as flat settings: inside of the policies.
#pragma once

#include <string_view>
#include <vector>

#include "rules/policy.h"

namespace culprit::rules {

// A configuration file after parsing: settings, and for each block its path and line.
struct Config {
  struct Block {
    std::string path{};
    int line = 1;
    std::size_t parent = 0;
    bool list = false;      // holds a list; what policies look at are its items
    bool document = false;  // one of the documents of a YAML file
    // Settings in it and in what it holds: they stand side by side, as blocks are in the order of the file.
    std::size_t first = 0, last = 0;
    std::vector<std::size_t> own{};  // those directly in it
  };
  std::vector<Setting> settings{};
  std::vector<Block> blocks{};  // [0] is the file
};

Result<Config> parse_blocks(std::string_view name, std::string_view text, Format format);

}  // namespace culprit::rules
