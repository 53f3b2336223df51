// retrieve DOCS.jsonl QUERIES.jsonl > RUN.jsonl: ranks the documents for each query with the product's own
// search (FTS5 and vectors over the documents of the query's collection) and measures the cost of both. Flags:
//   --signal    documents include their tell-tale signal        --text / --vectors    only one of the two
//   --scores    print both scores of each candidate instead, to choose the weights of their sum
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "embed/index.h"
#include "embed/model.h"
#include "graph/knowledge.h"

namespace {

using namespace culprit;
using Clock = std::chrono::steady_clock;

struct Collection {
  std::vector<std::string> ids;
  std::vector<graph::Document> documents;
  std::shared_ptr<const graph::Knowledge> known;
  embed::Model model;
  std::optional<embed::Index> index;
};

double microseconds(Clock::duration duration) { return std::chrono::duration<double, std::micro>(duration).count(); }

Result<void> run(const std::vector<std::string>& files, const std::set<std::string>& flags) {
  std::map<std::string, Collection> collections;
  std::ifstream docs(files[0]);
  for (std::string line; std::getline(docs, line);) {
    const auto json = nlohmann::json::parse(line);
    Collection& collection = collections[json["collection"]];
    collection.ids.push_back(json["doc_id"]);
    graph::Document document{.title = json["title"], .body = json["text"]};
    if (flags.contains("--signal") && json.contains("signal")) document.signal = json["signal"];
    collection.documents.push_back(std::move(document));
  }
  Clock::duration embedding{};
  std::size_t embedded = 0;
  for (auto& [name, collection] : collections) {
    ASSIGN(collection.known, graph::Knowledge::from_packs({}, collection.documents));
    std::vector<std::string> texts;
    for (const auto& document : collection.documents) texts.push_back(document.title + " " + document.body + " " + document.signal);
    const std::vector<std::string_view> views(texts.begin(), texts.end());
    collection.model.learn(views);
    ASSIGN(collection.index, embed::Index::create());
    for (std::size_t i = 0; i < texts.size(); ++i) {
      const auto id = static_cast<std::int64_t>(collection.known->documents()[i].id);
      const embed::Vector vector = collection.model.vector(texts[i]);
      TRY(collection.index->add(std::span(&id, 1), std::span(&vector, 1)));
    }
  }
  std::ifstream queries(files[1]);
  Clock::duration searching{};
  for (std::string line; std::getline(queries, line);) {
    const auto json = nlohmann::json::parse(line);
    const std::string query = json["query"];
    const Collection& collection = collections[json["collection"]];
    std::vector<graph::Scored> scored;
    if (!flags.contains("--text")) {
      const auto start = Clock::now();
      const embed::Vector vector = collection.model.vector(query);
      embedding += Clock::now() - start;
      ++embedded;
      ASSIGN(const auto neighbours, collection.index->search(vector, collection.ids.size()));
      for (const auto& neighbour : neighbours) scored.push_back({graph::DocumentId{neighbour.id}, neighbour.similarity});
    }
    const auto start = Clock::now();
    const auto hits = collection.known->search(flags.contains("--vectors") ? "" : query, flags.contains("--scores") ? 1000 : 10, scored);
    searching += Clock::now() - start;
    nlohmann::json ranked = nlohmann::json::array();
    for (const auto& hit : hits) {
      const std::string& id = collection.ids[static_cast<std::size_t>(hit.document->id) - 1];
      if (flags.contains("--scores")) ranked.push_back({id, hit.text_score, hit.vector_score});
      else ranked.push_back(id);
    }
    std::cout << nlohmann::json{{"qid", json["qid"]}, {"ranked", ranked}}.dump() << "\n";
  }
  if (embedded > 0) fmt::print(stderr, "embed {:.1f} us a query, search {:.1f} us\n", microseconds(embedding) / static_cast<double>(embedded), microseconds(searching) / static_cast<double>(embedded));
  return {};
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> files;
  std::set<std::string> flags;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg.starts_with("--")) flags.insert(arg);
    else files.push_back(arg);
  }
  if (files.size() != 2) {
    fmt::print(stderr, "usage: retrieve DOCS.jsonl QUERIES.jsonl [--signal] [--text | --vectors] > RUN.jsonl\n");
    return 2;
  }
  if (const auto done = run(files, flags); !done) {
    fmt::print(stderr, "retrieve: {}\n", done.error().message);
    return 1;
  }
  return 0;
}
