#include "daemon/stream/block_texts.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cstring>

#include "daemon/stream/bytes.h"

namespace culprit::stream {
namespace {

constexpr std::size_t kRowsMin = 4;       // fewer do not pay for the parts
constexpr std::size_t kSamples = 8;       // rows that the parts are learned from
constexpr std::size_t kWordsMax = 256;    // of a line that is learned from
constexpr std::size_t kWholeShare = 4;    // more than this part of the rows do not fit: they are written whole
constexpr std::size_t kAhead = 8;         // rows whose texts are fetched before they are read: each is a miss or two of the cache
constexpr std::size_t kCacheLineBytes = 64;
constexpr std::uint64_t kTextBytesMax = 1u << 30;  // of a block, put together; more is damage

constexpr std::size_t kStep = 16;  // bytes that are looked at together

// One bit for each of the kStep bytes that is a space.
std::uint32_t spaces(const char* at) {
#if defined(__SSE2__)
  return static_cast<std::uint32_t>(_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(at)), _mm_set1_epi8(' '))));
#else
  std::uint32_t found = 0;
  for (std::size_t i = 0; i < kStep; ++i) found |= std::uint32_t{at[i] == ' '} << i;
  return found;
#endif
}

// Where the word that begins at `at` or goes on there ends. Words differ in length: there is no branch for each length.
std::size_t word_end(std::string_view text, std::size_t at) {
  const std::size_t size = text.size();
  while (size >= kStep && at < size) {
    const std::size_t from = std::min(at, size - kStep);
    if (const std::uint32_t found = spaces(text.data() + from) >> (at - from)) return at + static_cast<std::size_t>(std::countr_zero(found));
    at = from + kStep;
  }
  while (at < size && text[at] != ' ') ++at;
  return at;
}

// At most kWordsMax + 1.
void split_words(std::string_view text, std::vector<std::string_view>& words) {
  words.clear();
  for (std::size_t at = 0; at <= text.size() && words.size() <= kWordsMax;) {
    const std::size_t end = word_end(text, at);
    words.push_back(text.substr(at, end - at));
    at = end + 1;
  }
}

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

[[gnu::always_inline]] inline void fetch(std::span<const Detail* const> rows, std::size_t row) {  // see HashIndex::prefetch()
  if (row >= rows.size() || rows[row] == nullptr) return;
  for (std::size_t ahead = 0; ahead < 3; ++ahead) __builtin_prefetch(rows[row]->body_at + ahead * kCacheLineBytes);
}

std::string_view body_of(const Detail* detail) { return detail == nullptr ? std::string_view("") : detail->body(); }

}  // namespace

void TextEncoder::Shared::also(std::string_view other) {
  if (other == word) return;
  same = false;
  const std::size_t both = std::min(word.size(), other.size());
  prefix = std::min(prefix, static_cast<std::size_t>(std::mismatch(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(both), other.begin()).first - word.begin()));
  std::size_t end = 0;
  while (end < both && word[word.size() - 1 - end] == other[other.size() - 1 - end]) ++end;
  suffix = std::min(suffix, end);
  bytes_min = std::min(bytes_min, other.size());
}

// Not within a number or a name: other lines may have another first digit.
void TextEncoder::Shared::trim() {
  while (prefix > 0 && (digit(word[prefix - 1]) || letter(word[prefix - 1]))) --prefix;
  suffix = std::min(suffix, bytes_min - prefix);
  const auto cuts = [&](std::size_t at) { return (digit(word[at - 1]) && digit(word[at])) || (letter(word[at - 1]) && letter(word[at])); };
  while (suffix > 0 && suffix < word.size() && cuts(word.size() - suffix)) --suffix;
}

void TextEncoder::clear() {
  texts_.clear();
  heads_.clear();
  bytes_ = 0;
  grams_.clear();
}

