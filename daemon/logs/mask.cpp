#include "daemon/logs/mask.h"

#include <algorithm>
#include <array>

namespace culprit::logs {
namespace {

bool digit(char c) { return c >= '0' && c <= '9'; }
bool letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80; }
bool hex(char c) { return digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
bool space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\v' || c == '\f'; }
// What a piece of a word is made of; all else stands between pieces.
bool piece_char(char c) {
  return digit(c) || letter(c) || c == '.' || c == '_' || c == '-' || c == '/' || c == '\\' || c == '$' || c == '%' || c == '+' || c == '~';
}
bool any_digit(std::string_view text) { return std::any_of(text.begin(), text.end(), digit); }
bool all_hex(std::string_view text) { return std::all_of(text.begin(), text.end(), hex); }

// 8-4-4-4-12 hex digits at the front.
bool uuid_front(std::string_view text) {
  if (text.size() < 36) return false;
  for (std::size_t i = 0; i < 36; ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? text[i] != '-' : !hex(text[i])) return false;
  }
  return true;
}

// fe80::1, 00:0D:60:E9, 12:34:56.789: hex digits with two colons or more, and a digit.
bool colon_address(std::string_view text) {
  return std::count(text.begin(), text.end(), ':') >= 2 && any_digit(text) &&
         std::all_of(text.begin(), text.end(), [](char c) { return hex(c) || c == ':' || c == '.'; });
}

bool path(std::string_view piece) {
  if (piece.size() < 2) return false;
  if (piece.starts_with('/') || piece.starts_with("./") || piece.starts_with("../") || piece.starts_with("~/")) return true;
  return std::count(piece.begin(), piece.end(), '/') >= 2 || std::count(piece.begin(), piece.end(), '\\') >= 2;
}

// Digits inside letters: "blk" + 17 stays "blk<*>", but "a1b2c3" is no word at all.
void mask_part(std::string_view part, std::string& out) {
  if (!any_digit(part)) {
    out += part;
    return;
  }
  std::size_t runs = 0;
  for (std::size_t i = 0; i < part.size(); ++i) runs += digit(part[i]) && (i == 0 || !digit(part[i - 1])) ? 1 : 0;
  if (digit(part[0]) || runs > 2 || (part.size() >= 4 && all_hex(part)) || (runs == 2 && part.size() >= 8)) {
    out += kWildcard;
    return;
  }
  for (std::size_t i = 0; i < part.size(); ++i) {
    if (!digit(part[i])) {
      out += part[i];
    } else if (i == 0 || !digit(part[i - 1])) {
      out += kWildcard;
    }
  }
}

void mask_piece(std::string_view piece, std::string& out) {
  // Dots and dashes that end a piece belong to the sentence: "done...", "loading 7."
  const std::size_t last = piece.find_last_not_of(".-+~_%");
  const std::string_view tail = last == std::string_view::npos ? piece : piece.substr(last + 1);
  std::string_view core = piece.substr(0, piece.size() - tail.size());
  const std::size_t first = core.find_first_not_of("-+~.");
  if (first == std::string_view::npos) {
    out += piece;
    return;
  }
  if (path(core)) {
    out += kWildcard;
    return;
  }
  const std::string_view body = core.substr(first);
  if (first > 2) out += core.substr(0, first);  // leading dots or dashes as an ornament: "....0"
  if (digit(body[0])) {
    out += kWildcard;  // numbers, dates, versions, addresses, "12ms", "3rd"
    if (!tail.starts_with('%')) out += tail;
    return;
  }
  if (!any_digit(body)) {
    if (first <= 2) out += core.substr(0, first);
    out += body;
    out += tail;
    return;
  }
  if (body.size() >= 6 && all_hex(body)) {
    out += kWildcard;
    out += tail;
    return;
  }
  if (std::count(body.begin(), body.end(), '.') >= 2) {  // host7.rack1.example.net
    out += kWildcard;
    out += tail;
    return;
  }
  if (first <= 2) out += core.substr(0, first);
  for (std::size_t i = 0; i < body.size();) {
    if (uuid_front(body.substr(i))) {
      out += kWildcard;
      i += 36;
      continue;
    }
    if (!digit(body[i]) && !letter(body[i])) {
      const bool sign = body[i] == '-' && i > 0 && body[i - 1] == '_' && i + 1 < body.size() && digit(body[i + 1]);
      if (!sign) out += body[i];
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < body.size() && (digit(body[end]) || letter(body[end]))) ++end;
    mask_part(body.substr(i, end - i), out);
    i = end;
  }
  out += tail;
}

bool value_end(char c) {
  return c == ',' || c == ';' || c == ')' || c == '}' || c == ']' || c == '|' || c == '&' || c == '"' || c == '\'';
}

// Replaces <*>:<*>, <*>##<*>, <*>-<*> and the like, from `begin` on, by one <*>.
void collapse(std::string& text, std::size_t begin) {
  std::size_t from = begin;
  for (;;) {
    const std::size_t first = text.find(kWildcard, from);
    if (first == std::string::npos) return;
    std::size_t next = first + kWildcard.size();
    std::size_t gap = 0;
    while (next + gap < text.size() && gap < 3 && !letter(text[next + gap]) && !digit(text[next + gap]) &&
           !std::string_view(text).substr(next + gap).starts_with(kWildcard) && text[next + gap] != '(' &&
           text[next + gap] != ')' && text[next + gap] != '[' && text[next + gap] != ']' && text[next + gap] != '=') {
      ++gap;
    }
    if (std::string_view(text).substr(next + gap).starts_with(kWildcard)) {
      text.erase(next, gap + kWildcard.size());
      from = first;
    } else {
      from = next;
    }
  }
}

void mask_word(std::string_view word, std::string& out) {
  constexpr std::array<std::string_view, 3> kEmptyBrackets = {"()", "[]", "{}"};
  if (std::find(kEmptyBrackets.begin(), kEmptyBrackets.end(), word) != kEmptyBrackets.end()) {
    (out += word[0]) += kWildcard;  // an empty value is a value
    out += word[1];
    return;
  }
  constexpr std::array<std::string_view, 8> kValues = {"true", "false", "null", "nil", "None", "True", "False", "NULL"};
  if (std::find(kValues.begin(), kValues.end(), word) != kValues.end()) {
    out += kWildcard;
    return;
  }
  const std::size_t begin = out.size();
  {
    // An address of colons inside brackets or before a full stop.
    const std::size_t first = word.find_first_not_of("([{<\"'/");
    const std::size_t last = word.find_last_not_of(")]}>\"',;:.");
    if (first != std::string_view::npos && last != std::string_view::npos && last > first &&
        colon_address(word.substr(first, last - first + 1))) {
      const std::size_t ornament = word.substr(0, first).ends_with('/') ? first - 1 : first;
      out += word.substr(0, ornament);
      out += kWildcard;
      out += word.substr(last + 1);
      return;
    }
  }
  for (std::size_t i = 0; i < word.size();) {
    const char c = word[i];
    if (c == '=' && i > 0 && (digit(word[i - 1]) || letter(word[i - 1]) || word[i - 1] == '_' || word[i - 1] == ']') &&
        !word.substr(i + 1).starts_with('=')) {
      std::size_t end = i + 1;
      const std::string_view rest = word.substr(i + 1);
      if (rest.starts_with('{') || rest.starts_with('[') || rest.starts_with('(')) {  // a list: look inside
        out += c;
        ++i;
        continue;
      }
      if (rest.starts_with('"') || rest.starts_with('\'')) {
        const std::size_t close = word.find(word[i + 1], i + 2);
        end = close == std::string_view::npos ? word.size() : close + 1;
      } else {
        while (end < word.size() && !value_end(word[end])) ++end;
      }
      out += c;
      out += kWildcard;
      i = end;
      continue;
    }
    if (!piece_char(c)) {
      out += c;
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < word.size() && piece_char(word[end])) ++end;
    if (end > i && word.substr(end).starts_with("://")) {  // a URL takes the rest of the word
      end = word.find_first_of("\"'<>)],;", end);
      if (end == std::string_view::npos) end = word.size();
      out += kWildcard;
      i = end;
      continue;
    }
    if (word.substr(end).starts_with('?') && path(word.substr(i, end - i))) {  // and so does a path's query
      end = std::min(word.find_first_of("\"'<>)],;", end), word.size());
    }
    mask_piece(word.substr(i, end - i), out);
    i = end;
  }
  if (out.find(kWildcard, begin) != std::string::npos) collapse(out, begin);
}

bool one_of(std::string_view word, std::string_view three_letters) {
  if (word.size() != 3) return false;
  for (std::size_t i = 0; i + 3 <= three_letters.size(); i += 3) {
    if (three_letters.substr(i, 3) == word) return true;
  }
  return false;
}
bool month(std::string_view word) { return one_of(word, "JanFebMarAprMayJunJulAugSepOctNovDec"); }
bool weekday(std::string_view word) { return one_of(word, "MonTueWedThuFriSatSun"); }

}  // namespace

