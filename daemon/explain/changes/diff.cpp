#include "daemon/explain/changes/diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <span>

#include "daemon/explain/changes/words.h"
#include "daemon/explain/draft.h"
#include "daemon/explain/recorded/builder.h"

namespace culprit::explain {

namespace {

// Folders of what does not run in the service.
constexpr std::array kHarmlessFolders = std::to_array<std::string_view>({"testdata", "test", "tests", "__tests__", "golden", "doc", "docs", "static", ".github"});
constexpr std::array kHarmlessEndings = std::to_array<std::string_view>({".md", ".rst", ".adoc", ".css", ".scss", ".svg", ".golden", ".editorconfig", ".gitignore", "go.sum"});
constexpr std::array kHarmlessInfixes = std::to_array<std::string_view>({"_test.", ".test.", ".spec."});
constexpr std::array kHarmlessStems = std::to_array<std::string_view>({"makefile", "theme", ".golangci"});
// Of these texts (with .txt, or without an ending) we know that people read them; any other .txt may be what a build (CMakeLists,
// requirements) or the service reads.
constexpr std::array kProse = std::to_array<std::string_view>({
    "authors", "changelog", "changes", "codeowners", "contributing",
    "contributors", "copying", "licence", "license", "news", "notes", "notice", "readme", "todo"});

// A file of this path does not change what the service does.
bool is_harmless(std::string_view path) {  // in lower case
  const std::string_view file = path.substr(path.find_last_of('/') + 1);  // npos + 1 is 0
  const auto in = [](std::string_view word) { return [word](std::string_view part) { return word == part; }; };
  for (std::string_view folders = path.substr(0, path.size() - file.size()); !folders.empty();) {
    const auto end = folders.find('/');
    if (std::ranges::any_of(kHarmlessFolders, in(folders.substr(0, end)))) return true;
    folders.remove_prefix(end + 1);
  }
  const std::string_view stem = file.substr(0, file.find('.', 1)), ending = file.substr(stem.size());
  return std::ranges::any_of(kHarmlessEndings, [&](std::string_view one) { return file.ends_with(one); }) ||
         std::ranges::any_of(kHarmlessInfixes, [&](std::string_view one) { return file.find(one) != std::string_view::npos; }) ||
         std::ranges::any_of(kHarmlessStems, in(stem)) || ((ending.empty() || ending == ".txt") && std::ranges::any_of(kProse, in(stem)));
}

// Every line that went is compared with every one that came, so that both are bounded.
constexpr std::size_t kValueLinesMax = 300;
constexpr std::size_t kSettingLinesMax = 1'000;
constexpr std::size_t kLineMax = 1'000;  // bytes

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return out;
}

bool is_comment(std::string_view line) {
  while (true) {  // "/* limit */ n = 8" is code behind a comment
    line.remove_prefix(std::min(line.size(), line.find_first_not_of(" \t")));
    if (line.empty()) return true;
    if (!line.starts_with("/*") && !line.starts_with("*/")) break;
    const auto end = line.find("*/", line[0] == '/' ? 2 : 0);
    if (end == std::string_view::npos) return true;
    line.remove_prefix(end + 2);
  }
  if (line.starts_with("#")) {  // of C it is a directive, of Rust an attribute, of a script its interpreter
    constexpr std::array kDirectives = std::to_array<std::string_view>({"include", "define", "undef", "if", "el", "endif", "pragma", "error", "[", "!"});
    const std::string_view word = line.substr(std::min(line.size(), line.find_first_not_of(" \t", 1)));
    return line[1 < line.size() ? 1 : 0] == ' ' || std::ranges::none_of(kDirectives, [&](std::string_view directive) { return word.starts_with(directive); });
  }
  const bool dashes = line == "--" || line.starts_with("-- ");  // of SQL and Lua; "--flag" is none
  const bool directive = line.starts_with("//go:") || line.starts_with("// +build");  // of Go
  return dashes || (line.starts_with("//") && !directive) || line.starts_with("* ") || line == "*";
}

// Do two lines name the file of what follows, as "--- a/shop.go" and "+++ b/shop.go" do? "--n;" that became "++n;" looks alike, but is in the
// middle of a hunk. (The lengths in the heads of hunks would tell as well, but diffs that were shortened keep the old ones.)
bool are_names(std::span<const std::string_view> lines, std::size_t at) {
  if (at + 1 >= lines.size() || !lines[at].starts_with("--- ") || !lines[at + 1].starts_with("+++ ")) return false;
  const bool in_hunk = at > 0 && !lines[at - 1].empty() && std::string_view(" +-\\").contains(lines[at - 1][0]);
  return !in_hunk || (at + 2 < lines.size() && lines[at + 2].starts_with("@@"));
}

// The first number of a line, with the unit of time behind it if there is one, in its smallest unit.
bool value_in(std::string_view line, double& value, bool& of_time) {
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (line[i] < '0' || line[i] > '9') continue;
    if (i > 0 && ((line[i - 1] >= 'a' && line[i - 1] <= 'z') || (line[i - 1] >= 'A' && line[i - 1] <= 'Z') || line[i - 1] == '#' || line[i - 1] == '_')) {
      while (i < line.size() && line[i] != ' ') ++i;  // a digit in a name or colour
      continue;
    }
    std::size_t end = i;
    while (end < line.size() && ((line[end] >= '0' && line[end] <= '9') || line[end] == '.' || line[end] == '_')) ++end;
    std::string digits(line.substr(i, end - i));
    std::erase(digits, '_');
    const auto number = parse_number(digits);
    if (!number) return false;  // a version or an address
    const std::string rest = lower(line.substr(end, 24));
    double unit = 0;  // none
    // "500ms", "5 s"; or spelled out near by, as in "5*time.Second".
    const auto begin = std::min(rest.find_first_not_of(' '), rest.size());
    const std::string_view suffix = std::string_view(rest).substr(begin, rest.find_first_not_of("abcdefghijklmnopqrstuvwxyz", begin) - begin);
    for (const auto& [word, factor] : std::initializer_list<std::pair<std::string_view, double>>{
             {"ns", 1}, {"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 6e10}, {"h", 3.6e12}}) {
      if (suffix == word) unit = factor;
    }
    for (const auto& [word, factor] : std::initializer_list<std::pair<std::string_view, double>>{
             {"millisecond", 1e6}, {"microsecond", 1e3}, {"nanosecond", 1}, {"second", 1e9}, {"minute", 6e10}, {"hour", 3.6e12}}) {
      if (rest.find(word) != std::string::npos) {
        unit = factor;
        break;
      }
    }
    of_time = unit != 0;
    value = *number * (of_time ? unit : 1);
    return true;
  }
  return false;
}

// What a line is about, without its values: two lines alike are the same line with another value.
std::string frame_of(std::string_view line) {
  constexpr std::array kUnits = std::to_array<std::string_view>({"millisecond", "microsecond", "second", "minute", "hour"});
  std::string out;
  for (const std::string& word : words_of(line)) {
    const bool value = word[0] >= '0' && word[0] <= '9';  // "500ms"
    if (!value && std::ranges::find(kUnits, word) == kUnits.end()) out += word + " ";
  }
  return out;
}

struct ValueLine {
  std::string_view line;
  std::string frame;
  double value = 0;
  bool of_time = false;
};

// The lines that hold a value above 0, up to a bound: who changes more of them changes no value, but a whole file.
std::vector<ValueLine> value_lines(const std::vector<std::string_view>& lines) {
  std::vector<ValueLine> out;
  for (const std::string_view line : lines) {
    if (out.size() >= kValueLinesMax) break;
    ValueLine one{.line = line.substr(0, kLineMax), .frame = {}};
    if (!value_in(one.line, one.value, one.of_time) || one.value <= 0) continue;
    one.frame = frame_of(one.line);
    if (!one.frame.empty()) out.push_back(std::move(one));
  }
  return out;
}

}  // namespace

std::vector<DiffLine> changed_lines(std::string_view diff) {
  std::vector<std::string_view> lines;
  while (!diff.empty()) {
    const auto end = std::min(diff.find('\n'), diff.size());
    lines.push_back(diff.substr(0, end));
    diff.remove_prefix(std::min(diff.size(), end + 1));
  }
  std::vector<DiffLine> out;
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (are_names(lines, i)) {
      ++i;
    } else if (lines[i].starts_with('+') || lines[i].starts_with('-')) {
      out.push_back({lines[i][0], lines[i].substr(1)});
    }
  }
  return out;
}