bool TextEncoder::learn(std::span<const Detail* const> rows) {
  if (rows.size() < kRowsMin) return false;
  const std::size_t samples = std::min(rows.size(), kSamples);
  const auto sample = [&](std::size_t i) { return i * (rows.size() - 1) / (samples - 1); };
  for (std::size_t i = 0; i < samples; ++i) fetch(rows, sample(i));
  split_words(body_of(rows.front()), words_);
  if (words_.size() > kWordsMax) return false;
  shared_.clear();
  for (const std::string_view word : words_) shared_.emplace_back(word);
  std::size_t fitting = 1;
  for (std::size_t i = 1; i < samples; ++i) {
    split_words(body_of(rows[sample(i)]), words_);
    if (words_.size() != shared_.size()) continue;
    ++fitting;
    for (std::size_t word = 0; word < words_.size(); ++word) shared_[word].also(words_[word]);
  }
  if (fitting * 2 <= samples) return false;
  part_texts_.clear();
  parts_.assign(1, {});
  std::size_t begin = 0;  // of the last part
  const auto end_part = [&] { parts_.back().bytes = part_texts_.size() - begin; };
  for (std::size_t i = 0; i < shared_.size(); ++i) {
    Shared& word = shared_[i];
    if (i > 0) part_texts_ += ' ';
    if (word.same) {
      part_texts_ += word.word;
      continue;
    }
    word.trim();
    part_texts_ += word.word.substr(0, word.prefix);
    if (parts_.size() > kSlotsMax) return false;
    end_part();
    begin = part_texts_.size();
    part_texts_ += word.word.substr(word.word.size() - word.suffix);
    parts_.push_back({.suffix = word.suffix});
  }
  end_part();
  const char* at = part_texts_.data();
  for (Part& part : parts_) {
    part.text = {at, part.bytes};
    at += part.bytes;
    const std::size_t size = std::min<std::size_t>(part.bytes, 8);
    std::memcpy(&part.first, part.text.data(), size);
    part.mask = size == 8 ? UINT64_MAX : (std::uint64_t{1} << (8 * size)) - 1;
  }
  return true;
}

bool TextEncoder::split(std::string_view body, Span* slots) const {
  const auto stands = [&](const Part& part, std::size_t at) {
    const std::size_t size = part.text.size();
    if (size > body.size() - at) return false;
    const char* const here = body.data() + at;
    if (body.size() - at < 8) return std::memcmp(here, part.text.data(), size) == 0;
    if (((load64(here) ^ part.first) & part.mask) != 0) return false;
    if (size <= 8) return true;
    std::uint64_t difference = load64(here + size - 8) ^ load64(part.text.data() + size - 8);
    for (std::size_t i = 8; i + 8 < size; i += 8) difference |= load64(here + i) ^ load64(part.text.data() + i);
    return difference == 0;
  };
  if (!stands(parts_[0], 0)) return false;
  std::size_t at = parts_[0].text.size();
  for (std::size_t i = 1; i < parts_.size(); ++i) {
    const Part& part = parts_[i];
    const std::size_t end = word_end(body, at);
    if (end - at < part.suffix || !stands(part, end - part.suffix)) return false;
    slots[i - 1] = {static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(end - part.suffix - at)};
    at = end - part.suffix + part.text.size();
  }
  return at == body.size();
}