void mask(std::string_view message, std::size_t words_max, Masked& out) {
  out.text.clear();
  out.words.clear();
  out.raw.clear();
  out.raw_begin.clear();
  for (std::size_t i = 0; i < message.size() && out.raw.size() < words_max;) {
    if (space(message[i])) {
      ++i;
      continue;
    }
    std::size_t end = i;
    while (end < message.size() && !space(message[end])) ++end;
    out.raw.push_back(message.substr(i, end - i));
    i = end;
  }
  std::vector<std::pair<std::size_t, std::size_t>> spans;  // into text, which may still move
  std::string last;  // the word before, if it holds a value
  for (std::size_t i = 0; i < out.raw.size(); ++i) {
    const std::size_t begin = out.text.size();
    const std::string_view next = i + 1 < out.raw.size() ? out.raw[i + 1] : std::string_view();
    const std::string_view before = i > 0 ? out.raw[i - 1] : std::string_view();
    const bool date = (month(out.raw[i]) && (any_digit(next) || any_digit(before))) ||
                      (weekday(out.raw[i]) && (month(next) || any_digit(next)));
    if (date) {
      out.text += kWildcard;
    } else {
      mask_word(out.raw[i], out.text);
    }
    const std::string_view word = std::string_view(out.text).substr(begin);
    if (!last.empty() && word == last) {  // a run of values is one value: dates, lists
      out.text.resize(begin);
      continue;
    }
    last = word.find(kWildcard) == std::string_view::npos ? std::string_view() : word;
    spans.emplace_back(begin, out.text.size() - begin);
    out.raw_begin.push_back(i);
    out.text += ' ';
  }
  if (!out.text.empty()) out.text.pop_back();
  out.raw_begin.push_back(out.raw.size());
  for (const auto& [begin, size] : spans) out.words.push_back(std::string_view(out.text).substr(begin, size));
}

