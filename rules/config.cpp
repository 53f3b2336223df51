// Readers of configuration formats. None of them judges a value: they only find names, values and lines.
#include "rules/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "graph/yaml.h"

namespace culprit::rules {
namespace {

constexpr int kDepthMax = 64;
constexpr std::string_view kFormats[] = {"nginx", "postgresql", "redis", "ini", "env", "yaml", "json"};

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  }
  return result;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t' || text.front() == '\r')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r')) text.remove_suffix(1);
  return text;
}

std::string_view unquote(std::string_view text) {
  if (text.size() >= 2 && (text.front() == '"' || text.front() == '\'') && text.back() == text.front()) {
    text.remove_prefix(1);
    text.remove_suffix(1);
  }
  return text;
}

// Calls line(number, text) for each line.
template <typename Line>
void each_line(std::string_view text, Line line) {
  int number = 0;
  while (!text.empty()) {
    ++number;
    const auto end = std::min(text.find('\n'), text.size());
    line(number, trim(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

// Everything after the first '#' that is outside quotes goes.
std::string_view without_comment(std::string_view line, std::string_view marks) {
  char quote = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    if (quote != 0) {
      if (line[i] == quote) quote = 0;
    } else if (line[i] == '"' || line[i] == '\'') {
      quote = line[i];
    } else if (marks.find(line[i]) != std::string_view::npos && (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) {
      return trim(line.substr(0, i));
    }
  }
  return line;
}

std::string join_path(const std::string& parent, std::string_view name) { return parent.empty() ? lower(name) : parent + "/" + lower(name); }

class Reader {
 public:
  Reader(std::string_view name, Config& config) : name_(name), config_(config) { config_.blocks.push_back({}); }

  // nginx: words end in ';' (a setting) or '{' (a block); '}' closes it.
  Result<void> nginx(std::string_view text) {
    std::vector<std::string> words;
    std::size_t block = 0;
    int depth = 0;
    int line = 1;
    int start = 1;
    for (std::size_t i = 0; i < text.size();) {
      const char c = text[i];
      if (c == '\n') ++line;
      if (c == ' ' || c == '\t' || c == '\r' || c == '\n') {
        ++i;
      } else if (c == '#') {
        while (i < text.size() && text[i] != '\n') ++i;
      } else if (c == ';') {
        ++i;
        if (words.empty()) continue;
        TRY(add(block, words.front(), join(words, 1), start));
        words.clear();
      } else if (c == '{') {
        ++i;
        if (words.empty()) return wrong(line, "'{' without a name before it");
        if (++depth > kDepthMax) return wrong(line, fmt::format("more than {} blocks inside each other", kDepthMax));
        config_.blocks.push_back({join_path(config_.blocks[block].path, words.front()), start, block});
        const std::size_t fresh = config_.blocks.size() - 1;
        TRY(add(block, words.front(), join(words, 1), start));
        block = fresh;
        words.clear();
      } else if (c == '}') {
        ++i;
        if (!words.empty()) return wrong(line, fmt::format("'{}' lacks its ';'", words.front()));
        if (depth == 0) return wrong(line, "'}' without '{'");
        --depth;
        block = config_.blocks[block].parent;
      } else {
        if (words.empty()) start = line;
        std::string word;
        if (c == '"' || c == '\'') {
          const auto end = text.find(c, i + 1);
          if (end == std::string_view::npos) return wrong(line, "a quote is not closed");
          word = text.substr(i + 1, end - i - 1);
          line += static_cast<int>(std::ranges::count(word, '\n'));
          i = end + 1;
        } else {
          const std::size_t begin = i;
          while (i < text.size() && std::string_view(" \t\r\n;{}").find(text[i]) == std::string_view::npos) {
            // "${name}" is one word.
            if (text[i] == '$' && i + 1 < text.size() && text[i + 1] == '{') i = std::min(text.find('}', i), text.size() - 1);
            ++i;
          }
          word = text.substr(begin, i - begin);
        }
        words.push_back(std::move(word));
      }
    }
    if (depth > 0) return wrong(config_.blocks[block].line, fmt::format("block '{}' is not closed", config_.blocks[block].path));
    if (!words.empty()) return wrong(start, fmt::format("'{}' lacks its ';'", words.front()));
    return {};
  }

  // postgresql.conf: name = value, or name value. The last one counts, so earlier ones go.
  Result<void> postgresql(std::string_view text) {
    Result<void> result;
    each_line(text, [&](int number, std::string_view line) {
      line = without_comment(line, "#");
      if (line.empty() || !result) return;
      const auto end = line.find_first_of(" \t=");
      if (end == std::string_view::npos) {
        result = wrong(number, fmt::format("'{}' has no value", line.substr(0, 80)));
        return;
      }
      std::string_view value = trim(line.substr(end));
      if (value.starts_with('=')) value = trim(value.substr(1));
      result = replace(lower(line.substr(0, end)), unquote(value), number);
    });
    return result;
  }

  // redis.conf: name value...; "save" and the like come more than once.
  Result<void> redis(std::string_view text) {
    Result<void> result;
    each_line(text, [&](int number, std::string_view line) {
      if (line.empty() || line.front() == '#' || !result) return;
      const auto end = std::min(line.find_first_of(" \t"), line.size());
      result = add(0, line.substr(0, end), unquote(trim(line.substr(end))), number);
    });
    return result;
  }

  // ini: [section], key = value, key; comments begin with '#' or ';'.
  Result<void> ini(std::string_view text, bool env) {
    Result<void> result;
    std::size_t block = 0;
    each_line(text, [&](int number, std::string_view line) {
      line = env ? line : without_comment(line, "#;");
      if (line.empty() || line.front() == '#' || line.front() == ';' || !result) return;
      if (env && line.starts_with("export ")) line = trim(line.substr(7));
      if (!env && line.front() == '[') {
        const auto end = line.find(']');
        if (end == std::string_view::npos) {
          result = wrong(number, "'[' without ']'");
          return;
        }
        config_.blocks.push_back({lower(trim(line.substr(1, end - 1))), number, 0});
        block = config_.blocks.size() - 1;
        return;
      }
      const auto equals = line.find('=');
      const auto value = equals == std::string_view::npos ? std::string_view() : unquote(trim(line.substr(equals + 1)));
      result = add(block, trim(line.substr(0, equals)), value, number);
    });
    return result;
  }

  Result<void> tree(std::string_view text) {
    ASSIGN(const std::vector<graph::Yaml> documents, graph::parse_yaml_all(name_, text));
    for (const graph::Yaml& document : documents) {
      config_.blocks.push_back({.path = "", .line = document.line, .parent = 0, .document = true});
      TRY(flatten(document, config_.blocks.size() - 1, 0));
    }
    return {};
  }

 private:
  std::unexpected<Error> wrong(int line, std::string_view what) const { return fail(Code::Invalid, fmt::format("{}:{}: {}", name_, line, what)); }

  static std::string join(const std::vector<std::string>& words, std::size_t from) {
    std::string result;
    for (std::size_t i = from; i < words.size(); ++i) result += (i > from ? " " : "") + words[i];
    return result;
  }

  Result<void> add(std::size_t block, std::string_view key, std::string_view value, int line) {
    if (config_.settings.size() == kSettingsMax) return fail(Code::Exhausted, fmt::format("{}: more than {} settings", name_, kSettingsMax));
    config_.settings.push_back({join_path(config_.blocks[block].path, key), std::string(value), line, block});
    return {};
  }

  Result<void> replace(const std::string& key, std::string_view value, int line) {
    for (Setting& setting : config_.settings) {
      if (setting.path == key) {
        setting.value = value;
        setting.line = line;
        return {};
      }
    }
    return add(0, key, value, line);
  }

  // Maps become levels; the items of a list share their list's path. A map inside a list is a block.
  Result<void> flatten(const graph::Yaml& node, std::size_t block, int depth) {
    if (depth > kDepthMax) return wrong(node.line, fmt::format("more than {} levels", kDepthMax));
    if (node.kind == graph::Yaml::Kind::Map) {
      for (std::size_t i = 0; i < node.keys.size() && i < node.items.size(); ++i) {
        const graph::Yaml& item = node.items[i];
        if (item.kind == graph::Yaml::Kind::Map || item.kind == graph::Yaml::Kind::List) {
          if (config_.blocks.size() >= kSettingsMax) return fail(Code::Exhausted, fmt::format("{}: more than {} blocks", name_, kSettingsMax));
          // What is empty is there all the same: "outlier_detection: {}" takes the defaults.
          if (item.items.empty()) TRY(add(block, node.keys[i].text, "", node.keys[i].line));
          config_.blocks.push_back({join_path(config_.blocks[block].path, node.keys[i].text), node.keys[i].line, block, item.kind == graph::Yaml::Kind::List});
          TRY(flatten(item, config_.blocks.size() - 1, depth + 1));
        } else {
          TRY(add(block, node.keys[i].text, item.text, node.keys[i].line));
        }
      }
    } else if (node.kind == graph::Yaml::Kind::List) {
      for (const graph::Yaml& item : node.items) {
        if (item.kind == graph::Yaml::Kind::Scalar) {
          if (config_.settings.size() == kSettingsMax) return fail(Code::Exhausted, fmt::format("{}: more than {} settings", name_, kSettingsMax));
          config_.settings.push_back({config_.blocks[block].path, item.text, item.line, block});
        } else {
          if (config_.blocks.size() >= kSettingsMax) return fail(Code::Exhausted, fmt::format("{}: more than {} blocks", name_, kSettingsMax));
          config_.blocks.push_back({config_.blocks[block].path, item.line, block});
          TRY(flatten(item, config_.blocks.size() - 1, depth + 1));
        }
      }
    }
    return {};
  }

  std::string_view name_;
  Config& config_;
};

}  // namespace

std::string_view format_name(Format format) { return kFormats[static_cast<std::size_t>(format)]; }

std::optional<Format> guess_format(const std::filesystem::path& file, std::string_view text) {
  const std::string name = lower(file.filename().string());
  std::string whole;  // its folders, each between slashes
  for (const auto& part : file.parent_path()) whole += "/" + lower(part.string());
  whole += '/';
  // Programs' own files in the folders of others: scripts, rotation, accounts.
  for (const std::string_view other : {"/init.d/", "/rc0.d/", "/rc1.d/", "/rc2.d/", "/rc3.d/", "/rc4.d/", "/rc5.d/", "/rc6.d/", "/rcs.d/", "/logrotate.d/", "/tmpfiles.d/", "/sysusers.d/", "/sysctl.d/", "/cron.d/", "/cron.daily/", "/cron.weekly/",
                                       "/apparmor.d/", "/bash_completion.d/", "/applications.d/", "/pam.d/", "/default/", "/alternatives/"}) {
    if (whole.find(other) != std::string::npos) return std::nullopt;
  }
  if (name.ends_with(".yaml") || name.ends_with(".yml")) return Format::Yaml;
  if (name.ends_with(".json")) return Format::Json;
  if (name.ends_with(".env") || name.starts_with(".env") || name.starts_with("env.")) return Format::Env;
  if (name.find("postgresql") != std::string::npos && name.ends_with(".conf")) return Format::Postgresql;
  if ((name.find("redis") != std::string::npos || name.find("valkey") != std::string::npos) && name.ends_with(".conf")) return Format::Redis;
  for (const std::string_view ending : {".ini", ".cnf", ".cfg", ".service", ".socket", ".timer"}) {
    if (name.ends_with(ending)) return Format::Ini;
  }
  if ((name.find("nginx") != std::string::npos && (name.ends_with(".conf") || name == "nginx")) || (whole.find("/nginx/") != std::string::npos && name != "readme" && !name.ends_with(".md") && !name.ends_with(".so"))) return Format::Nginx;
  if (text.find("\nserver {") != std::string_view::npos || text.find("http {") != std::string_view::npos || text.find("location ") != std::string_view::npos) return Format::Nginx;
  if (text.find("shared_buffers") != std::string_view::npos || text.find("max_connections") != std::string_view::npos) return Format::Postgresql;
  if (text.find("maxmemory") != std::string_view::npos || text.find("appendonly") != std::string_view::npos) return Format::Redis;
  if (!text.empty() && (text.front() == '{' || text.front() == '[') && text.find('"') != std::string_view::npos) return Format::Json;
  if (text.starts_with('[') || text.find("\n[") != std::string_view::npos) return Format::Ini;
  return std::nullopt;
}

Result<Config> parse_blocks(std::string_view name, std::string_view text, Format format) {
  if (text.size() > kConfigBytesMax) return fail(Code::Exhausted, fmt::format("{}: {} bytes, at most {}", name, text.size(), kConfigBytesMax));
  Config config;
  Reader reader(name, config);
  switch (format) {
    case Format::Nginx: TRY(reader.nginx(text)); break;
    case Format::Postgresql: TRY(reader.postgresql(text)); break;
    case Format::Redis: TRY(reader.redis(text)); break;
    case Format::Ini: TRY(reader.ini(text, false)); break;
    case Format::Env: TRY(reader.ini(text, true)); break;
    case Format::Yaml:
    case Format::Json: TRY(reader.tree(text)); break;  // JSON is YAML, and so keeps its lines
  }
  for (std::size_t i = 0; i < config.settings.size(); ++i) {
    config.blocks[config.settings[i].block].own.push_back(i);
    for (std::size_t block = config.settings[i].block;; block = config.blocks[block].parent) {
      Config::Block& of = config.blocks[block];
      if (of.last == 0) of.first = i;
      of.last = i + 1;
      if (block == 0) break;
    }
  }
  return config;
}

Result<std::vector<Setting>> parse_config(std::string_view name, std::string_view text, Format format) {
  ASSIGN(Config config, parse_blocks(name, text, format));
  return std::move(config.settings);
}

}  // namespace culprit::rules
