#include "graph/literals.h"

#include <deque>

namespace culprit::graph {
namespace {

unsigned char fold(char c) {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 'A' && byte <= 'Z' ? static_cast<unsigned char>(byte + 32) : byte;
}

}  // namespace

Literals::Literals(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    for (const char c : text) {
      std::uint16_t& of = class_of_[fold(c)];
      if (of == 0) of = static_cast<std::uint16_t>(classes_++);
    }
  }
  for (unsigned char c = 'A'; c <= 'Z'; ++c) class_of_[c] = class_of_[c + 32U];

  // The trie, with its missing transitions as 0 (the root is nobody's child).
  next_.assign(classes_, 0);
  std::vector<std::vector<std::uint32_t>> ends(1);
  for (std::uint32_t id = 0; id < texts.size(); ++id) {
    if (texts[id].empty()) continue;
    std::uint32_t state = 0;
    for (const char c : texts[id]) {
      const std::size_t at = state * classes_ + class_of_[fold(c)];
      if (next_[at] == 0) {
        next_[at] = static_cast<std::uint32_t>(ends.size());
        ends.emplace_back();
        next_.resize(next_.size() + classes_, 0);
      }
      state = next_[at];
    }
    ends[state].push_back(id);
  }

  // Breadth first: a state's suffix is shallower, so it is already complete when the state is reached.
  const std::size_t states = ends.size();
  std::vector<std::uint32_t> suffix(states, 0);
  output_link_.assign(states, 0);
  has_output_.assign(states, 0);
  std::deque<std::uint32_t> queue;
  for (std::size_t k = 0; k < classes_; ++k) {
    if (next_[k] != 0) queue.push_back(next_[k]);
  }
  while (!queue.empty()) {
    const std::uint32_t state = queue.front();
    queue.pop_front();
    output_link_[state] = ends[suffix[state]].empty() ? output_link_[suffix[state]] : suffix[state];
    has_output_[state] = !ends[state].empty() || output_link_[state] != 0;
    for (std::size_t k = 0; k < classes_; ++k) {
      std::uint32_t& to = next_[state * classes_ + k];
      const std::uint32_t fallback = next_[suffix[state] * classes_ + k];
      if (to == 0) {
        to = fallback;
      } else {
        suffix[to] = fallback;
        queue.push_back(to);
      }
    }
  }
  for (const auto& ids : ends) {
    output_begin_.push_back(static_cast<std::uint32_t>(outputs_.size()));
    outputs_.insert(outputs_.end(), ids.begin(), ids.end());
  }
  output_begin_.push_back(static_cast<std::uint32_t>(outputs_.size()));
}

}  // namespace culprit::graph