namespace {

// The letters of a masked word that could be a word of the sentence: runs of four or more.
bool next_letters(std::string_view& word, std::string_view& letters) {
  while (!word.empty()) {
    std::size_t end = 0;
    while (end < word.size() && letter(word[end])) ++end;
    letters = word.substr(0, end);
    word.remove_prefix(std::min(word.size(), std::max<std::size_t>(end, 1)));
    if (end >= 4) return true;
  }
  return false;
}

}  // namespace

bool differ_in_values(std::string_view a, std::string_view b) {
  if (!looks_variable(a) || !looks_variable(b)) return false;
  if (a.find(kWildcard) == std::string_view::npos || b.find(kWildcard) == std::string_view::npos) return true;
  for (;;) {
    std::string_view left, right;
    const bool more = next_letters(a, left);
    if (more != next_letters(b, right) || (more && left != right)) return false;
    if (!more) return true;
  }
}

bool looks_variable(std::string_view word) {
  if (word.find(kWildcard) != std::string_view::npos) return true;
  while (!word.empty() && !letter(word.back()) && !digit(word.back())) word.remove_suffix(1);
  while (!word.empty() && !letter(word.front()) && !digit(word.front())) word.remove_prefix(1);
  if (word.find('@') != std::string_view::npos || word.find('\\') != std::string_view::npos) return true;
  // host.example.net, file.txt: small letters, and a short last part.
  const std::size_t dot = word.rfind('.');
  if (dot == std::string_view::npos || dot == 0) return false;
  const std::size_t last = word.size() - dot - 1;
  return last >= 2 && last <= 4 && std::none_of(word.begin(), word.end(), [](char c) {
    return !((c >= 'a' && c <= 'z') || c == '.' || c == '-' || c == '_');
  });
}

}  // namespace culprit::logs