DiffShape shape_of(const RecordedChange& commit) {
  DiffShape out;
  bool code = commit.files.empty();
  for (const std::string& file : commit.files) {
    const std::string name = lower(file);
    const bool safe = is_harmless(name);
    code = code || !safe;
    for (const std::string_view ending : {".yaml", ".yml", ".toml", ".ini", ".conf", ".json", ".properties", ".env"}) out.setting = out.setting || (name.ends_with(ending) && !safe && !name.ends_with("package-lock.json"));
  }
  std::vector<std::string_view> gone, come;
  for (const DiffLine& line : changed_lines(commit.diff)) {
    if (!is_comment(line.text)) (line.sign == '-' ? gone : come).push_back(line.text);
  }
  out.harmless = !code || (!commit.diff.empty() && gone.empty() && come.empty());
  std::set<std::string> before, after;
  for (const std::string_view line : gone) {
    for (std::string& word : words_of(line)) before.insert(std::move(word));
  }
  for (const std::string_view line : come) {
    for (std::string& word : words_of(line)) after.insert(std::move(word));
  }
  double lost = 0;
  for (const std::string& word : before) lost += after.contains(word) ? 0 : 1;
  if (!before.empty()) out.removed = lost / static_cast<double>(before.size() + 2);
  const std::vector<ValueLine> values_now = value_lines(come);
  for (const ValueLine& was : value_lines(gone)) {
    for (const ValueLine& is : values_now) {
      // The same line but for its value; a name may have changed with it ("ctx", "callCtx").
      if (was.value == is.value || was.of_time != is.of_time ||  // "500m" to "1" is a share of a CPU, "512m" to "1g" memory
          (was.frame.find(is.frame) == std::string::npos && is.frame.find(was.frame) == std::string::npos)) continue;
      const double change = std::min(6.0, std::fabs(std::log2(is.value / was.value)));
      if (change > out.value_change) {
        out.value_change = change;
        out.text = fmt::format("a value changed {:.3g}-fold: {}", is.value > was.value ? is.value / was.value : was.value / is.value, short_line(is.line, 80));
      }
    }
  }
  // A setting whose value is a word: "level: info" to "level: debug".
  if (out.setting && out.value_change < 1) {
    gone.resize(std::min(gone.size(), kSettingLinesMax));
    come.resize(std::min(come.size(), kSettingLinesMax));
    for (const std::string_view old_line : gone) {
      const auto colon = old_line.find_first_of(":=");
      if (colon == std::string_view::npos) continue;
      for (const std::string_view new_line : come) {
        double ignored = 0;
        bool ignored_too = false;
        if (new_line.starts_with(old_line.substr(0, colon + 1)) && new_line != old_line && !value_in(new_line.substr(0, kLineMax), ignored, ignored_too)) {
          out.value_change = 1;
          out.text = fmt::format("a setting changed: {}", short_line(new_line.substr(new_line.find_first_not_of(" \t")), 80));
        }
      }
    }
  }
  return out;
}

}  // namespace culprit::explain
