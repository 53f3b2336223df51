#include "daemon/track/naming.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "daemon/base/text.h"

namespace culprit::track {

namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

bool is_container_id(std::string_view text) {
  return (text.size() == 64 || text.size() == 32) && std::ranges::all_of(text, is_hex);
}

// "docker-<64 hex>.scope", "cri-containerd-<64 hex>.scope", "<64 hex>" under a folder that names the runtime.
std::string container_name(std::string_view component, std::string_view folder) {
  if (component.ends_with(".scope")) component.remove_suffix(6);
  std::string_view runtime = "container";
  std::string_view id = component;
  if (const auto dash = component.rfind('-'); dash != std::string_view::npos) {
    runtime = component.substr(0, dash);
    id = component.substr(dash + 1);
  } else if (folder == "docker" || folder == "crio" || folder == "lxc" || folder == "libpod") {
    runtime = folder;
  } else if (folder.starts_with("pod") || folder.starts_with("kubepods")) {
    runtime = "k8s";
  }
  if (!is_container_id(id)) return {};
  if (runtime == "cri-containerd") runtime = "containerd";
  return std::string(runtime) + "-" + std::string(id.substr(0, 12));
}

// Components that say where a process was put, not what it is.
bool names_nothing(std::string_view component) {
  return component.empty() || component == "init.scope" || component.ends_with(".slice") ||
         component.starts_with("session-") || component.starts_with("user@") ||
         component.starts_with("vte-spawn-") || component.starts_with("tmux-spawn-") ||
         component.starts_with("run-") || component == "." || component == "..";
}

std::vector<std::string_view> components_of(std::string_view path) {
  std::vector<std::string_view> components;
  while (!path.empty()) {
    const auto slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (!part.empty()) components.push_back(part);
    if (slash == std::string_view::npos) break;
    path.remove_prefix(slash + 1);
  }
  return components;
}

std::string clean(std::string_view name) {
  std::string text = sanitize_utf8(name.substr(0, 128));
  for (char& c : text) {
    // These separate parts of entity names: "edge:a->b", "endpoint:a GET /x".
    if (c == ' ' || c == '>' || c == '"' || c == '\n' || c == '\t') c = '_';
  }
  return text;
}

}  // namespace

ServiceName name_of_cgroup(std::string_view path) {
  const auto components = components_of(path);
  for (std::size_t i = components.size(); i-- > 0;) {
    const std::string_view component = components[i];
    if (auto name = container_name(component, i > 0 ? components[i - 1] : ""); !name.empty()) {
      return {std::move(name), NamedBy::Container, {}};
    }
    if (component.ends_with(".service") && component.size() > 8 && !component.starts_with("user@")) {
      return {clean(component.substr(0, component.size() - 8)), NamedBy::Unit, {}};
    }
  }
  if (components.empty() || names_nothing(components.back())) return {};
  std::string_view last = components.back();
  if (last.ends_with(".scope")) last.remove_suffix(6);
  if (last.empty()) return {};
  return {clean(last), NamedBy::Cgroup, {}};
}

std::string qualified_name(std::string_view name, std::string_view path) {
  const auto components = components_of(path);
  const std::string_view parent = components.size() > 1 ? components[components.size() - 2] : "root";
  return std::string(name) + "@" + clean(parent);
}

