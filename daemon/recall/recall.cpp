#include "daemon/recall/recall.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "daemon/base/log.h"
#include "daemon/recall/groups.h"
#include "graph/fuse.h"

namespace culprit::recall {

std::string_view built_in_model_bytes();

namespace {

// Measured with tests/bench/retrieval on its development half.
constexpr double kLiteralBonus = 6.0;  // standard deviations, for a symptom of weight 1 that the text shows literally
// As chosen by halves of the development queries, tried on the other halves (tests/bench/retrieval/weights.py).
constexpr graph::FuseWeights kDocumentWeights{.text = 1.0, .vector = 1.0, .link = 1.0};
// A template that is like a failure mode without showing its tell-tale: how near it must be (cosine), how far before the
// next (standard deviations), and what it then weighs (just enough for explain to take it up).
constexpr double kLikeLeast = 0.45;
constexpr double kLikeMargin = 1.0;
constexpr double kLikeWeight = 0.5;
constexpr std::size_t kModesAsked = 8;        // failure modes of a question that vouch for documents
constexpr std::size_t kLinkedMax = 64;        // documents that one mode brings in
constexpr std::size_t kPage = 4'096;          // rows read at a time

}  // namespace

std::string as_template(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const char c = text[at];
    if (c == '"' || c == '\'') {  // a quoted value, if it ends on this line; an apostrophe inside a word is none
      const std::size_t end = text.find(c, at + 1);
      const bool opens = at == 0 || std::string_view(" =:([{,").find(text[at - 1]) != std::string_view::npos;
      if (opens && end != std::string_view::npos && text.substr(at, end - at).find('\n') == std::string_view::npos) {
        out += '*';
        at = end + 1;
        continue;
      }
    }
    if (std::isspace(static_cast<unsigned char>(c)) != 0) {
      out += c;
      ++at;
      continue;
    }
    const std::size_t end = std::min(text.find_first_of(" \t\r\n\"", at + 1), text.size());
    const std::string_view word = text.substr(at, end - at);
    // Numbers, addresses, ids, paths, mail addresses and assignments are values; words are not.
    const bool value = word.find_first_of("0123456789@/\\=") != std::string_view::npos;
    out += value ? std::string_view("*") : word;
    at = end;
  }
  return out;
}

Result<embed::Model> built_in_model() { return embed::Model::decode(built_in_model_bytes(), "built-in"); }

Result<embed::Model> load_model(const std::filesystem::path& state, std::string& said) {
  auto own = embed::Model::load(state / "model.bin");
  if (own) return own;
  if (own.error().code != Code::NotFound) said = own.error().message;
  return built_in_model();
}

Modes::Modes(std::shared_ptr<const graph::Knowledge> known, embed::Model model) : known_(std::move(known)), model_(std::move(model)) {
  for (const graph::Document& document : known_->documents()) vectors_.push_back(model_.vector(mode_text(document)));
}

std::vector<ModeAnswer> Modes::ask(std::string_view text, std::string_view middleware, std::size_t limit) const {
  const embed::Vector asked = model_.vector(text);
  std::vector<graph::Scored> scored;
  for (std::size_t i = 0; i < vectors_.size(); ++i) scored.push_back({known_->documents()[i].id, static_cast<double>(embed::dot(asked, vectors_[i]))});
  std::vector<ModeAnswer> answers;
  for (const graph::Hit& hit : known_->search(text, vectors_.size(), scored, middleware)) {
    answers.push_back({.mode = hit.document->mode, .score = hit.score, .text_score = hit.text_score, .vector_score = hit.vector_score});
  }
  for (const graph::Match& match : known_->match(text, middleware)) {
    const auto at = std::ranges::find(answers, match.mode, &ModeAnswer::mode);
    if (at == answers.end()) continue;
    at->symptom = match.symptom;
    at->score += kLiteralBonus * match.weight;
  }
  std::ranges::stable_sort(answers, [&](const ModeAnswer& a, const ModeAnswer& b) {
    const bool a_own = a.mode->middleware == middleware;
    const bool b_own = b.mode->middleware == middleware;
    return a_own != b_own ? a_own : a.score > b.score;
  });
  if (answers.size() > limit) answers.resize(limit);
  return answers;
}

