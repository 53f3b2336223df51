#include "graph/pack.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <unordered_map>

#include "daemon/base/text.h"
#include "graph/yaml.h"

namespace culprit::graph {
namespace {

constexpr std::size_t kListItemsMax = 256;   // symptoms, causes, … of one mode
constexpr std::size_t kLogLiteralMin = 4;    // shorter literals would hit on most lines
constexpr std::size_t kTellingBytes = 100;   // of an example, before its literal and again as much after
constexpr std::string_view kChannels[] = {"log", "metric", "kernel", "event", "wire"};
constexpr std::string_view kMitigationKinds[] = {"immediate", "lasting"};
constexpr std::string_view kRisks[] = {"low", "medium", "high"};
constexpr std::string_view kSourceKinds[] = {"manual", "source_code", "release_notes", "issue", "post_mortem", "runbook", "operator", "learned"};

bool is_id(std::string_view text) {
  if (text.empty() || text.size() > 64) return false;
  return std::ranges::all_of(text, [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; });
}

std::string take_id(Fields& fields, std::string_view key = "id") {
  std::string id = fields.text(key, Need::Required);
  if (!id.empty() && !is_id(id)) {
    fields.findings().add(fields.place_of(key), fmt::format("'{}' must be lower-case letters, digits and '-', at most 64: '{}'", key, id.substr(0, 80)));
  }
  return id;
}

// Where `part` begins in the text, ASCII case ignored; npos if it does not occur.
std::size_t find_ignoring_case(std::string_view text, std::string_view part) {
  const auto same = [](char a, char b) { return std::tolower(static_cast<unsigned char>(a)) == std::tolower(static_cast<unsigned char>(b)); };
  const auto found = std::ranges::search(text, part, same);
  return found.empty() && !part.empty() ? std::string_view::npos : static_cast<std::size_t>(found.begin() - text.begin());
}

// Calls `read` with each map of the list under `key`.
template <typename Read>
void each(Fields& fields, std::string_view key, std::string_view what, Read read, Need need = Need::Optional) {
  const Yaml* items = fields.list(key, need);
  if (items == nullptr) return;
  if (items->items.size() > kListItemsMax) {
    fields.findings().add(items->place(), fmt::format("more than {} items in '{}'", kListItemsMax, key));
    return;
  }
  for (const Yaml& item : items->items) {
    Fields inner(item, what, fields.findings());
    if (item.kind != Yaml::Kind::Map) continue;
    read(inner);
    inner.done();
  }
}

Symptom read_symptom(Fields& f) {
  Symptom s;
  s.id = take_id(f);
  s.channel = static_cast<Channel>(f.choice("channel", kChannels).value_or(0));
  s.literal = f.text("literal");
  s.regex = f.text("regex");
  s.expr = f.text("expr");
  s.weight = f.number("weight", 0.01, 1.0).value_or(1.0);
  s.example = f.text("example");
  s.produced = f.text("produced");
  if (!s.produced.empty() && s.example.empty()) f.findings().add(f.place_of("produced"), fmt::format("'{}' has no example that '{}' could have printed", s.id, s.produced));
  if (s.channel == Channel::Log && s.literal.size() < kLogLiteralMin) {
    f.findings().add(f.place(), fmt::format("log symptom '{}' needs a literal of at least {} characters", s.id, kLogLiteralMin));
  }
  if (s.channel != Channel::Log && s.literal.empty() && s.regex.empty() && s.expr.empty()) {
    f.findings().add(f.place(), fmt::format("symptom '{}' needs a literal, a regex or an expr", s.id));
  }
  const RE2::Options options(RE2::Quiet);
  const RE2 regex(s.regex, options);
  if (!regex.ok()) {
    f.findings().add(f.place_of("regex"), fmt::format("regex of '{}': {}", s.id, regex.error()));
  } else if (!s.example.empty() && s.channel == Channel::Log) {
    if (find_ignoring_case(s.example, s.literal) == std::string_view::npos) {
      f.findings().add(f.place_of("example"), fmt::format("the example of '{}' lacks its literal '{}'", s.id, s.literal));
    } else if (!s.regex.empty() && !RE2::PartialMatch(s.example, regex)) {
      f.findings().add(f.place_of("example"), fmt::format("the regex of '{}' does not match its example", s.id));
    }
  }
  return s;
}

FailureMode read_mode(Fields& f, const Pack& pack, const Findings& findings) {
  FailureMode mode;
  mode.middleware = pack.middleware;
  mode.id = pack.middleware + "/" + take_id(f);
  mode.origin = findings.where(f.line());
  mode.column = f.place().column;
  mode.name = f.text("name", Need::Required);
  mode.summary = f.text("summary", Need::Required);
  mode.severity = static_cast<int>(f.number("severity", 1, 5).value_or(3));
  mode.effect = f.flag("effect").value_or(false);
  mode.aliases = f.texts("aliases");
  mode.paraphrases = f.texts("paraphrases");
  each(f, "symptoms", "a symptom", [&](Fields& s) { mode.symptoms.push_back(read_symptom(s)); });
  each(f, "causes", "a cause", [&](Fields& c) {
    Cause cause;
    cause.id = take_id(c);
    cause.text = c.text("text", Need::Required);
    cause.prior = c.number("prior", 0, 1).value_or(0);
    cause.from = c.texts("from");
    if (const Yaml* from = c.find("from"); from != nullptr) {
      for (const Yaml& name : from->items) mode.named.push_back({name.text, name.line, name.column});
    }
    mode.causes.push_back(std::move(cause));
  }, Need::Required);
  each(f, "mitigations", "a mitigation", [&](Fields& m) {
    Mitigation mitigation;
    mitigation.id = take_id(m);
    mitigation.kind = kMitigationKinds[m.choice("kind", kMitigationKinds, Need::Required).value_or(0)];
    mitigation.risk = kRisks[m.choice("risk", kRisks).value_or(0)];
    mitigation.text = m.text("text", Need::Required);
    mitigation.command = m.text("command");
    mode.mitigations.push_back(std::move(mitigation));
  }, Need::Required);
  each(f, "versions", "a version note", [&](Fields& v) {
    mode.versions.push_back({v.text("range", Need::Required), v.text("effect", Need::Required), v.number("confidence", 0.01, 1).value_or(0.5), v.text("source")});
  });
  each(f, "cloud", "a cloud note", [&](Fields& c) {
    mode.cloud.push_back({c.text("provider", Need::Required), c.text("service"), c.text("effect", Need::Required), c.number("confidence", 0.01, 1).value_or(0.5), c.text("source")});
  });
  each(f, "causes_modes", "a link to a mode", [&](Fields& l) {
    if (const Yaml* to = l.find("to"); to != nullptr) mode.named.push_back({to->text, to->line, to->column});
    mode.causes_modes.push_back({l.text("to", Need::Required), l.number("confidence", 0.01, 1).value_or(0.5), l.text("source")});
  });
  each(f, "sources", "a source", [&](Fields& s) {
    mode.sources.push_back({std::string(kSourceKinds[s.choice("kind", kSourceKinds, Need::Required).value_or(0)]), s.text("ref", Need::Required)});
  });
  std::set<std::string> ids;
  for (const Symptom& s : mode.symptoms) {
    if (!ids.insert(s.id).second) f.findings().add(f.place(), fmt::format("symptom id '{}' is given twice in {}", s.id, mode.id));
  }
  return mode;
}

}  // namespace

std::string telling_part(const Symptom& symptom) {
  const std::string_view example = symptom.example;
  if (example.empty()) return symptom.literal + " " + symptom.expr;
  if (example.size() <= 2 * kTellingBytes) return symptom.example;
  const std::size_t at = std::min(find_ignoring_case(example, symptom.literal), example.size());
  std::size_t from = at == example.size() || at < kTellingBytes ? 0 : example.find(' ', at - kTellingBytes);
  if (from > at) from = at;
  const std::size_t to = example.find(' ', std::min(from + 2 * kTellingBytes, example.size()));
  return std::string(example.substr(from, to == std::string_view::npos ? to : to - from));
}

std::string_view channel_name(Channel channel) { return kChannels[static_cast<std::size_t>(channel)]; }

Result<std::vector<PackText>> read_packs(const std::filesystem::path& directory) {
  std::error_code error;
  std::filesystem::directory_iterator entries(directory, error);
  if (error) return fail_errno(error.value(), "read packs in '" + directory.string() + "'");
  std::vector<std::filesystem::path> files;
  for (; entries != std::filesystem::directory_iterator(); entries.increment(error)) {
    if (error) return fail_errno(error.value(), "read packs in '" + directory.string() + "'");
    const auto& path = entries->path();
    if (path.extension() != ".yaml" && path.extension() != ".yml") continue;
    if (files.size() == kPacksMax) return fail(Code::Exhausted, fmt::format("more than {} packs in '{}'", kPacksMax, directory.string()));
    files.push_back(path);
  }
  if (error) return fail_errno(error.value(), "read packs in '" + directory.string() + "'");
  std::ranges::sort(files);
  std::vector<PackText> packs;
  for (const auto& file : files) {
    const auto bytes = std::filesystem::file_size(file, error);
    if (error) return fail_errno(error.value(), "read pack '" + file.string() + "'");
    if (bytes > kPackBytesMax) return fail(Code::Exhausted, fmt::format("pack '{}' has {} bytes, at most {}", file.string(), bytes, kPackBytesMax));
    std::ifstream stream(file, std::ios::binary);
    std::string text((std::istreambuf_iterator<char>(stream)), {});
    if (!stream) return fail(Code::Io, "read pack '" + file.string() + "'");
    packs.push_back({file.string(), std::move(text)});
  }
  return packs;
}

Result<Pack> parse_pack(const PackText& source) {
  if (source.text.size() > kPackBytesMax) {
    return fail(Code::Exhausted, fmt::format("{}: {} bytes, at most {}", source.name, source.text.size(), kPackBytesMax));
  }
  Findings findings(source.name, source.text);
  const std::optional<Yaml> root = parse_yaml(source.text, findings);
  if (!root) return std::unexpected(findings.result().error());
  Fields fields(*root, "a pack", findings);
  Pack pack;
  pack.origin = source.name;
  if (const auto schema = fields.number("schema", 1, 1, Need::Required); !schema && root->find("schema") != nullptr) {
    findings.add(fields.place_of("schema"), "this program reads schema 1");
  }
  pack.middleware = take_id(fields, "middleware");
  pack.title = fields.text("title", Need::Required);
  pack.programs = fields.texts("programs");
  for (const std::string& port : fields.texts("ports")) {
    const auto number = parse_number(port);
    if (!number || *number < 1 || *number > 65535 || *number != static_cast<int>(*number)) {
      findings.add(fields.place_of("ports"), fmt::format("'{}' is no port number", port));
      continue;
    }
    pack.ports.push_back(static_cast<int>(*number));
  }
  const Yaml* modes = fields.list("failure_modes", Need::Required);
  if (modes != nullptr && modes->items.size() > kModesMax) {
    return fail(Code::Exhausted, fmt::format("{}: more than {} failure modes", source.name, kModesMax));
  }
  if (modes != nullptr) {
    for (const Yaml& item : modes->items) {
      Fields inner(item, "a failure mode", findings);
      if (item.kind != Yaml::Kind::Map) continue;
      pack.modes.push_back(read_mode(inner, pack, findings));
      inner.done();
    }
  }
  fields.done();
  TRY(findings.result());
  return pack;
}

Result<void> link(std::vector<Pack>& packs) {
  std::unordered_map<std::string, std::pair<std::string, std::string>> canonical;  // name -> id, place
  std::vector<std::string> names;
  std::vector<std::string> problems;
  const auto define = [&](const std::string& name, const FailureMode& mode) {
    if (const auto [at, fresh] = canonical.try_emplace(name, mode.id, mode.origin); !fresh) {
      problems.push_back(fmt::format("{}:{}: '{}' is already the name of {} ({})", mode.origin, mode.column, name, at->second.first, at->second.second));
    } else {
      names.push_back(name);
    }
  };
  for (const Pack& pack : packs) {
    for (const FailureMode& mode : pack.modes) {
      define(mode.id, mode);
      for (const std::string& alias : mode.aliases) define(alias, mode);
    }
  }
  for (Pack& pack : packs) {
    for (FailureMode& mode : pack.modes) {
      const auto resolve = [&](std::string& name) {
        auto at = canonical.find(name);
        if (at == canonical.end()) at = canonical.find(mode.middleware + "/" + name);
        if (at != canonical.end()) {
          name = at->second.first;
        } else if (problems.size() < kFindingsMax) {
          const auto place = std::ranges::find(mode.named, name, &FailureMode::Named::name);
          const std::string where = place == mode.named.end() ? mode.origin : fmt::format("{}:{}:{}", pack.origin, place->line, place->column);
          problems.push_back(fmt::format("{}: unknown failure mode '{}'{}", where, name.substr(0, 80), did_you_mean(name, names)));
        }
      };
      for (Cause& cause : mode.causes) {
        for (std::string& from : cause.from) resolve(from);
      }
      for (ModeLink& to : mode.causes_modes) resolve(to.to);
    }
  }
  if (!problems.empty()) return fail(Code::Invalid, fmt::format("{}", fmt::join(problems, "\n")));
  return {};
}

}  // namespace culprit::graph