std::string_view base_name(std::string_view path) {
  if (path.ends_with(" (deleted)")) path.remove_suffix(10);
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

bool is_interpreter(std::string_view exe) {
  static constexpr std::array<std::string_view, 14> kNames = {
      "python", "pypy", "node", "nodejs", "java", "perl", "ruby", "bash", "sh", "dash", "zsh", "php", "deno", "lua"};
  std::string_view name = base_name(exe);
  while (!name.empty() && (is_digit(name.back()) || name.back() == '.' || name.back() == '-')) name.remove_suffix(1);
  return std::ranges::find(kNames, name) != kNames.end();
}

std::string script_of(std::string_view exe, std::span<const std::string> cmdline) {
  if (!is_interpreter(exe)) return {};
  const bool java = base_name(exe).starts_with("java");
  // Options that take the next word as their value.
  static constexpr std::array<std::string_view, 11> kWithValue = {
      "-W", "-X", "-cp", "-classpath", "--class-path", "-p", "--module-path", "-r", "--require", "-I", "--import"};
  for (std::size_t i = 1; i < cmdline.size(); ++i) {
    const std::string_view word = cmdline[i];
    if (word == "--") return i + 1 < cmdline.size() ? cmdline[i + 1] : std::string();
    if (!java && (word == "-c" || word == "-e" || word == "-")) return {};  // the program is in the command line
    if (word == "-m" || word == "-jar" || word == "--module") {
      return i + 1 < cmdline.size() ? cmdline[i + 1] : std::string();
    }
    if (!java && word == "-p") return {};  // node -p, perl -p: one-liners
    if (std::ranges::find(kWithValue, word) != kWithValue.end()) {
      ++i;
      continue;
    }
    if (word.starts_with('-')) continue;
    return std::string(word);
  }
  return {};
}

std::string name_of_script(std::string_view script) {
  std::string_view name = base_name(script);
  for (const std::string_view end : {".py", ".pyc", ".pyz", ".js", ".mjs", ".cjs", ".ts", ".jar", ".war", ".pl", ".rb",
                                     ".sh", ".bash", ".php", ".lua"}) {
    if (name.size() > end.size() && name.ends_with(end)) {
      name.remove_suffix(end.size());
      if (end == ".jar" || end == ".war") {  // shop-1.2.3-SNAPSHOT.jar
        for (std::size_t i = 1; i + 1 < name.size(); ++i) {
          if (name[i] == '-' && is_digit(name[i + 1])) {
            name = name.substr(0, i);
            break;
          }
        }
      }
      break;
    }
  }
  return std::string(name);
}

ServiceName name_of_process(const ProcessFacts& facts, std::span<const std::string> ignored) {
  for (const std::string& path : {facts.cgroup, facts.cgroup_memory_v1}) {
    const bool skip = std::ranges::any_of(ignored, [&](const std::string& glob) { return glob_match(glob, path); });
    if (skip) continue;
    if (auto name = name_of_cgroup(path); name.by != NamedBy::Nothing) {
      name.path = path;
      return name;
    }
  }
  if (facts.exe.empty()) return {};
  const std::string script = facts.script.empty() ? script_of(facts.exe, facts.cmdline) : facts.script;
  if (!script.empty()) {
    if (auto name = clean(name_of_script(script)); !name.empty()) return {std::move(name), NamedBy::Script, {}};
  }
  return {clean(base_name(facts.exe)), NamedBy::Executable, {}};
}

bool matches(const Match& match, const Candidate& candidate) {
  bool any = false;
  const ProcessFacts* facts = candidate.facts;
  if (match.pid != 0) {
    if (candidate.pid != match.pid) return false;
    any = true;
  }
  if (match.port != 0) {
    if (std::ranges::find(candidate.ports, match.port) == candidate.ports.end()) return false;
    any = true;
  }
  if (!match.service.empty()) {
    if (candidate.service.empty() || !glob_match(match.service, candidate.service)) return false;
    any = true;
  }
  if (!match.cgroup.empty()) {
    if (facts == nullptr ||
        !(glob_match(match.cgroup, facts->cgroup) ||
          (!facts->cgroup_memory_v1.empty() && glob_match(match.cgroup, facts->cgroup_memory_v1)))) {
      return false;
    }
    any = true;
  }
  if (!match.exe.empty()) {
    if (facts == nullptr || facts->exe.empty()) return false;
    const bool whole = match.exe.find('/') != std::string::npos;
    if (!glob_match(match.exe, whole ? std::string_view(facts->exe) : base_name(facts->exe))) return false;
    any = true;
  }
  if (!match.unit.empty()) {
    if (facts == nullptr) return false;
    std::string_view unit = match.unit;
    if (unit.ends_with(".service")) unit.remove_suffix(8);
    const auto by_v2 = name_of_cgroup(facts->cgroup);
    const auto by_v1 = name_of_cgroup(facts->cgroup_memory_v1);
    const bool fits = (by_v2.by == NamedBy::Unit && by_v2.name == unit) || (by_v1.by == NamedBy::Unit && by_v1.name == unit);
    if (!fits) return false;
    any = true;
  }
  return any;  // an empty match fits nothing
}

std::string release_of_cmdline(const ProcessFacts& facts) {
  std::string release;
  const std::string script = script_of(facts.exe, facts.cmdline);
  if (!script.empty()) {
    for (const std::string& word : facts.cmdline) {
      release += word;
      release += ' ';
    }
    if (!release.empty()) release.pop_back();
    return release;
  }
  // Words like 1.2 or 1.2.3 (not 1.2.3.4: an address).
  for (const std::string& word : facts.cmdline) {
    for (std::size_t i = 0; i < word.size();) {
      if (!is_digit(word[i])) {
        ++i;
        continue;
      }
      std::size_t end = i, dots = 0;
      while (end < word.size() && (is_digit(word[end]) || (word[end] == '.' && end + 1 < word.size() && is_digit(word[end + 1])))) {
        if (word[end] == '.') ++dots;
        ++end;
      }
      if (dots == 1 || dots == 2) {
        if (!release.empty()) release += ' ';
        release.append(word, i, end - i);
      }
      i = end;
    }
  }
  return release;
}

}  // namespace culprit::track