std::vector<graph::Match> Modes::recognise(std::string_view text, std::string_view program) const {
  const std::string_view middleware = known_->middleware_of_program(program);
  std::vector<graph::Match> matches = known_->match(text, middleware);
  if (!matches.empty() || middleware.empty()) return matches;
  const auto like = ask(text, middleware, 2);
  const auto own = [&](const ModeAnswer& one) { return one.mode->middleware == middleware; };
  if (like.empty() || !own(like.front()) || like.front().vector_score < kLikeLeast) return matches;
  if (like.size() > 1 && own(like[1]) && like.front().score - like[1].score < kLikeMargin) return matches;
  matches.push_back({.mode = like.front().mode, .symptom = nullptr, .weight = kLikeWeight});
  return matches;
}

std::vector<std::string> Modes::remedies(std::string_view mode_id) const {
  std::vector<std::string> lines;
  const graph::FailureMode* mode = known_->find(mode_id);
  if (mode == nullptr) return lines;
  for (const graph::Mitigation& mitigation : known_->mitigations(mode->id)) {
    if (lines.size() == kRemediesMax) break;
    lines.push_back(mitigation.command.empty() ? mitigation.text : fmt::format("{}: {}", mitigation.text, mitigation.command));
  }
  return lines;
}

const graph::FailureMode* Modes::first_known(std::span<const std::string_view> names) const {
  for (const std::string_view name : names) {
    if (const graph::FailureMode* mode = known_->find(name); mode != nullptr) return mode;
  }
  return nullptr;
}

bool Modes::is_effect(std::span<const std::string_view> names) const {
  const graph::FailureMode* mode = first_known(names);
  return mode != nullptr && mode->effect;
}

bool Modes::brings_about(std::span<const std::string_view> cause, std::span<const std::string_view> effect) const {
  const graph::FailureMode* first = first_known(cause);
  const graph::FailureMode* second = first_known(effect);
  return first != nullptr && second != nullptr && first != second && graph::Knowledge::brings_about(*first, *second);
}

Recall::Recall(std::shared_ptr<const Modes> modes, Options options) : modes_(std::move(modes)), options_(std::move(options)) {}

const embed::Embedder& Recall::embedder() const { return options_.embedder != nullptr ? *options_.embedder : modes_->model(); }
std::filesystem::path Recall::index_file() const { return options_.graph_file.string() + ".vectors"; }
std::filesystem::path Recall::source_list() const { return options_.graph_file.string() + ".sources"; }

Result<std::unique_ptr<Recall>> Recall::open(std::shared_ptr<const Modes> modes, const Options& options) {
  std::unique_ptr<Recall> recall(new Recall(std::move(modes), options));
  std::error_code ignored;  // a file that cannot be seen is none; opening it to write says why
  if (options.write || std::filesystem::exists(options.graph_file, ignored)) {
    ASSIGN(recall->library_, graph::Library::open(options.graph_file, options.write ? graph::Library::Mode::Write : graph::Library::Mode::Read));
    TRY(recall->refresh());
  }
  return recall;
}