bool TextEncoder::add_split(std::span<const Detail* const> rows) {
  const std::size_t slots = parts_.size() - 1;
  slots_.resize(rows.size() * slots);
  whole_.clear();
  for (std::size_t row = 0; row < rows.size(); ++row) {
    fetch(rows, row + kAhead);
    const std::string_view body = body_of(rows[row]);
    Span* const own = slots_.data() + row * slots;
    if (!split(body, own)) {
      whole_.push_back(static_cast<std::uint32_t>(row));
      if (whole_.size() * kWholeShare > rows.size() + 2 * kWholeShare) return false;
      for (std::size_t i = 0; i < slots; ++i) own[i] = {0, UINT32_MAX};
      grams_.add(body);
      continue;
    }
    for (std::size_t i = 0; i < slots; ++i) grams_.add_part(body, own[i].begin, own[i].bytes);
  }
  for (const Part& part : parts_) {  // they begin at even places of some lines and at odd ones of others
    grams_.add(part.text);
    if (!part.text.empty()) grams_.add(part.text.substr(1));
  }
  put_varint(head_, parts_.size());
  for (const Part& part : parts_) put_string(head_, part.text);
  put_varint(head_, whole_.size());
  std::uint32_t next = 0;
  for (const std::uint32_t row : whole_) {
    put_varint(head_, row - next);
    put_varint(head_, body_of(rows[row]).size());
    next = row + 1;
  }
  for (std::size_t i = 0; i < slots; ++i) {
    std::size_t bytes = 0;
    append_with(head_, rows.size() * kVarintBytesMax, [&](char* to) {
      for (std::size_t at = i; at < slots_.size(); at += slots) {
        if (slots_[at].bytes == UINT32_MAX) continue;
        to = write_varint(to, slots_[at].bytes);
        bytes += slots_[at].bytes;
      }
      return to;
    });
    append_with(texts_, bytes + kStep, [&](char* to) {
      for (std::size_t row = 0; row < rows.size(); ++row) {
        const Span slot = slots_[row * slots + i];
        if (slot.bytes == UINT32_MAX) continue;
        const std::string_view body = body_of(rows[row]);
        if (slot.bytes <= kStep && slot.begin + kStep <= body.size()) {
          std::memcpy(to, body.data() + slot.begin, kStep);
          to += slot.bytes;
        } else {
          to = write_text(to, body.substr(slot.begin, slot.bytes));
        }
      }
      return to;
    });
  }
  for (const std::uint32_t row : whole_) texts_.append(body_of(rows[row]));
  return true;
}

void TextEncoder::add_whole(std::span<const Detail* const> rows) {
  put_varint(head_, 0);
  append_with(head_, rows.size() * kVarintBytesMax, [&](char* to) {
    for (const Detail* detail : rows) to = write_varint(to, body_of(detail).size());
    return to;
  });
  for (std::size_t row = 0; row < rows.size(); ++row) {
    fetch(rows, row + kAhead);
    texts_.append(body_of(rows[row]));
    grams_.add(body_of(rows[row]));
  }
}

void TextEncoder::add(std::span<const Detail* const> rows) {
  for (; !rows.empty(); rows = rows.subspan(std::min(rows.size(), kTextRows))) {
    const auto some = rows.first(std::min(rows.size(), kTextRows));
    const std::size_t before = texts_.size();
    head_.clear();
    if (!learn(some) || !add_split(some)) add_whole(some);
    for (const Detail* detail : some) bytes_ += body_of(detail).size();
    put_varint(heads_, texts_.size() - before);
    put_string(heads_, head_);
  }
}

void TextEncoder::put(std::string& column, std::string& grams) const {
  grams_.put(bytes_, grams);
  column.append(texts_).append(heads_);
  put_fixed64(column, heads_.size());
}

bool TextDecoder::open(std::string_view column) {
  if (column.size() < 8) return false;
  const std::uint64_t heads = Reader(column.substr(column.size() - 8)).fixed64();
  column.remove_suffix(8);
  if (heads > column.size()) return false;
  texts_ = column.substr(0, column.size() - heads);
  heads_ = column.substr(texts_.size());
  return true;
}

bool TextDecoder::section(std::string_view& texts, std::string_view& head) {
  Reader in(heads_);
  const std::uint64_t bytes = in.varint();
  head = in.string();
  if (!in.ok() || bytes > texts_.size()) return false;
  texts = texts_.substr(0, bytes);
  texts_.remove_prefix(bytes);
  heads_ = in.rest();
  return true;
}

bool TextDecoder::skip(std::size_t rows) {
  std::string_view texts, head;
  for (; rows > 0; rows -= std::min(rows, kTextRows)) {
    if (!section(texts, head)) return false;
  }
  return true;
}

bool TextDecoder::read(std::span<Detail* const> details, DetailStore& store) {
  for (; !details.empty(); details = details.subspan(std::min(details.size(), kTextRows))) {
    if (!read_section(details.first(std::min(details.size(), kTextRows)), store)) return false;
  }
  return true;
}

