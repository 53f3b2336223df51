// Texts: the column of bodies. Lines of one run come from one template, so that most of each stands in all of them: what
// they share is written once, and of each row only the words that differ, word by word one below the other. That leaves
// zstd a third of the bytes. docs/events.md has the format (column 10). Inside of the codec.
//
//   worker 3 took job mail:81 after 9 ms in queue       parts  "worker ", " took job mail:", " after ", " ms in queue"
//   worker 15 took job mail:7 after 120 ms in queue     slots  3 15 | 81 7 | 9 120
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "daemon/stream/grams.h"
#include "daemon/stream/rows.h"

namespace culprit::stream {

inline constexpr std::size_t kTextRows = 4096;  // rows that share their parts, at most
inline constexpr std::size_t kSlotsMax = 15;    // words of a line that differ; lines of more are written whole

class TextEncoder {
 public:
  void clear();
  void add(std::span<const Detail* const> rows);  // of one run; null: no text
  void put(std::string& column, std::string& grams) const;

 private:
  // What stands before, between and behind the slots. `suffix` of its bytes are of the word whose begin is the slot before.
  struct Part {
    std::string_view text = {};  // in part_texts_
    std::size_t bytes = 0;
    std::size_t suffix = 0;
    std::uint64_t first = 0, mask = 0;  // up to eight bytes of it
  };
  struct Span {
    std::uint32_t begin, bytes;
  };
  // What words at one place of several lines share.
  struct Shared {
    std::string_view word;  // the first one
    std::size_t prefix, suffix, bytes_min;
    bool same = true;

    explicit Shared(std::string_view first) : word(first), prefix(first.size()), suffix(first.size()), bytes_min(first.size()) {}
    void also(std::string_view other);
    void trim();
  };
  bool learn(std::span<const Detail* const> rows);
  bool split(std::string_view body, Span* slots) const;  // false: the parts do not fit
  bool add_split(std::span<const Detail* const> rows);   // false, and nothing is added: most do not fit
  void add_whole(std::span<const Detail* const> rows);

  std::string texts_, heads_;
  std::uint64_t bytes_ = 0;  // of all texts
  Grams grams_;
  std::string part_texts_;
  std::vector<Part> parts_;
  std::vector<std::string_view> words_;  // of a line that is learned from
  std::vector<Shared> shared_;
  std::vector<Span> slots_;             // row by row
  std::vector<std::uint32_t> whole_;    // rows that do not fit
  std::string head_;
};

class TextDecoder {
 public:
  bool open(std::string_view column);  // which has to live as long as the texts that are not put together
  bool skip(std::size_t rows);
  // Gives details[i] its text. False if the bytes are not exactly those of so many rows.
  bool read(std::span<Detail* const> details, DetailStore& store);
  bool at_end() const { return texts_.empty() && heads_.empty(); }

 private:
  bool section(std::string_view& texts, std::string_view& head);
  bool read_section(std::span<Detail* const> details, DetailStore& store);

  std::string_view texts_, heads_;
  std::uint64_t bytes_ = 0;  // put together so far
  std::vector<std::uint32_t> sizes_, whole_;
  std::vector<std::string_view> parts_;
};

}  // namespace culprit::stream