Result<void> Recall::refresh() {
  if (!library_) return {};
  ASSIGN(const std::int64_t now, library_->version());
  if (now == version_) return {};
  links_.clear();
  linked_.clear();
  collections_.clear();
  for (std::int64_t after = 0;;) {
    ASSIGN(const auto page, library_->links(after, kPage));
    // A page may end inside one text's links: they are few, so the next page begins with that text again.
    for (const graph::TextLink& link : page) {
      const graph::FailureMode* mode = modes_->known().find(link.mode);
      if (mode == nullptr) continue;  // a pack that is gone
      auto& of_text = links_[link.text];
      if (std::ranges::find(of_text, mode, [](const auto& pair) { return pair.first; }) != of_text.end()) continue;
      of_text.emplace_back(mode, link.confidence);
      linked_[mode].push_back(link.text);
    }
    if (page.size() < kPage) break;
    after = page.back().text - 1;
  }
  ASSIGN(const auto kinds, library_->kinds());
  middleware_.clear();
  for (const graph::TextKind& kind : kinds) {
    collections_[kind.collection].push_back(kind.text);
    if (!kind.collection.empty()) collections_[""].push_back(kind.text);
    if (!kind.middleware.empty()) middleware_[kind.text] = kind.middleware;
  }
  // The cached index if it is of these documents and this model, else made from the stored vectors.
  ASSIGN(std::vector<std::int64_t> stored, library_->vector_ids(embedder().name()));
  auto cached = embed::Index::load(index_file(), embedder().name(), embedder().dimensions());
  if (cached) {
    std::vector<std::int64_t> held(cached->ids().begin(), cached->ids().end());
    std::ranges::sort(held);
    if (held == stored) {
      index_ = std::move(*cached);
      version_ = now;
      return {};
    }
  } else if (cached.error().code == Code::Corrupt) {
    log::warn("{}; made anew from the database", cached.error().message);
  }
  ASSIGN(index_, embed::Index::create(embedder().dimensions()));
  std::vector<std::int64_t> ids;
  std::vector<float> values;
  for (std::int64_t after = 0;;) {
    ASSIGN(const auto page, library_->vectors(embedder().name(), after, kPage));
    for (const graph::StoredVector& vector : page) {
      after = vector.text;
      if (vector.values.size() != embedder().dimensions()) continue;  // of a model that only shares the name
      ids.push_back(vector.text);
      for (const char value : vector.values) values.push_back(static_cast<float>(static_cast<signed char>(value)) * vector.scale);
    }
    if (page.size() < kPage) break;
  }
  TRY(index_->add(ids, values));
  version_ = now;
  return {};
}

Result<void> Recall::save_index() {
  TRY(refresh());
  return index_ ? index_->save(index_file(), embedder().name()) : Result<void>{};
}

// As the document says itself, else as the failure mode that it is most like.
bool Recall::is_about(std::int64_t text, std::string_view middleware) const {
  if (const auto said = middleware_.find(text); said != middleware_.end()) return said->second == middleware;
  const auto links = links_.find(text);
  if (links == links_.end() || links->second.empty()) return false;
  const auto best = std::ranges::max_element(links->second, {}, [](const auto& link) { return link.second; });
  return best->first->middleware == middleware;
}

