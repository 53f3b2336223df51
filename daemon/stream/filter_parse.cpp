// The filter's text to its program: a tokenizer of words, quoted texts and signs, and recursive descent.
#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <charconv>

#include "daemon/base/text.h"
#include "daemon/stream/codec.h"
#include "daemon/stream/filter_program.h"

namespace culprit::stream {
namespace {

constexpr std::int64_t kRegexBytesMax = 1 << 20;  // of RE2's program and its caches

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool starts_field(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool in_field(char c) { return starts_field(c) || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '/'; }

struct Token {
  enum class Type { End, Word, Quoted, Sign } type = Type::End;
  std::string text = {};
  std::size_t column = 0;

  bool word(std::string_view wanted) const { return type == Type::Word && text == wanted; }
  bool sign(std::string_view wanted) const { return type == Type::Sign && text == wanted; }
  std::string said() const { return type == Type::End ? "the end" : fmt::format("'{}'", sanitize_utf8(text)); }
};

constexpr std::pair<std::string_view, Field> kFields[] = {
    {"kind", Field::Kind},         {"entity", Field::Entity}, {"name", Field::Name},        {"service", Field::Service},
    {"severity", Field::Severity}, {"value", Field::Value},   {"body", Field::Body},        {"trace_id", Field::TraceId},
    {"span_id", Field::SpanId},
};
constexpr std::string_view kKeywords[] = {"and", "or", "not", "in", "has", "contains", "near"};

bool is_text(Field field) {
  return field == Field::Entity || field == Field::Name || field == Field::Service || field == Field::Body || field == Field::Attribute;
}

}  // namespace

class FilterParser {
 public:
  explicit FilterParser(std::string_view text) : text_(text) {}
  Result<Filter> parse();

