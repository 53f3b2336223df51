#include "daemon/explain/learn/model.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "daemon/explain/learn/built_in.h"
#include "daemon/explain/recorded/text_file.h"

namespace culprit::explain {

namespace {

using nlohmann::json;

constexpr std::size_t kEvidenceKindsMax = 16;

Result<void> read_weights(const json& from, std::map<std::string, double, std::less<>>& into, std::string_view what) {
  if (!from.is_object()) return fail(Code::Invalid, fmt::format("\"{}\" is no object of numbers", what));
  for (const auto& [name, weight] : from.items()) {
    if (!weight.is_number()) return fail(Code::Invalid, fmt::format("\"{}\": the weight of '{}' is no number", what, name));
    const double value = weight.get<double>();
    if (!(std::fabs(value) <= 1e6)) return fail(Code::Invalid, fmt::format("\"{}\": the weight of '{}' is out of range", what, name));
    into[name] = value;
    if (into.size() > kFeaturesMax) return fail(Code::Exhausted, fmt::format("\"{}\" has more than {} weights", what, kFeaturesMax));
  }
  return {};
}

// A child comes after its parent: a walk ends.
Result<Tree> read_tree(const json& from) {
  if (!from.is_array() || from.empty() || from.size() > kTreeNodesMax) return fail(Code::Invalid, "\"trees\": a tree is a list of nodes");
  Tree out;
  for (const json& row : from) {
    TreeNode node;
    const auto at = static_cast<std::int64_t>(out.size()), size = static_cast<std::int64_t>(from.size());
    if (!row.is_array() || (row.size() != 1 && row.size() != 5) || !row[0].is_number()) return fail(Code::Invalid, "\"trees\": a node is [value] or [value, feature, threshold, left, right]");
    node.value = row[0].get<double>();
    if (!(std::fabs(node.value) <= 1e6)) return fail(Code::Invalid, "\"trees\": a value is out of range");
    if (row.size() == 5) {
      if (!row[1].is_string() || row[1].get_ref<const std::string&>().empty() || !row[2].is_number() || !row[3].is_number_integer() || !row[4].is_number_integer()) {
        return fail(Code::Invalid, "\"trees\": a node is [value] or [value, feature, threshold, left, right]");
      }
      const auto left = row[3].get<std::int64_t>(), right = row[4].get<std::int64_t>();
      if (left <= at || right <= at || left >= size || right >= size) return fail(Code::Invalid, "\"trees\": a child does not come after its parent");
      node.feature = row[1].get<std::string>();
      node.threshold = row[2].get<double>();
      node.left = static_cast<std::int32_t>(left);
      node.right = static_cast<std::int32_t>(right);
    }
    out.push_back(std::move(node));
  }
  return out;
}

json tree_record(const Tree& tree) {
  json out = json::array();
  for (const TreeNode& node : tree) {
    const double value = std::round(node.value * 1e5) / 1e5;
    out.push_back(node.feature.empty() ? json::array({value}) : json::array({value, node.feature, node.threshold, node.left, node.right}));
  }
  return out;
}

double number(const json& from, const char* key, double otherwise) {
  const auto found = from.find(key);
  return found != from.end() && found->is_number() ? found->get<double>() : otherwise;
}

Result<Calibration> read_calibration(const json& from, std::string_view what) {
  Calibration out;
  for (const auto& [key, value] : {std::pair("lead", &out.lead), std::pair("agree", &out.agree), std::pair("offset", &out.offset)}) {
    *value = number(from, key, *value);
    if (!(std::fabs(*value) <= 100)) return fail(Code::Invalid, fmt::format("\"{}\": \"{}\" is out of range", what, key));
  }
  return out;
}

json calibration_record(const Calibration& one) {
  const auto rounded = [](double value) { return std::round(value * 1e3) / 1e3; };
  return {{"lead", rounded(one.lead)}, {"agree", rounded(one.agree)}, {"offset", rounded(one.offset)}};
}

}  // namespace

Result<Model> parse_model(std::string_view json_text) {
  ASSIGN(const json from, parse_object(json_text));
  if (!from.contains("culprit_weights")) return fail(Code::Invalid, "no weights of culprit (no \"culprit_weights\")");
  if (!from["culprit_weights"].is_number_integer() || from["culprit_weights"] != kWeightsVersion) {
    return fail(Code::Unsupported, fmt::format("weights format {}; this culprit reads format {}", from["culprit_weights"].dump(), kWeightsVersion));
  }
  Model out;
  if (const auto source = from.find("source"); source != from.end() && source->is_string()) out.source = source->get<std::string>();
  TRY(read_weights(from.value("weights", json::object()), out.weights, "weights"));
  for (const json& tree : from.value("trees", json::array())) {
    if (out.trees.size() >= kTreesMax) return fail(Code::Exhausted, fmt::format("more than {} trees", kTreesMax));
    ASSIGN(Tree one, read_tree(tree));
    out.trees.push_back(std::move(one));
  }
  const json calibration = from.value("calibration", json::object());
  if (!calibration.is_object()) return fail(Code::Invalid, "\"calibration\" is no object");
  ASSIGN(out.calibration.common, read_calibration(calibration, "calibration"));
  const json kinds = calibration.value("by_evidence", json::object());
  if (!kinds.is_object() || kinds.size() > kEvidenceKindsMax) return fail(Code::Invalid, "\"calibration\": \"by_evidence\" is no object");
  for (const auto& [kind, one] : kinds.items()) {
    if (!one.is_object()) return fail(Code::Invalid, fmt::format("\"calibration\": '{}' is no object", kind));
    ASSIGN(out.calibration.by_evidence[kind], read_calibration(one, kind));
  }
  const json faults = from.value("faults", json::object());
  if (!faults.is_object()) return fail(Code::Invalid, "\"faults\" is no object");
  for (const auto& [kind, weights] : faults.items()) TRY(read_weights(weights, out.faults[kind], "faults"));
  const json habits = from.value("habits", json::object());
  if (!habits.is_object()) return fail(Code::Invalid, "\"habits\" is no object");
  out.habits.cases = static_cast<std::uint64_t>(std::max(0.0, std::min(1e15, number(habits, "cases", 0))));
  const json counts = habits.value("counts", json::object());
  if (!counts.is_object()) return fail(Code::Invalid, "\"habits\" has no counts");
  for (const auto& [name, count] : counts.items()) {
    if (!count.is_number_unsigned()) return fail(Code::Invalid, fmt::format("\"habits\": '{}' is no count", name));
    out.habits.counts[name] = count.get<std::uint64_t>();
    if (out.habits.counts.size() > kFeaturesMax) return fail(Code::Exhausted, "\"habits\" are too many");
  }
  return out;
}

Result<Model> load_model(const std::filesystem::path& file) {
  constexpr std::size_t kBytesMax = 256U << 20U;
  const std::string name = file.string();
  errno = 0;
  std::ifstream in(file, std::ios::binary);
  if (!in) return fail_errno(errno, fmt::format("weights '{}'", name));
  std::string text;
  std::array<char, 1U << 16U> buffer{};
  while (in.read(buffer.data(), buffer.size()), in.gcount() > 0) {
    text.append(buffer.data(), static_cast<std::size_t>(in.gcount()));
    if (text.size() > kBytesMax) return fail(Code::Exhausted, fmt::format("weights '{}': more than {} bytes", name, kBytesMax));
  }
  if (in.bad() || text.empty()) return fail(Code::Io, fmt::format("weights '{}': nothing can be read from it", name));
  auto model = parse_model(text);
  if (!model) return std::unexpected(model.error().context(fmt::format("weights '{}'", name)));
  return model;
}

std::string write_model(const Model& model) {
  json faults = json::object();
  for (const auto& [kind, weights] : model.faults) faults[kind] = weights;
  json trees = json::array();
  for (const Tree& tree : model.trees) trees.push_back(tree_record(tree));
  json calibration = calibration_record(model.calibration.common);
  if (!model.calibration.by_evidence.empty()) calibration["by_evidence"] = json::object();
  for (const auto& [kind, one] : model.calibration.by_evidence) calibration["by_evidence"][kind] = calibration_record(one);
  const json out = {{"culprit_weights", kWeightsVersion},
                    {"source", model.source},
                    {"weights", model.weights},
                    {"trees", std::move(trees)},
                    {"calibration", std::move(calibration)},
                    {"faults", std::move(faults)},
                    {"habits", {{"cases", model.habits.cases}, {"counts", model.habits.counts}}}};
  return out.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

const Model& built_in_model() {
  // Built once; what is wrong with it is our own mistake, which a test finds.
  static const Model kModel = [] {
    std::string text;
    for (const BuiltInText& one : built_in_weights()) text += one.text;
    return parse_model(text).value_or(Model{});
  }();
  return kModel;
}

}  // namespace culprit::explain
