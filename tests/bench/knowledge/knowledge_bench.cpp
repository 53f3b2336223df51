// knowledge_bench: the cost of knowing, one JSON object a line: a line matched against all packs, a
// library of 20,000 documents and a million edges.
#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "daemon/recall/recall.h"
#include "graph/knowledge.h"
#include "graph/store.h"

namespace {

using namespace culprit;
using Clock = std::chrono::steady_clock;

constexpr int kDocuments = 20'000;

template <typename Work>
double seconds(Work work) {
  const auto start = Clock::now();
  work();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

void print(std::string_view id, std::string_view workload, double ours, std::string_view unit, double asked) {
  fmt::print(R"({{"id":"{}","workload":"{}","ours":{:.3f},"opponent":null,"ratio":null,"unit":"{}","asked":{},"ok":{}}})" "\n", id, workload, ours, unit, asked, ours < asked);
}

// 20,000 documents of words that the packs use, a million edges from documents to failure modes.
void library(const std::shared_ptr<const graph::Knowledge>& known) {
  std::string name = (std::filesystem::temp_directory_path() / "culprit-bench-XXXXXX").string();
  const std::filesystem::path folder = ::mkdtemp(name.data());
  std::vector<std::string> sentences;
  std::vector<std::string> modes;
  for (const graph::Pack& pack : known->packs()) {
    for (const graph::FailureMode& mode : pack.modes) {
      modes.push_back(mode.id);
      sentences.push_back(mode.summary);
      sentences.insert(sentences.end(), mode.paraphrases.begin(), mode.paraphrases.end());
      for (const graph::Cause& cause : mode.causes) sentences.push_back(cause.text);
      for (const graph::Mitigation& mitigation : mode.mitigations) sentences.push_back(mitigation.text);
    }
  }
  std::mt19937 random(1);
  const auto sentence = [&] { return sentences[random() % sentences.size()]; };
  {
    std::ofstream out(folder / "wiki.jsonl");
    for (int i = 0; i < kDocuments; ++i) {
      std::string text;
      for (int k = 0; k < 12; ++k) text += sentence() + fmt::format(" See ticket {} of host{}. ", random() % 1'000'000, random() % 5'000);
      out << R"({"id":")" << i << R"(","title":")" << escaped(sentence()) << R"(","text":")" << escaped(text) << "\"}\n";
    }
  }
  const auto modes_of = std::make_shared<const recall::Modes>(known, *recall::built_in_model());
  const std::filesystem::path file = folder / "graph.db";
  {
    auto recall = recall::Recall::open(modes_of, {.graph_file = file, .write = true}).value();
    const double import_s = seconds([&] { (void)recall->import(folder / "wiki.jsonl", 1, {}).value(); });
    print("import", "20,000 documents of 1.3 kB", import_s, "s", 120);
    // Fifty edges a document, each to another failure mode.
    auto& store = *recall->library();
    for (std::int64_t at = 1; at <= kDocuments; at += 500) {
      std::vector<std::int64_t> texts;
      std::vector<graph::TextLink> links;
      for (std::int64_t text = at; text < at + 500; ++text) {
        texts.push_back(text);
        std::vector<std::string> of_text;
        std::ranges::sample(modes, std::back_inserter(of_text), 50, random);
        for (const std::string& mode : of_text) links.push_back({text, mode, 0.05 + static_cast<double>(random() % 90) / 100});
      }
      (void)store.set_links(texts, links);
    }
    (void)recall->save_index();
  }
  std::unique_ptr<recall::Recall> recall;
  std::string said;
  const double start_s = seconds([&] { recall = recall::Recall::open(modes_of, {.graph_file = file}).value(); });
  print("library-open", fmt::format("{} documents, {} edges", recall->library()->stats()->documents, recall->library()->stats()->links), start_s, "s", 1);
  print("library-check", "every page read, as the daemon does at its start", seconds([&] { (void)graph::Store::open_or_set_aside(file, said).value(); }), "s", 1);
  std::vector<double> took;
  for (int i = 0; i < 1'000; ++i) {
    const std::string question = sentence();
    took.push_back(seconds([&] { (void)recall->documents({.text = question}).value(); }));
  }
  std::ranges::sort(took);
  print("library-query-p50", "a sentence", took[500] * 1e3, "ms", 20);
  print("library-query-p99", "a sentence", took[990] * 1e3, "ms", 20);
  print("library-bytes", "graph.db", static_cast<double>(std::filesystem::file_size(file)) / 1e6, "MB", 200);
  recall.reset();
  std::filesystem::remove_all(folder);
}

int run() {
  std::shared_ptr<const graph::Knowledge> known;
  const double load_s = seconds([&] { known = graph::Knowledge::load({}).value(); });
  print("knowledge-load", fmt::format("{} failure modes", known->mode_count()), load_s * 1e3, "ms", 500);

  const std::string_view lines[] = {
      R"(127.0.0.1 - - [23/Nov/2026:10:00:00 +0000] "GET /items/7?page=2 HTTP/1.1" 200 512 "-" "wrk/4.1" 0.012)",
      "2026-11-23 10:00:00.123 UTC [4211] shop@shop LOG:  duration: 12.345 ms  statement: SELECT id, name, price FROM items WHERE id = $1",
      "2026-11-23 10:00:00.123 UTC [4212] shop@shop FATAL:  sorry, too many clients already",
      "INFO shop.api request finished method=GET path=/items/12 status=200 duration_ms=4.2 trace_id=4bf92f3577b34da6a3ce929d0e0e4736"};
  constexpr int kRounds = 20'000;
  std::size_t matches = 0;
  const double match_s = seconds([&] {
    for (int i = 0; i < kRounds; ++i) matches += known->match(lines[static_cast<std::size_t>(i) % std::size(lines)]).size();
  });
  print("match", fmt::format("log lines, {} of {} match", matches, kRounds), match_s / kRounds * 1e6, "us/line", 10);

  library(known);
  return 0;
}

}  // namespace

int main() { return run(); }
