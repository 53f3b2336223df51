// Literals: finds which of many fixed texts occur in a line, in one pass (Aho and Corasick, 1975), ASCII
// case ignored. Immutable once built, so any thread may scan.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::graph {

class Literals {
 public:
  // Ids are positions in `texts`; empty texts never occur.
  explicit Literals(const std::vector<std::string>& texts);

  // Calls found(id) for each text that occurs, possibly more than once.
  template <typename Found>
  void scan(std::string_view line, Found found) const {
    std::uint32_t state = 0;
    for (const char c : line) {
      state = next_[state * classes_ + class_of_[static_cast<unsigned char>(c)]];
      for (std::uint32_t at = has_output_[state] ? state : 0; at != 0; at = output_link_[at]) {
        for (std::uint32_t i = output_begin_[at]; i < output_begin_[at + 1]; ++i) found(outputs_[i]);
      }
    }
  }
  std::size_t states() const { return has_output_.size(); }

 private:
  std::array<std::uint16_t, 256> class_of_{};  // bytes that no text has share class 0
  std::size_t classes_ = 1;
  std::vector<std::uint32_t> next_;          // state × class -> state
  std::vector<std::uint8_t> has_output_;     // here or along the links
  std::vector<std::uint32_t> output_link_;   // nearest suffix state with outputs, 0 = none
  std::vector<std::uint32_t> output_begin_;  // state -> its first output
  std::vector<std::uint32_t> outputs_;       // ids
};

}  // namespace culprit::graph
