#include "graph/knowledge.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <unordered_map>

#include "daemon/base/text.h"
#include "graph/compile.h"
#include "graph/literals.h"
#include "graph/search.h"
#include "graph/yaml.h"

namespace culprit::graph {
namespace {

constexpr std::int64_t kRegexBytesMax = 1 << 20;  // RE2's own limit for one automaton

struct Matcher {
  const FailureMode* mode = nullptr;
  const Symptom* symptom = nullptr;
  std::unique_ptr<RE2> regex;  // null: the literal alone decides
};

// The text by which a mode is found: what people say about it, and what programs print.
Document mode_document(const FailureMode& mode) {
  Document document;
  document.mode = &mode;
  document.title = fmt::format("{}: {}", mode.middleware, mode.name);
  document.body = mode.summary;
  for (const std::string& text : mode.paraphrases) document.body += " " + text + ".";
  for (const Cause& cause : mode.causes) document.body += " " + cause.text + ".";
  for (const Mitigation& mitigation : mode.mitigations) document.body += " " + mitigation.text + ".";
  for (const Symptom& symptom : mode.symptoms) {
    document.signal += telling_part(symptom) + " " + (symptom.example.empty() ? "" : symptom.expr) + "\n";
  }
  document.origin = mode.origin;
  return document;
}

}  // namespace

struct Knowledge::Impl {
  std::vector<Pack> packs;  // never changed after load: modes are pointed at
  std::vector<Document> documents;
  std::string hash;
  std::vector<Matcher> matchers;
  std::unique_ptr<const Literals> literals;
  std::unordered_map<std::string_view, const FailureMode*> by_name;
  std::vector<std::string> names;
  std::unordered_map<std::string_view, std::string_view> by_program;
  std::unordered_map<int, std::string_view> by_port;
  std::unique_ptr<Search> search;
};

Knowledge::Knowledge(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Knowledge::~Knowledge() = default;

Result<std::shared_ptr<const Knowledge>> Knowledge::load(const KnowledgeOptions& options) {
  std::vector<Pack> packs;
  std::string problems;
  const auto parse = [&](const PackText& text, bool replace) -> Result<void> {
    auto pack = parse_pack(text);
    if (!pack) {
      problems += (problems.empty() ? "" : "\n") + pack.error().message;
      return {};
    }
    if (replace) std::erase_if(packs, [&](const Pack& old) { return old.middleware == pack->middleware; });
    packs.push_back(std::move(*pack));
    return {};
  };
  if (options.built_in) {
    for (const PackText& text : built_in_packs()) TRY(parse(text, false));
  }
  for (const auto& directory : options.pack_directories) {
    ASSIGN(const std::vector<PackText> texts, read_packs(directory));
    for (const PackText& text : texts) TRY(parse(text, true));
  }
  for (const PackText& text : options.packs) TRY(parse(text, true));
  if (!problems.empty()) return fail(Code::Invalid, std::move(problems));
  return from_packs(std::move(packs));
}

Result<std::shared_ptr<const Knowledge>> Knowledge::from_packs(std::vector<Pack> packs) {
  TRY(link(packs));
  auto impl = std::make_unique<Impl>();
  impl->packs = std::move(packs);
  std::vector<std::string> literals;
  std::vector<Document> mode_documents;
  RE2::Options regex_options(RE2::Quiet);
  regex_options.set_max_mem(kRegexBytesMax);
  for (const Pack& pack : impl->packs) {
    for (const std::string& program : pack.programs) impl->by_program.try_emplace(program, pack.middleware);
    for (const int port : pack.ports) impl->by_port.try_emplace(port, pack.middleware);
    for (const FailureMode& mode : pack.modes) {
      impl->by_name.emplace(mode.id, &mode);
      impl->names.push_back(mode.id);
      for (const std::string& alias : mode.aliases) {
        impl->by_name.emplace(alias, &mode);
        impl->names.push_back(alias);
      }
      mode_documents.push_back(mode_document(mode));
      for (const Symptom& symptom : mode.symptoms) {
        // Literals of wire and event symptoms are printed by clients too.
        if (symptom.literal.size() < 4) continue;
        Matcher matcher{.mode = &mode, .symptom = &symptom, .regex = nullptr};
        if (!symptom.regex.empty()) {
          matcher.regex = std::make_unique<RE2>(symptom.regex, regex_options);
          if (!matcher.regex->ok()) return fail(Code::Invalid, fmt::format("{}: regex of '{}': {}", mode.origin, symptom.id, matcher.regex->error()));
        }
        literals.push_back(symptom.literal);
        impl->matchers.push_back(std::move(matcher));
      }
    }
  }
  impl->literals = std::make_unique<Literals>(literals);
  impl->documents = std::move(mode_documents);
  std::vector<std::string_view> hashed;
  for (std::size_t i = 0; i < impl->documents.size(); ++i) {
    Document& document = impl->documents[i];
    document.id = DocumentId{static_cast<std::int64_t>(i + 1)};
    hashed.insert(hashed.end(), {document.title, document.body, document.signal});
  }
  for (const std::string& name : impl->names) hashed.push_back(name);
  for (const Matcher& matcher : impl->matchers) hashed.push_back(matcher.symptom->regex);
  impl->hash = hash_texts(hashed);
  ASSIGN(impl->search, Search::create(impl->documents));
  return std::shared_ptr<const Knowledge>(new Knowledge(std::move(impl)));
}

std::vector<Match> Knowledge::match(std::string_view line, std::string_view middleware) const {
  line = line.substr(0, kLineBytesMax);
  std::vector<std::uint32_t> hits;
  impl_->literals->scan(line, [&hits](std::uint32_t id) {
    if (std::ranges::find(hits, id) == hits.end()) hits.push_back(id);
  });
  std::vector<Match> matches;
  for (const std::uint32_t id : hits) {
    const Matcher& matcher = impl_->matchers[id];
    if (matcher.regex != nullptr && !RE2::PartialMatch(re2::StringPiece(line.data(), line.size()), *matcher.regex)) continue;
    const auto same = std::ranges::find(matches, matcher.mode, &Match::mode);
    if (same == matches.end()) {
      matches.push_back({matcher.mode, matcher.symptom, matcher.symptom->weight});
    } else if (matcher.symptom->weight > same->weight) {
      *same = {matcher.mode, matcher.symptom, matcher.symptom->weight};
    }
  }
  std::ranges::sort(matches, [middleware](const Match& a, const Match& b) {
    const bool a_own = a.mode->middleware == middleware;
    const bool b_own = b.mode->middleware == middleware;
    if (a_own != b_own) return a_own;
    if (a.weight != b.weight) return a.weight > b.weight;
    // A longer literal says more.
    if (a.symptom->literal.size() != b.symptom->literal.size()) return a.symptom->literal.size() > b.symptom->literal.size();
    return a.mode->id < b.mode->id;
  });
  if (matches.size() > kMatchesMax) matches.resize(kMatchesMax);
  return matches;
}

const FailureMode* Knowledge::find(std::string_view id_or_alias) const {
  const auto at = impl_->by_name.find(id_or_alias);
  return at == impl_->by_name.end() ? nullptr : at->second;
}

std::vector<std::string> Knowledge::suggest(std::string_view id) const { return nearest(id.substr(0, 128), impl_->names); }

std::span<const Mitigation> Knowledge::mitigations(std::string_view mode) const {
  const FailureMode* found = find(mode);
  return found == nullptr ? std::span<const Mitigation>() : std::span<const Mitigation>(found->mitigations);
}

std::vector<Knowledge::Relation> Knowledge::causes_of(std::string_view mode) const {
  const FailureMode* effect = find(mode);
  std::vector<Relation> result;
  if (effect == nullptr) return result;
  const auto add = [&result](const FailureMode* cause, double confidence) {
    const auto same = std::ranges::find(result, cause, &Relation::mode);
    if (same == result.end()) result.push_back({cause, confidence});
    else same->confidence = std::max(same->confidence, confidence);
  };
  for (const Cause& cause : effect->causes) {
    for (const std::string& from : cause.from) add(find(from), cause.prior > 0 ? cause.prior : 0.1);
  }
  for (const Pack& pack : impl_->packs) {
    for (const FailureMode& other : pack.modes) {
      for (const ModeLink& to : other.causes_modes) {
        if (to.to == effect->id) add(&other, to.confidence);
      }
    }
  }
  std::ranges::sort(result, [](const Relation& a, const Relation& b) { return a.confidence != b.confidence ? a.confidence > b.confidence : a.mode->id < b.mode->id; });
  return result;
}

std::vector<Knowledge::Relation> Knowledge::effects_of(std::string_view mode) const {
  const FailureMode* cause = find(mode);
  std::vector<Relation> result;
  if (cause == nullptr) return result;
  const auto add = [&result](const FailureMode* effect, double confidence) {
    const auto same = std::ranges::find(result, effect, &Relation::mode);
    if (same == result.end()) result.push_back({effect, confidence});
    else same->confidence = std::max(same->confidence, confidence);
  };
  for (const ModeLink& to : cause->causes_modes) add(find(to.to), to.confidence);
  for (const Pack& pack : impl_->packs) {
    for (const FailureMode& other : pack.modes) {
      for (const Cause& known : other.causes) {
        if (std::ranges::find(known.from, cause->id) != known.from.end()) add(&other, known.prior > 0 ? known.prior : 0.1);
      }
    }
  }
  std::ranges::sort(result, [](const Relation& a, const Relation& b) { return a.confidence != b.confidence ? a.confidence > b.confidence : a.mode->id < b.mode->id; });
  return result;
}

bool Knowledge::brings_about(const FailureMode& cause, const FailureMode& effect) {
  return std::ranges::find(cause.causes_modes, effect.id, &ModeLink::to) != cause.causes_modes.end() ||
         std::ranges::any_of(effect.causes, [&](const Cause& one) { return std::ranges::find(one.from, cause.id) != one.from.end(); });
}

std::string_view Knowledge::middleware_of_program(std::string_view program) const {
  const auto at = impl_->by_program.find(program);
  return at == impl_->by_program.end() ? std::string_view() : at->second;
}

std::string_view Knowledge::middleware_of_port(int port) const {
  const auto at = impl_->by_port.find(port);
  return at == impl_->by_port.end() ? std::string_view() : at->second;
}

std::vector<Hit> Knowledge::search(std::string_view text, std::size_t limit, std::span<const Scored> vectors, std::string_view middleware) const {
  return impl_->search->find(text, limit, vectors, middleware);
}

const std::vector<Pack>& Knowledge::packs() const { return impl_->packs; }
const std::vector<Document>& Knowledge::documents() const { return impl_->documents; }
std::size_t Knowledge::mode_count() const {
  std::size_t count = 0;
  for (const Pack& pack : impl_->packs) count += pack.modes.size();
  return count;
}
std::string_view Knowledge::hash() const { return impl_->hash; }

}  // namespace culprit::graph
