// Masking: a message as words with everything that looks like a value replaced by <*>.
//
//   connection from 10.1.2.3 (db7.example.net) at Sat Jul 2 12:00:01 uid=0 /var/log/x blk_-17
//   connection from <*> (<*>) at <*> uid=<*> <*> blk_<*>
//
// Values are: numbers with or without units, times, addresses, hex and UUIDs, paths and URLs, what stands after
// `key=`, digits inside a word. Plain words stay, also if they are values ("user alice"): the miner finds those.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace culprit::logs {

inline constexpr std::string_view kWildcard = "<*>";

struct Masked {
  std::string text;                      // the masked words with one space between
  std::vector<std::string_view> words;   // into `text`
  std::vector<std::string_view> raw;     // the words as they were, into the message; several for a run of <*>
  std::vector<std::size_t> raw_begin;    // words[i] stands for raw[raw_begin[i], raw_begin[i + 1])
};

// Reuses what `out` has allocated. Looks at the first `words_max` words.
void mask(std::string_view message, std::size_t words_max, Masked& out);

// True for a masked word that is likelier a value than a word of the sentence.
bool looks_variable(std::string_view word);
// True if two words at one place are likelier two values than two words: "a.example.net" and "b.example.org" are,
// "depth..<*>" and "threshold..<*>" are not.
bool differ_in_values(std::string_view a, std::string_view b);

}  // namespace culprit::logs
