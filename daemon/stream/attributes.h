// Attributes: the names and texts of an event, few of them, in one piece of memory.
//
// They are kept as they are stored and sent: name and text of each, every one a varint length and its bytes. So an event is
// made, copied and let go with one allocation for all of them, and a store takes them as they are.
#pragma once

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <iterator>
#include <string>
#include <string_view>
#include <utility>

#include "daemon/stream/bytes.h"

namespace culprit::stream {

class Attributes {
 public:
  using value_type = std::pair<std::string_view, std::string_view>;  // name, text: they live until the attributes change

  class const_iterator {
   public:
    using iterator_category = std::input_iterator_tag;  // what * refers to lies in the iterator
    using value_type = Attributes::value_type;
    using difference_type = std::ptrdiff_t;
    using pointer = const value_type*;
    using reference = const value_type&;
    const_iterator() = default;
    explicit const_iterator(std::string_view rest) : rest_(rest) { read(); }
    reference operator*() const { return now_; }
    pointer operator->() const { return &now_; }
    const_iterator& operator++() {
      rest_ = next_;
      read();
      return *this;
    }
    const_iterator operator++(int) {
      const const_iterator before = *this;
      ++*this;
      return before;
    }
    bool operator==(const const_iterator& other) const { return rest_.size() == other.rest_.size(); }

   private:
    void read() {
      if (rest_.empty()) return;
      Reader in(rest_);
      now_.first = in.string();
      now_.second = in.string();
      next_ = in.rest();
      if (!in.ok()) rest_ = next_ = {};  // not what coded() gives
    }
    std::string_view rest_, next_;
    value_type now_;
  };
  using iterator = const_iterator;
  using const_reference = const value_type&;
  using reference = const_reference;
  using size_type = std::size_t;
  using difference_type = std::ptrdiff_t;

  Attributes() = default;
  Attributes(std::initializer_list<value_type> all) {
    for (const auto& [name, text] : all) emplace_back(name, text);
  }
  // Of bytes that are what coded() gives.
  static Attributes of(std::string_view coded) {
    Attributes all;
    all.coded_ = coded;
    for (auto at = all.begin(); at != all.end(); ++at) ++all.size_;
    return all;
  }

  std::string_view coded() const { return coded_; }
  const_iterator begin() const { return const_iterator(coded_); }
  const_iterator end() const { return {}; }
  std::size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  value_type front() const { return *begin(); }
  std::string_view find(std::string_view name) const {  // the text of the first of that name; empty if there is none
    for (const auto& [name_of, text] : *this) {
      if (name_of == name) return text;
    }
    return {};
  }
  bool operator==(const Attributes&) const = default;

  void reserve_bytes(std::size_t bytes) { coded_.reserve(bytes); }  // name and text of each, and two more
  void clear() {
    coded_.clear();
    size_ = 0;
  }
  void emplace_back(std::string_view name, std::string_view text) {
    const std::size_t bytes_max = name.size() + text.size() + 2 * kVarintBytesMax;
    if (coded_.capacity() - coded_.size() >= bytes_max) {
      put(coded_, name, text, bytes_max);
    } else {  // name and text may lie in what is there: it goes afterwards
      std::string grown;
      grown.reserve(std::max(2 * coded_.size(), coded_.size() + bytes_max + kRoomBytes));
      grown = coded_;
      put(grown, name, text, bytes_max);
      coded_ = std::move(grown);
    }
    ++size_;
  }
  void push_back(value_type one) { emplace_back(one.first, one.second); }
  void append(const Attributes& others) {
    coded_ += others.coded_;
    size_ += others.size_;
  }
  template <typename Fits>
  void erase_if(Fits fits) {
    Attributes left;
    left.reserve_bytes(coded_.size());
    for (const value_type& one : *this) {
      if (!fits(one)) left.push_back(one);
    }
    *this = std::move(left);
  }

 private:
  static constexpr std::size_t kRoomBytes = 96;  // for those that come next
  static void put(std::string& to, std::string_view name, std::string_view text, std::size_t bytes_max) {
    append_with(to, bytes_max, [&](char* at) {
      for (const std::string_view part : {name, text}) at = write_text(write_varint(at, part.size()), part);
      return at;
    });
  }

  std::string coded_;
  std::size_t size_ = 0;
};

}  // namespace culprit::stream