 private:
  std::unexpected<Error> wrong(std::size_t column, std::string what) const {
    return fail(Code::Invalid, fmt::format("filter, column {}: {}", column, what));
  }
  void skip_spaces() {
    while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  }
  Result<void> next();          // a field's name, a keyword, a quoted text or a sign
  Result<Token> value();        // what stands behind an operator: many signs belong to a word here
  Result<Token> quoted();
  Result<std::size_t> any_of(std::size_t depth);
  Result<std::size_t> all_of(std::size_t depth);
  Result<std::size_t> one(std::size_t depth);
  Result<std::size_t> comparison();
  Result<void> set_values(Node& node, const std::vector<Token>& values, const std::string& field, std::string_view sign);
  Result<void> set_severity(Node& node, const Token& token);
  Result<void> set_ids(Node& node, const std::vector<Token>& values);
  std::size_t add(Node node) {
    program_->nodes.push_back(std::move(node));
    return program_->nodes.size() - 1;
  }
  std::size_t negated(std::size_t index) {
    Node node{.type = Node::Type::Not};
    node.children = {index};
    return add(std::move(node));
  }
  std::size_t joined(Node::Type type, std::vector<std::size_t> children) {
    if (children.size() == 1) return children.front();
    Node node{.type = type};
    node.children = std::move(children);
    return add(std::move(node));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  Token token_;  // the next one
  std::size_t terms_ = 0;
  std::shared_ptr<Filter::Program> program_ = std::make_shared<Filter::Program>();
};

Result<Token> FilterParser::quoted() {
  Token token{.type = Token::Type::Quoted, .column = at_ + 1};
  for (++at_; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '"') {
      ++at_;
      return token;
    }
    if (c != '\\') {
      token.text += c;
      continue;
    }
    const char escaped = ++at_ < text_.size() ? text_[at_] : '\0';
    switch (escaped) {
      case '"':
      case '\\': token.text += escaped; break;
      case 'n': token.text += '\n'; break;
      case 't': token.text += '\t'; break;
      default:  // "\d" of a regular expression needs no second backslash
        token.text += '\\';
        if (at_ < text_.size()) token.text += escaped;
    }
  }
  return wrong(token.column, "this quote is never closed");
}

Result<void> FilterParser::next() {
  skip_spaces();
  token_ = Token{.column = at_ + 1};
  if (at_ == text_.size()) return {};
  const char c = text_[at_];
  if (c == '"') {
    ASSIGN(token_, quoted());
    return {};
  }
  if (starts_field(c)) {
    token_.type = Token::Type::Word;
    while (at_ < text_.size() && in_field(text_[at_])) token_.text += text_[at_++];
    return {};
  }
  token_.type = Token::Type::Sign;
  token_.text = c;
  ++at_;
  if ((c == '<' || c == '>' || c == '!') && at_ < text_.size() && text_[at_] == '=') token_.text += text_[at_++];
  if (c == '=' && at_ < text_.size() && text_[at_] == '=') ++at_;  // as in programs
  if (std::string_view("=<>~(),").find(c) == std::string_view::npos && token_.text != "!=") {
    return wrong(token_.column, fmt::format("'{}' means nothing here; put texts in double quotes", sanitize_utf8(token_.text)));
  }
  return {};
}

Result<Token> FilterParser::value() {
  skip_spaces();
  if (at_ < text_.size() && text_[at_] == '"') return quoted();
  Token token{.type = Token::Type::Word, .column = at_ + 1};
  int braces = 0;  // labels of a series: syscall.errors{errno="ENOSPC",syscall="write"}
  for (; at_ < text_.size(); ++at_) {
    const char c = text_[at_];
    if (c == '{') ++braces;
    if (c == '}' && braces > 0) --braces;
    if (braces == 0 && (is_space(c) || c == '(' || c == ')' || c == ',' || c == '"')) break;
    token.text += c;
  }
  if (braces > 0) return wrong(token.column, "the brace of this word is never closed");
  if (token.text.empty()) {
    return wrong(token.column, at_ == text_.size() ? "a value is missing at the end"
                                                   : fmt::format("a value is missing before '{}'", sanitize_utf8(text_.substr(at_, 1))));
  }
  return token;
}

Result<Filter> FilterParser::parse() {
  if (text_.size() > kFilterBytesMax) {
    return wrong(kFilterBytesMax, fmt::format("the filter has {} bytes, at most {} are taken", text_.size(), kFilterBytesMax));
  }
  TRY(next());
  if (token_.type == Token::Type::End) return Filter();
  ASSIGN(program_->root, any_of(0));
  if (token_.type != Token::Type::End) return wrong(token_.column, fmt::format("{} closes nothing", token_.said()));
  program_->finish();
  return Filter(std::move(program_));
}

Result<std::size_t> FilterParser::any_of(std::size_t depth) {
  if (depth > kFilterDepthMax) return wrong(token_.column, fmt::format("more than {} levels of brackets", kFilterDepthMax));
  std::vector<std::size_t> children;
  for (;;) {
    ASSIGN(const std::size_t child, all_of(depth));
    children.push_back(child);
    if (!token_.word("or")) return joined(Node::Type::Or, std::move(children));
    TRY(next());
  }
}

Result<std::size_t> FilterParser::all_of(std::size_t depth) {
  std::vector<std::size_t> children;
  for (;;) {
    ASSIGN(const std::size_t child, one(depth));
    children.push_back(child);
    if (token_.word("and")) {
      TRY(next());
    } else if (token_.type == Token::Type::End || token_.word("or") || token_.sign(")")) {
      return joined(Node::Type::And, std::move(children));
    }  // else: two terms side by side mean "and"
  }
}

Result<std::size_t> FilterParser::one(std::size_t depth) {
  if (depth > kFilterDepthMax) return wrong(token_.column, fmt::format("more than {} levels of brackets", kFilterDepthMax));
  if (token_.word("not")) {
    TRY(next());
    ASSIGN(const std::size_t child, one(depth + 1));
    return negated(child);
  }
  if (token_.sign("(")) {
    const std::size_t column = token_.column;
    TRY(next());
    ASSIGN(const std::size_t child, any_of(depth + 1));
    if (!token_.sign(")")) return wrong(token_.column, fmt::format("')' for the bracket of column {} is missing", column));
    TRY(next());
    return child;
  }
  return comparison();
}

Result<std::size_t> FilterParser::comparison() {
  if (++terms_ > kFilterTermsMax) return wrong(token_.column, fmt::format("more than {} comparisons", kFilterTermsMax));
  Node node{.column = token_.column};
  const bool has = token_.word("has");
  if (has) {
    TRY(next());
    node.op = Op::Has;
  }
  if (token_.type != Token::Type::Word && token_.type != Token::Type::Quoted) {
    return wrong(token_.column, fmt::format("a field or a quoted text is expected, not {}", token_.said()));
  }
  if (token_.type == Token::Type::Word && std::ranges::find(kKeywords, token_.text) != std::end(kKeywords)) {
    return wrong(token_.column, fmt::format("a field is expected before {}; a text or an attribute of that name needs quotes", token_.said()));
  }
  const Token field = token_;
  const auto* known = std::ranges::find(kFields, field.text, [](const auto& pair) { return pair.first; });
  node.field = field.type == Token::Type::Word && known != std::end(kFields) ? known->second : Field::Attribute;
  if (node.field == Field::Attribute) node.attribute = field.text;
  if (has) {
    if (node.field == Field::Kind || node.field == Field::Entity || node.field == Field::Name || node.field == Field::Service) {
      return wrong(field.column, fmt::format("'has' asks for an attribute, body, value, severity, trace_id or span_id, not '{}'", field.text));
    }
    TRY(next());
    return add(std::move(node));
  }
  TRY(next());
  const Token sign = token_;
  const bool is_sign = sign.type == Token::Type::Sign && !sign.sign("(") && !sign.sign(")") && !sign.sign(",");
  if (!is_sign && !sign.word("in") && !sign.word("contains") && !sign.word("near")) {
    if (field.type == Token::Type::Quoted) {  // a text alone: somewhere in the body
      node.field = Field::Body;
      node.op = Op::Contains;
      node.attribute.clear();
      std::string text = field.text;
      std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
      node.patterns = {{std::move(text), false}};
      return add(std::move(node));
    }
    return wrong(sign.column, fmt::format("an operator (= != < <= > >= ~ in contains near) is expected after '{}', not {}", field.text, sign.said()));
  }
  std::vector<Token> values;
  if (sign.word("in")) {
    TRY(next());
    if (!token_.sign("(")) return wrong(token_.column, fmt::format("'(' is expected after 'in', not {}", token_.said()));
    do {
      ASSIGN(Token value_of, value());
      values.push_back(std::move(value_of));
      if (values.size() > kFilterTermsMax) return wrong(values.back().column, fmt::format("more than {} values", kFilterTermsMax));
      TRY(next());
    } while (token_.sign(","));
    if (!token_.sign(")")) return wrong(token_.column, fmt::format("',' or ')' is expected, not {}", token_.said()));
  } else {
    ASSIGN(Token value_of, value());
    values.push_back(std::move(value_of));
  }
  TRY(set_values(node, values, field.text, sign.text));
  TRY(next());
  const std::size_t index = add(std::move(node));
  return sign.sign("!=") ? negated(index) : index;
}

Result<void> FilterParser::set_values(Node& node, const std::vector<Token>& values, const std::string& field, std::string_view sign) {
  const Token& first = values.front();
  const bool equal = sign == "=" || sign == "!=" || sign == "in";
  node.op = equal            ? Op::Equal
            : sign == "<"    ? Op::Less
            : sign == "<="   ? Op::LessEqual
            : sign == ">"    ? Op::More
            : sign == ">="   ? Op::MoreEqual
            : sign == "~"    ? Op::Regex
            : sign == "near" ? Op::Near
                             : Op::Contains;
  const bool ordered = node.op == Op::Less || node.op == Op::LessEqual || node.op == Op::More || node.op == Op::MoreEqual;
  const auto unfit = [&] { return wrong(node.column, fmt::format("'{}' cannot be compared by '{}'", field, sign)); };
  if (node.op == Op::Near) {
    if (node.field != Field::Entity) return unfit();
    const std::size_t slash = first.text.rfind('/');
    const std::string_view digits = slash == std::string::npos ? std::string_view() : std::string_view(first.text).substr(slash + 1);
    const bool counted = !digits.empty() && digits.find_first_not_of("0123456789") == std::string_view::npos;
    node.hops = 1;
    if (counted) {
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), node.hops);
      if (error != std::errc() || node.hops > kFilterHopsMax) return wrong(first.column, fmt::format("at most {} hops are followed", kFilterHopsMax));
    }
    node.patterns = {{counted ? first.text.substr(0, slash) : first.text, false}};
    return {};
  }
  switch (node.field) {
    case Field::Kind:
      if (!equal) return unfit();
      for (const Token& token : values) {
        const auto kind = parse_kind(token.text);
        if (!kind) return wrong(token.column, kind.error().message);
        node.kinds |= 1u << static_cast<unsigned>(*kind);
      }
      return {};
    case Field::Severity:
      if (!equal && !ordered) return unfit();
      if (values.size() > 1) return wrong(node.column, "'severity' takes one value: levels are ordered");
      return set_severity(node, first);
    case Field::Value: {
      if (values.size() > 1 || (!equal && !ordered)) return unfit();
      const auto number = parse_number(first.text);
      if (!number) return wrong(first.column, fmt::format("{} is no number such as 0.5, 200ms or 64MiB", first.said()));
      node.number = *number;
      return {};
    }
    case Field::TraceId:
    case Field::SpanId:
      if (!equal) return unfit();
      return set_ids(node, values);
    default: break;
  }
  if (ordered) {
    if (node.field != Field::Attribute) return unfit();
    const auto number = parse_number(first.text);
    if (!number) return wrong(first.column, fmt::format("{} is no number such as 0.5, 200ms or 64MiB", first.said()));
    node.number = *number;
    return {};
  }
  if (node.op == Op::Regex) {
    RE2::Options options(RE2::Quiet);
    options.set_max_mem(kRegexBytesMax);
    options.set_encoding(RE2::Options::EncodingLatin1);  // bodies may hold any bytes
    auto regex = std::make_shared<RE2>(first.text, options);
    if (!regex->ok()) return wrong(first.column, fmt::format("{} is no regular expression: {}", first.said(), sanitize_utf8(regex->error())));
    node.regex = std::move(regex);
    return {};
  }
  for (const Token& token : values) {
    const bool glob = node.op == Op::Equal && token.type == Token::Type::Word && token.text.find_first_of("*?") != std::string::npos;
    std::string text = token.text;
    if (node.op == Op::Contains) {
      std::ranges::transform(text, text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    }
    node.patterns.push_back({std::move(text), glob});
  }
  return is_text(node.field) ? Result<void>() : unfit();
}

Result<void> FilterParser::set_severity(Node& node, const Token& token) {
  static constexpr std::uint8_t kLevels[] = {kTrace, kDebug, kInfo, kWarn, kError, kFatal};
  int from = -1;
  int to = -1;
  for (const std::uint8_t level : kLevels) {
    if (token.text != severity_name(level)) continue;
    from = level;  // a name is four numbers: error, error2, error3, error4
    to = level + 3;
  }
  if (from < 0) {
    const auto [end, error] = std::from_chars(token.text.data(), token.text.data() + token.text.size(), from);
    if (error != std::errc() || end != token.text.data() + token.text.size() || from < 0 || from > 24) {
      return wrong(token.column, fmt::format("{} is none of trace, debug, info, warn, error, fatal, 1 to 24", token.said()));
    }
    to = from;
  }
  const Op op = node.op;
  const int low = op == Op::Equal || op == Op::MoreEqual ? from : op == Op::More ? to + 1 : 0;
  const int high = op == Op::Equal || op == Op::LessEqual ? to : op == Op::Less ? from - 1 : 255;
  // "< 0" can be no severity at all: an empty range.
  node.severity_from = static_cast<std::uint8_t>(high < 0 ? 1 : low);
  node.severity_to = static_cast<std::uint8_t>(std::max(high, 0));
  return {};
}

Result<void> FilterParser::set_ids(Node& node, const std::vector<Token>& values) {
  const std::size_t digits = node.field == Field::TraceId ? 32 : 16;
  for (const Token& token : values) {
    std::array<std::uint64_t, 2> id = {0, 0};
    bool good = token.text.size() == digits;
    for (std::size_t i = 0; good && i < digits; i += 16) {
      const char* begin = token.text.data() + i;
      auto& half = id[digits == 32 ? i / 16 : 1];
      const auto [end, error] = std::from_chars(begin, begin + 16, half, 16);
      good = error == std::errc() && end == begin + 16;
    }
    if (!good) return wrong(token.column, fmt::format("{} is no id of {} hex digits", token.said(), digits));
    node.ids.push_back(id);
  }
  return {};
}

Result<Filter> parse_filter(std::string_view text) { return FilterParser(text).parse(); }

}  // namespace culprit::stream