Result<std::vector<DocumentAnswer>> Recall::documents(const Question& question) {
  std::vector<DocumentAnswer> answers;
  if (!library_) return answers;
  TRY(refresh());
  const auto members = collections_.find(question.collection);
  if (members == collections_.end()) return answers;
  // A small collection is compared whole: how far ahead the best are shows best among all.
  const bool whole = members->second.size() <= embed::kFlatVectorsMax;
  const std::size_t wanted = whole ? members->second.size() : std::max(kCandidatesMax, question.limit);

  std::unordered_map<std::int64_t, graph::Signals> found;
  ASSIGN(const auto by_words, library_->find(question.text, question.collection, wanted));
  for (const graph::TextScore& one : by_words) found[one.text].text = one.score;

  // What goes to a provider may be a log line: only its constant words do.
  const std::string texts[] = {options_.embedder != nullptr ? as_template(question.text) : question.text};
  if (const auto asked = embedder().embed(texts); asked && index_) {
    const bool all = !whole;
    auto near = all ? index_->search(asked->front(), wanted) : index_->search_among(asked->front(), members->second, wanted);
    if (!near) return std::unexpected(near.error());
    for (const embed::Neighbour& one : *near) {
      if (all && !question.collection.empty() && !std::ranges::binary_search(members->second, one.id)) continue;
      found[one.id].vector = static_cast<double>(one.similarity);
    }
    // What words found has a vector too.
    std::vector<std::int64_t> others;
    for (const auto& [id, signals] : found) {
      if (signals.vector == 0) others.push_back(id);
    }
    ASSIGN(const auto rest, index_->search_among(asked->front(), others, others.size()));
    for (const embed::Neighbour& one : rest) found[one.id].vector = static_cast<double>(one.similarity);
  } else if (!asked) {
    log::warn("{}; searching by words alone", asked.error().message);
  }

  const std::vector<ModeAnswer> modes = modes_->ask(question.text, question.middleware, kModesAsked);
  std::unordered_map<const graph::FailureMode*, double> vouch;
  for (const ModeAnswer& mode : modes) {
    if (mode.score > 0) vouch[mode.mode] = mode.score;
  }
  for (const ModeAnswer& mode : modes) {
    const auto linked = linked_.find(mode.mode);
    if (linked == linked_.end() || !vouch.contains(mode.mode)) continue;
    std::size_t brought = 0;
    for (const std::int64_t id : linked->second) {
      if (brought == kLinkedMax) break;
      if (question.collection.empty() || std::ranges::binary_search(members->second, id)) {
        found.try_emplace(id);
        ++brought;
      }
    }
  }
  std::vector<std::int64_t> ids;
  for (const auto& [id, signals] : found) ids.push_back(id);
  std::ranges::sort(ids);
  std::vector<graph::Signals> signals;
  std::unordered_map<const graph::FailureMode*, double> spoken_of;  // by some candidate, how surely
  for (const std::int64_t id : ids) {
    graph::Signals& one = found[id];
    if (const auto links = links_.find(id); links != links_.end()) {
      for (const auto& [mode, confidence] : links->second) {
        const auto at = vouch.find(mode);
        if (at == vouch.end()) continue;
        one.link = std::max(one.link, confidence * at->second);
        double& surest = spoken_of[mode];
        surest = std::max(surest, confidence);
      }
    }
    signals.push_back(one);
  }
  // Documents that speak of few of the failure modes meant are about something else, and a chance likeness must not lift them.
  double meant = 0, covered = 0;
  for (const ModeAnswer& mode : modes) {
    if (!vouch.contains(mode.mode)) continue;
    meant += mode.score;
    if (const auto at = spoken_of.find(mode.mode); at != spoken_of.end()) covered += mode.score * at->second;
  }
  const double share = meant > 0 ? covered / meant : 0;
  for (graph::Signals& one : signals) one.link *= share * share;
  std::vector<bool> own(ids.size(), false);
  for (std::size_t i = 0; i < ids.size() && !question.middleware.empty(); ++i) own[i] = is_about(ids[i], question.middleware);
  const std::vector<double> scores = graph::fuse(signals, own, kDocumentWeights);
  std::vector<std::size_t> order(ids.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  const std::size_t limit = std::min(question.limit, order.size());
  std::ranges::partial_sort(order, order.begin() + static_cast<std::ptrdiff_t>(limit), [&](std::size_t a, std::size_t b) {
    if (own[a] != own[b]) return static_cast<bool>(own[a]);
    return scores[a] != scores[b] ? scores[a] > scores[b] : ids[a] < ids[b];
  });
  for (std::size_t i = 0; i < limit; ++i) {
    const std::size_t at = order[i];
    ASSIGN(auto stored, library_->texts(std::span(&ids[at], 1)));
    if (stored.empty()) continue;  // removed by somebody since the refresh
    DocumentAnswer answer{.document = std::move(stored.front()), .score = scores[at], .text_score = signals[at].text, .vector_score = signals[at].vector, .link_score = signals[at].link};
    if (const auto links = links_.find(ids[at]); links != links_.end()) {
      for (const auto& [mode, confidence] : links->second) answer.modes.push_back(mode->id);
    }
    answers.push_back(std::move(answer));
  }
  return answers;
}

}  // namespace culprit::recall