bool TextDecoder::read_section(std::span<Detail* const> details, DetailStore& store) {
  std::string_view texts, head;
  if (!section(texts, head)) return false;
  Reader in(head);
  const std::uint64_t parts = in.varint();
  if (!in.ok() || parts > kSlotsMax + 1) return false;
  if (parts == 0) {
    for (Detail* detail : details) {
      const std::uint64_t size = in.varint();
      if (!in.ok() || size > texts.size()) return false;
      detail->set_body(texts.substr(0, size));
      texts.remove_prefix(size);
    }
    return texts.empty() && in.left() == 0;
  }
  parts_.clear();
  std::size_t shared = 0;
  for (std::uint64_t i = 0; i < parts; ++i) shared += parts_.emplace_back(in.string()).size();
  const std::uint64_t whole = in.varint();
  if (!in.ok() || whole > details.size()) return false;
  // First all sizes, so that the texts get one piece of memory.
  const std::size_t slots = parts - 1, fitting = details.size() - whole;
  whole_.clear();
  std::uint64_t next = 0, whole_bytes = 0;
  for (std::uint64_t i = 0; i < whole; ++i) {
    const std::uint64_t distance = in.varint(), size = in.varint();
    if (!in.ok() || next >= details.size() || distance >= details.size() - next || size > texts.size()) return false;
    next += distance + 1;
    whole_bytes += size;
    whole_.push_back(static_cast<std::uint32_t>(next - 1));
    whole_.push_back(static_cast<std::uint32_t>(size));
  }
  sizes_.resize(slots * fitting);
  std::array<const char*, kSlotsMax> slot_at;
  std::uint64_t slot_bytes = 0;
  for (std::size_t slot = 0; slot < slots; ++slot) {
    slot_at[slot] = texts.data() + slot_bytes;
    std::uint32_t* const sizes = sizes_.data() + slot * fitting;
    for (std::size_t row = 0; row < fitting; ++row) {
      const std::uint64_t size = in.varint();
      if (size > texts.size()) return false;
      sizes[row] = static_cast<std::uint32_t>(size);
      slot_bytes += size;
    }
    if (slot_bytes > texts.size()) return false;
  }
  bytes_ += shared * fitting + slot_bytes;
  if (!in.ok() || in.left() != 0 || slot_bytes + whole_bytes != texts.size() || bytes_ > kTextBytesMax) return false;
  std::string_view wholes = texts.substr(slot_bytes);
  constexpr std::size_t kSlack = 16;  // a short piece is copied as if it had so many bytes
  const char* const texts_end = texts.data() + texts.size();
  std::string buffer;
  std::size_t row = 0, next_whole = 0;
  const auto copy = [](char* to, std::string_view piece, bool slack) {
    if (slack && piece.size() <= kSlack) {
      std::memcpy(to, piece.data(), kSlack);
    } else {
      std::memcpy(to, piece.data(), piece.size());
    }
    return to + piece.size();
  };
  std::array<bool, kSlotsMax + 1> part_slack;
  for (std::size_t i = 0; i < parts; ++i) part_slack[i] = static_cast<std::size_t>(head.data() + head.size() - parts_[i].data()) >= kSlack;
  std::vector<std::uint32_t> ends(fitting);
  buffer.resize_and_overwrite(shared * fitting + slot_bytes + kSlack, [&](char* begin, std::size_t) {
    char* to = begin;
    for (std::size_t fit = 0; fit < fitting; ++fit) {
      for (std::size_t i = 0; i < parts; ++i) {
        to = copy(to, parts_[i], part_slack[i]);
        if (i == slots) break;
        const std::string_view value(slot_at[i], sizes_[i * fitting + fit]);
        to = copy(to, value, static_cast<std::size_t>(texts_end - value.data()) >= kSlack);
        slot_at[i] += value.size();
      }
      ends[fit] = static_cast<std::uint32_t>(to - begin);
    }
    return static_cast<std::size_t>(to - begin);
  });
  const std::string_view kept = store.keep(std::move(buffer));
  for (std::size_t fit = 0, at = 0; row < details.size(); ++row) {
    if (next_whole < whole_.size() && whole_[next_whole] == row) {
      details[row]->set_body(wholes.substr(0, whole_[next_whole + 1]));
      wholes.remove_prefix(whole_[next_whole + 1]);
      next_whole += 2;
      continue;
    }
    details[row]->set_body(kept.substr(at, ends[fit] - at));
    at = ends[fit++];
  }
  return true;
}

}  // namespace culprit::stream
