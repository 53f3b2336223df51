// culprit learn: fits the ranking's weights to labelled incidents.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>

#include "daemon/explain/learn/alert_words.h"
#include "daemon/explain/learn/labelled.h"
#include "daemon/explain/learn/self_taught.h"
#include "daemon/explain/recorded/lose.h"
#include "ui/cli/offline.h"

namespace culprit::cli {
namespace {

namespace ex = culprit::explain;

struct LearnOptions {
  std::vector<std::string> cases;
  std::string out;
  std::string answers;
  std::string source;
  double penalty = 1.0;
  double rare_penalty = 2.0;
  bool general = false;
  bool no_trees = false;
  bool unlabelled = false, only_count = false;
  std::string weights;
  std::vector<std::string> without;
  double keep_spans = 1, keep_samples = 1, keep = 1;
  std::vector<std::string> without_block;
  std::size_t deals = 0;  // 0: not told
};

bool any_exports(const std::vector<std::string>& directories) {
  return std::ranges::any_of(directories, [](const std::string& directory) { return ex::holds_exports(directory); });
}

struct Material {
  std::vector<ex::Example> examples;
  std::vector<ex::Example> tried;  // the same with less in them, if asked for
  ex::Habits habits;
  std::size_t silent = 0;  // exports that nobody said anything about
};

Result<ex::Habits> read_habits(const std::vector<std::string>& directories) {
  ex::Habits out;
  for (const std::string& directory : directories) {
    if (ex::holds_exports(directory)) continue;  // Culprit's own incidents hold no alerts to count
    TRY(ex::read_unlabelled(directory, [&](ex::RecordedCase&& one) -> Result<void> {
      if (!one.alerts.empty()) ex::learn_habits(one, out);
      return {};
    }));
  }
  return out;
}

constexpr std::string_view kUncounted = ", alerts not counted";

// Alerts are counted first, without labels; then every case becomes an example. `also_uncounted`: one of alerts becomes another, as
// it looks to somebody who has counted none, for weights that are to serve both.
Result<Material> read_material(const std::vector<std::string>& directories, const ex::Loss& loss, bool also_uncounted) {
  Material out;
  ASSIGN(out.habits, read_habits(directories));
  for (const std::string& directory : directories) {
    const auto take = [&](ex::RecordedCase&& one, const ex::Label& label) -> Result<void> {
      // A set of its own, so that it falls into the same fold as its twin.
      const std::string uncounted = directory + std::string(kUncounted);
      const bool twice = also_uncounted && !one.alerts.empty();
      out.examples.push_back(ex::example_of(one, label, ex::all_signals(one), out.habits, directory));
      if (twice) out.examples.push_back(ex::example_of(one, label, ex::all_signals(one), {}, uncounted));
      if (loss.any()) {
        ex::lose(one, loss);
        out.tried.push_back(ex::example_of(one, label, ex::all_signals(one), out.habits, directory));
        if (twice) out.tried.push_back(ex::example_of(one, label, ex::all_signals(one), {}, uncounted));
      }
      return {};
    };
    if (ex::holds_exports(directory)) {
      ASSIGN(const ex::ExportedCases read, ex::read_exported(directory, take));
      out.silent += read.silent;
    } else {
      TRY(ex::read_labelled(directory, take));
    }
  }
  return out;
}

// An ablation: the features of a block are gone from training and trial alike. "traces" means all of its modality.
void leave_out(std::vector<ex::Example>& examples, const std::vector<std::string>& blocks) {
  for (ex::Example& example : examples) {
    for (ex::Features& features : example.features) {
      std::erase_if(features, [&](const ex::Feature& feature) {
        return std::ranges::any_of(blocks, [&](const std::string& block) { return feature.name.starts_with(block); });
      });
    }
  }
}

double mean_confidence(const ex::CrossValidation& result) {
  double sum = 0;
  for (const ex::Held& held : result.held) sum += held.judgement.confidence;
  return result.held.empty() ? 0 : sum / static_cast<double>(result.held.size());
}

// What one way of dealing the folds said of the cases of a set; "" = of all.
ex::CrossValidation of_set(const ex::CrossValidation& all, std::string_view set) {
  ex::CrossValidation out;
  for (const ex::Held& held : all.held) {
    if (set.empty() || held.example->set == set) out.held.push_back(held);
  }
  ex::count_ranks(out);
  out.ece = ex::expected_calibration_error(out.held);
  return out;
}

// The mean over the deals, and how far AC@1 differs between them (standard deviation).
Json summary_of(const std::vector<ex::CrossValidation>& deals) {
  const auto with = [&deals](auto&& told) { return std::ranges::count_if(deals.front().held, [&told](const ex::Held& held) { return told(*held.example); }); };
  const auto known = with([](const ex::Example& one) { return one.known(); });
  const auto faults = with([](const ex::Example& one) { return one.known() && !one.fault.empty(); });
  const auto mean = [&deals](const auto& value) {
    double sum = 0;
    for (const ex::CrossValidation& one : deals) sum += value(one);
    return sum / static_cast<double>(deals.size());
  };
  const auto share = [](double value, auto of) { return of > 0 ? Json(value) : Json(nullptr); };  // of no label there is none
  const double ac1 = mean([](const ex::CrossValidation& one) { return one.ac1; });
  const double spread = std::sqrt(mean([ac1](const ex::CrossValidation& one) { return (one.ac1 - ac1) * (one.ac1 - ac1); }));
  return {{"cases", known}, {"ac1", share(ac1, known)}, {"ac1_spread", share(spread, known)}, {"avg5", share(mean([](const ex::CrossValidation& one) { return one.avg5; }), known)},
          {"fault_accuracy", share(mean([](const ex::CrossValidation& one) { return one.fault_accuracy; }), faults)},
          {"ece", share(mean([](const ex::CrossValidation& one) { return one.ece; }), known)}, {"confidence", mean(mean_confidence)}};
}

std::string render(const Json& document, const Style& style) {
  Table table({{"cases from"}, {"cases", Table::Align::Right}, {"AC@1", Table::Align::Right}, {"Avg@5", Table::Align::Right},
               {"fault", Table::Align::Right}, {"ECE", Table::Align::Right}, {"confidence", Table::Align::Right}});
  for (const Json& row : list(document, "sets")) {
    const auto share = [&row](const char* key, std::string_view without) { return row[key].is_null() ? std::string(without) : fmt::format("{:.3f}", number_or(row, key, 0)); };
    table.add({text(row, "set"), whole(row, "cases"), share("ac1", "no label"), share("avg5", "-"), share("fault_accuracy", "-"), share("ece", "-"),
               fmt::format("{:.2f}", number_or(row, "confidence", 0))});
  }
  const auto silent = static_cast<std::size_t>(number_or(document, "unlabelled", 0));
  const std::string left_out = silent == 0 ? std::string() : fmt::format("exported incidents left out, as nobody confirmed or rejected whom they blamed: {}\n", silent);
  const std::uint64_t deals = static_cast<std::uint64_t>(number_or(document, "deals", 1));
  const std::string over = deals == 1 ? std::string() : fmt::format(", mean of {} ways of dealing the folds", deals);
  return fmt::format("5-fold cross-validation by incident{}:\n{}{}{} weights written to {}\n", over, table.text(style, 0), left_out, whole(document, "weights"), text(document, "out", "nowhere (--out)"));
}

// Whole or not at all: a file that was there stays until the new one is complete. What is no file (/dev/stdout) is written to as it is.
Result<void> write_whole(const std::string& path, const std::function<void(std::ostream&)>& put) {
  std::error_code error;
  const bool is_special = std::filesystem::exists(path, error) && !std::filesystem::is_regular_file(path, error);
  const std::string part = is_special ? path : path + ".new";
  errno = 0;
  std::ofstream file(part, std::ios::binary | std::ios::trunc);
  put(file);
  file.close();
  if (file) {
    if (!is_special) std::filesystem::rename(part, path, error);
    if (is_special || !error) return {};
  }
  const std::string why = error ? error.message() : std::generic_category().message(errno != 0 ? errno : EIO);
  if (!is_special) std::filesystem::remove(part, error);
  return fail(Code::Io, fmt::format("cannot write '{}': {}", path, why));
}

Result<void> save(const ex::Model& model, const std::string& path) {
  if (path.empty()) return {};
  return write_whole(path, [&](std::ostream& file) { file << ex::write_model(model); });
}

// What was said of each case by weights that never saw it, one line each, as `culprit replay` would: for the data's own scorer.
Result<void> save_answers(const ex::CrossValidation& result, const std::string& path) {
  if (path.empty()) return {};
  return write_whole(path, [&](std::ostream& file) {
    for (const ex::Held& held : result.held) {
      Json ranking = Json::array();
      for (const std::size_t at : held.judgement.order) ranking.push_back(held.example->names[at]);
      file << Json{{"case", held.example->id}, {"ranking", std::move(ranking)}, {"fault_type", held.judgement.fault}, {"confidence", held.judgement.confidence}}.dump(-1, ' ', false, Json::error_handler_t::replace) << "\n";
    }
  });
}

// Few incidents teach little: what people confirmed of their own moves the weights that were there, rather than replacing them.
Result<std::optional<ex::Model>> start_of(const LearnOptions& options) {
  if (!options.weights.empty()) {
    ASSIGN(ex::Model model, ex::load_model(input_path(options.weights)));
    return std::optional(std::move(model));
  }
  if (any_exports(options.cases)) return std::optional(ex::built_in_model());
  return std::optional<ex::Model>();
}

// What can be learned without anybody's verdict: which alerts are usual, and from many incidents what they mean by whom else they make suspect.
Result<Exit> learn_unlabelled(const Session& session, const LearnOptions& options) {
  ex::Model model = ex::built_in_model();
  if (!options.weights.empty()) {
    ASSIGN(model, ex::load_model(input_path(options.weights)));
  }
  ASSIGN(model.habits, read_habits(options.cases));
  std::vector<ex::Example> examples;
  for (const std::string& directory : options.cases) {
    if (ex::holds_exports(directory)) continue;
    TRY(ex::read_unlabelled(directory, [&](ex::RecordedCase&& one) -> Result<void> {
      if (!one.alerts.empty()) examples.push_back(ex::example_of(one, {}, ex::all_signals(one), model.habits, directory));
      return {};
    }));
  }
  leave_out(examples, options.without_block);
  const bool taught = !options.only_count && examples.size() >= ex::kSelfTaughtMin;
  if (taught) model = ex::teach_itself(examples, model);
  model.source += fmt::format("; {} in {} incidents without labels", taught ? "self-taught" : "alerts counted", model.habits.cases);
  TRY(save(model, options.out));
  return session.show_document({{"api", 1}, {"sets", Json::array()}, {"weights", model.weights.size()}, {"out", options.out.empty() ? Json(nullptr) : Json(options.out)}},
                               [&](const Json&, const Style&) { return fmt::format("alerts of {} incidents counted; weights: {}\n", model.habits.cases, model.source); });
}

}  // namespace

void add_learn(CLI::App& app, Session& session) {
  const auto options = std::make_shared<LearnOptions>();  // shared by the option bindings and the callback
  app.add_option("--cases", options->cases, "Labelled cases: truth.jsonl and the cases beside it, or exported incidents with your verdicts; may be repeated")->required()->type_name("DIR");
  app.add_option("--out", options->out, "Where to write the weights; without it they are only tried")->type_name("FILE");
  app.add_option("--answers", options->answers, "Where to write what cross-validation answered, one line of JSON a case")->type_name("FILE");
  app.add_option("--source", options->source, "A note kept in the weights: what they were learned from")->type_name("TEXT");
  app.add_option("--penalty", options->penalty, "How strongly weights are held at 0 (L2)")->type_name("X")->check(CLI::Range(1e-4, 1e4))->capture_default_str();
  app.add_option("--name-penalty", options->rare_penalty, "Times that, for weights that name a service")->type_name("X")->check(CLI::Range(1e-4, 1e4))->capture_default_str();
  app.add_flag("--general", options->general, "Leave out what names a service: weights for any system");
  app.add_flag("--no-trees", options->no_trees, "Only weights, also with many incidents");
  app.add_flag("--unlabelled", options->unlabelled, "Use no labels: count which alerts are usual, and let the weights teach themselves what alerts mean here");
  app.add_flag("--only-count", options->only_count, "Use no labels, and keep the weights: only count which alerts are usual");
  app.add_option("--weights", options->weights, "Start from those weights: cases move them. Exports and cases without labels start from the built-in ones")->type_name("FILE");
  app.add_option("--without", options->without, "Try the weights on cases without metrics, traces, logs, topology or reference")->type_name("WHAT");
  app.add_option("--keep-spans", options->keep_spans, "Try them on cases with this share of their spans")->type_name("X")->check(CLI::Range(0.0, 1.0));
  app.add_option("--keep-samples", options->keep_samples, "Try them on cases with this share of their metric values")->type_name("X")->check(CLI::Range(0.0, 1.0));
  app.add_option("--keep", options->keep, "Try them on cases with this share of everything: spans, metric values, log lines, alerts")->type_name("X")->check(CLI::Range(0.0, 1.0));
  app.add_option("--without-block", options->without_block, "Neither learn nor try with these blocks: metrics.own_share, traces, alerts, ...")->type_name("NAME");
  app.add_option("--deals", options->deals, "Cross-validate in so many ways of dealing the folds, say the mean, and calibrate confidence on all of them: one is one draw (default: 5; 1 where trees are fitted, which take long)")->type_name("N")->check(CLI::Range(1, 1000));
  app.callback([&session, options] {
    session.run = [&session, options]() -> Result<Exit> {
      for (const double number : {options->penalty, options->rare_penalty, options->keep_spans, options->keep_samples, options->keep}) {
        if (!std::isfinite(number)) return fail(Code::Invalid, "nan is no number");  // it passes every range
      }
      ex::Loss loss{.spans_kept = options->keep_spans, .samples_kept = options->keep_samples};
      if (options->keep < 1) loss.spans_kept = loss.samples_kept = loss.lines_kept = loss.alerts_kept = options->keep;
      for (const std::string& what : options->without) TRY(ex::mark_lost(loss, what));
      if (options->unlabelled || options->only_count) return learn_unlabelled(session, *options);
      ASSIGN(Material material, read_material(options->cases, loss, options->general));
      for (auto* examples : {&material.examples, &material.tried}) leave_out(*examples, options->without_block);
      if (material.examples.empty()) return fail(Code::Invalid, material.silent == 0 ? std::string("there are no labelled cases") : fmt::format("nobody confirmed or rejected whom the exported incidents ({}) blamed: culprit confirm, or reject", material.silent));
      ASSIGN(const std::optional<ex::Model> start, start_of(*options));
      if (!start && std::ranges::none_of(material.examples, [](const ex::Example& one) { return one.truth >= 0 || !one.rejected.empty(); })) {
        return fail(Code::Invalid, fmt::format("none of the {} labels names a service of its case: there is nothing to learn", material.examples.size()));
      }
      ex::FitOptions fitting{.penalty = options->penalty, .rare_penalty = options->rare_penalty, .names = !options->general, .start = start ? &*start : nullptr};
      if (options->no_trees) fitting.trees_from = material.examples.size() + 1;
      constexpr std::size_t kDealsUsual = 5;
      const std::size_t usual = !start && material.examples.size() >= fitting.trees_from ? 1 : kDealsUsual;
      const ex::Validation validation =
          ex::cross_validate(material.examples, fitting, {.tried = loss.any() ? &material.tried : nullptr, .deals = options->deals != 0 ? options->deals : usual});
      const std::vector<ex::CrossValidation>& deals = validation.deals;
      std::vector<const ex::Example*> examples;
      for (const ex::Example& one : material.examples) examples.push_back(&one);
      ex::Model model = ex::fit(examples, fitting);
      model.calibration = validation.calibrated;
      if (!options->general && material.habits.cases > 0) model.habits = material.habits;
      model.source = !options->source.empty() ? options->source
                     : start                  ? fmt::format("{}; then {} incidents that people confirmed or rejected", start->source, examples.size())
                                              : fmt::format("{} labelled incidents", examples.size());
      TRY(save(model, options->out));
      TRY(save_answers(deals.front(), options->answers));
      Json sets = Json::array();
      std::vector<std::string> names = options->cases;
      for (const std::string& directory : options->cases) names.push_back(directory + std::string(kUncounted));
      names.emplace_back();
      for (const std::string& directory : names) {
        std::vector<ex::CrossValidation> of;
        for (const ex::CrossValidation& deal : deals) of.push_back(of_set(deal, directory));
        if (of.front().held.empty()) continue;
        Json row = summary_of(of);
        row["set"] = directory.empty() ? "all" : directory;
        sets.push_back(std::move(row));
      }
      return session.show_document({{"api", 1}, {"sets", std::move(sets)}, {"deals", deals.size()}, {"unlabelled", material.silent}, {"weights", model.weights.size()}, {"out", options->out.empty() ? Json(nullptr) : Json(options->out)}}, render);
    };
  });
}

}  // namespace culprit::cli
