// The one file that calls FAISS: its exceptions end here.
#include "embed/index.h"

#include <faiss/IndexHNSW.h>
#include <faiss/index_io.h>
#include <faiss/impl/io.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <exception>
#include <fstream>
#include <iterator>
#include <unordered_map>
#include <unordered_set>

#include "daemon/base/fd.h"

// Of the OpenMP library that FAISS brings: one thread builds the graph, so that the same vectors give the same graph.
extern "C" void omp_set_num_threads(int threads);

namespace culprit::embed {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format below is little-endian");
constexpr char kMagic[8] = {'C', 'U', 'L', 'P', 'V', 'E', 'C', '2'};
constexpr std::size_t kModelNameMax = 256;
// HNSW: neighbours of a node, candidates while building and while searching (Malkov and Yashunin, 2016). Measured with
// ./dev bench embed.
constexpr int kLinks = 16;
constexpr int kBuildBreadth = 40;
constexpr int kSearchBreadth = 64;

// File: magic 8 | dimensions u32 | name length u32 | name | count u64 | ids count × i64 | vectors | length of the graph u64 |
// the graph as FAISS writes it (0 bytes if there is none) | FNV-1a u64 of all before. The sum is checked before FAISS
// sees a byte: what passes is what this program wrote.
template <typename T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}

// Takes from the front; false if there is too little.
template <typename T>
bool take(std::string_view& in, T& value) {
  if (in.size() < sizeof(value)) return false;
  std::memcpy(&value, in.data(), sizeof(value));
  in.remove_prefix(sizeof(value));
  return true;
}

void sort_neighbours(std::vector<Neighbour>& found, std::size_t limit) {
  const auto nearer = [](const Neighbour& a, const Neighbour& b) { return a.similarity != b.similarity ? a.similarity > b.similarity : a.id < b.id; };
  limit = std::min(limit, found.size());
  std::ranges::partial_sort(found, found.begin() + static_cast<std::ptrdiff_t>(limit), nearer);
  found.resize(limit);
}

}  // namespace

struct Index::Impl {
  explicit Impl(std::size_t width) : dimensions(width) {}

  std::size_t dimensions;
  std::vector<std::int64_t> ids;   // by position
  std::vector<float> vectors;      // by position
  std::unordered_map<std::int64_t, std::size_t> position;
  // Position in the graph -> id, which is -1 once removed: the graph cannot forget a node.
  std::unique_ptr<faiss::IndexHNSWFlat> graph;
  std::vector<std::int64_t> graph_ids;
  std::size_t graph_removed = 0;

  std::span<const float> at(std::size_t i) const { return std::span(vectors).subspan(i * dimensions, dimensions); }

  // Makes the graph if there are enough vectors, or anew if too much of it is dead.
  void build_graph() {
    omp_set_num_threads(1);
    graph.reset();
    graph_ids.clear();
    graph_removed = 0;
    if (ids.size() <= kFlatVectorsMax) return;
    graph = std::make_unique<faiss::IndexHNSWFlat>(static_cast<int>(dimensions), kLinks, faiss::METRIC_INNER_PRODUCT);
    graph->hnsw.efConstruction = kBuildBreadth;
    graph->hnsw.efSearch = kSearchBreadth;
    graph->add(static_cast<std::int64_t>(ids.size()), vectors.data());
    graph_ids = ids;
  }
};

Index::Index(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Index::Index(Index&&) noexcept = default;
Index& Index::operator=(Index&&) noexcept = default;
Index::~Index() = default;

Result<Index> Index::create(std::size_t dimensions) {
  if (dimensions == 0 || dimensions > kIndexDimensionsMax) return fail(Code::Invalid, fmt::format("vector index: {} dimensions, 1 to {} are possible", dimensions, kIndexDimensionsMax));
  return Index(std::make_unique<Impl>(dimensions));
}

Result<void> Index::add(std::span<const std::int64_t> ids, std::span<const float> vectors) {
  const std::size_t width = impl_->dimensions;
  if (vectors.size() != ids.size() * width) return fail(Code::Invalid, fmt::format("vector index: {} vectors of {} floats are {} floats, not {}", ids.size(), width, ids.size() * width, vectors.size()));
  if (ids.size() > kIndexVectorsMax - impl_->ids.size()) return fail(Code::Exhausted, fmt::format("vector index holds at most {}", kIndexVectorsMax));
  std::unordered_set<std::int64_t> fresh;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0) return fail(Code::Invalid, fmt::format("vector index: id {} is negative", ids[i]));
    if (impl_->position.contains(ids[i]) || !fresh.insert(ids[i]).second) return fail(Code::Invalid, fmt::format("vector index: id {} is there already", ids[i]));
    if (!std::ranges::all_of(vectors.subspan(i * width, width), [](float value) { return std::isfinite(value); })) {
      return fail(Code::Invalid, fmt::format("vector index: vector {} is not finite", ids[i]));
    }
  }
  if (ids.empty()) return {};
  try {
    // The graph first: if memory runs out there, nothing else has changed.
    if (impl_->graph) {
      omp_set_num_threads(1);
      impl_->graph->add(static_cast<std::int64_t>(ids.size()), vectors.data());
      impl_->graph_ids.insert(impl_->graph_ids.end(), ids.begin(), ids.end());
    }
    for (std::size_t i = 0; i < ids.size(); ++i) impl_->position[ids[i]] = impl_->ids.size() + i;
    impl_->ids.insert(impl_->ids.end(), ids.begin(), ids.end());
    impl_->vectors.insert(impl_->vectors.end(), vectors.begin(), vectors.end());
    if (!impl_->graph) impl_->build_graph();
  } catch (const std::exception& e) {
    return fail(Code::Exhausted, fmt::format("vector index: {}", e.what()));
  }
  return {};
}

Result<void> Index::remove(std::int64_t id) {
  Impl& impl = *impl_;
  const auto found = impl.position.find(id);
  if (found == impl.position.end()) return fail(Code::NotFound, fmt::format("vector index: no id {}", id));
  const std::size_t at = found->second;
  const std::size_t last = impl.ids.size() - 1;
  if (at != last) {
    impl.ids[at] = impl.ids[last];
    std::copy_n(impl.vectors.begin() + static_cast<std::ptrdiff_t>(last * impl.dimensions), impl.dimensions, impl.vectors.begin() + static_cast<std::ptrdiff_t>(at * impl.dimensions));
    impl.position[impl.ids[at]] = at;
  }
  impl.ids.pop_back();
  impl.vectors.resize(last * impl.dimensions);
  impl.position.erase(id);
  if (!impl.graph) return {};
  if (const auto dead = std::ranges::find(impl.graph_ids, id); dead != impl.graph_ids.end()) *dead = -1;
  try {
    if (++impl.graph_removed * 8 > impl.graph_ids.size()) impl.build_graph();
  } catch (const std::exception& e) {
    return fail(Code::Exhausted, fmt::format("vector index: {}", e.what()));
  }
  return {};
}

bool Index::contains(std::int64_t id) const { return impl_->position.contains(id); }
std::size_t Index::size() const { return impl_->ids.size(); }
std::size_t Index::dimensions() const { return impl_->dimensions; }
std::span<const std::int64_t> Index::ids() const { return impl_->ids; }

Result<std::vector<Neighbour>> Index::search(std::span<const float> query, std::size_t limit) const {
  const Impl& impl = *impl_;
  if (query.size() != impl.dimensions) return fail(Code::Invalid, fmt::format("vector index: a vector of {} floats, the index has {}", query.size(), impl.dimensions));
  std::vector<Neighbour> found;
  limit = std::min(limit, impl.ids.size());
  if (limit == 0) return found;
  if (!impl.graph) {
    found.reserve(impl.ids.size());
    for (std::size_t i = 0; i < impl.ids.size(); ++i) found.push_back({impl.ids[i], dot(query, impl.at(i))});
    sort_neighbours(found, limit);
    return found;
  }
  try {
    const std::size_t asked = std::min(limit + impl.graph_removed, impl.graph_ids.size());
    std::vector<float> similarities(asked);
    std::vector<std::int64_t> labels(asked);
    impl.graph->search(1, query.data(), static_cast<std::int64_t>(asked), similarities.data(), labels.data());
    for (std::size_t i = 0; i < asked; ++i) {
      if (labels[i] < 0 || static_cast<std::size_t>(labels[i]) >= impl.graph_ids.size()) continue;
      if (const std::int64_t id = impl.graph_ids[static_cast<std::size_t>(labels[i])]; id >= 0) found.push_back({id, similarities[i]});
    }
  } catch (const std::exception& e) {
    return fail(Code::Io, fmt::format("vector index: {}", e.what()));
  }
  sort_neighbours(found, limit);
  return found;
}

Result<std::vector<Neighbour>> Index::search_among(std::span<const float> query, std::span<const std::int64_t> among, std::size_t limit) const {
  if (query.size() != impl_->dimensions) return fail(Code::Invalid, fmt::format("vector index: a vector of {} floats, the index has {}", query.size(), impl_->dimensions));
  std::vector<Neighbour> found;
  for (const std::int64_t id : among) {
    if (const auto at = impl_->position.find(id); at != impl_->position.end()) found.push_back({id, dot(query, impl_->at(at->second))});
  }
  sort_neighbours(found, limit);
  return found;
}

Result<void> Index::save(const std::filesystem::path& file, std::string_view model) const {
  if (model.empty() || model.size() > kModelNameMax) return fail(Code::Invalid, "vector index: the model's name must have 1 to 256 bytes");
  const Impl& impl = *impl_;
  std::string bytes;
  bytes.append(kMagic, sizeof(kMagic));
  put(bytes, static_cast<std::uint32_t>(impl.dimensions));
  put(bytes, static_cast<std::uint32_t>(model.size()));
  bytes += model;
  put(bytes, static_cast<std::uint64_t>(impl.ids.size()));
  bytes.append(reinterpret_cast<const char*>(impl.ids.data()), impl.ids.size() * sizeof(std::int64_t));
  bytes.append(reinterpret_cast<const char*>(impl.vectors.data()), impl.vectors.size() * sizeof(float));
  try {
    faiss::VectorIOWriter graph;
    // With dead nodes in it the graph does not fit the ids any more; whoever loads the file makes a new one.
    if (impl.graph && impl.graph_removed == 0 && impl.graph_ids == impl.ids) faiss::write_index(impl.graph.get(), &graph);
    put(bytes, static_cast<std::uint64_t>(graph.data.size()));
    bytes.append(reinterpret_cast<const char*>(graph.data.data()), graph.data.size());
  } catch (const std::exception& e) {
    return fail(Code::Io, fmt::format("vector index: {}", e.what()));
  }
  put(bytes, fnv1a(bytes));

  const std::string temporary = file.string() + ".new";
  const Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640));
  if (!fd) return fail_errno(errno, "write '" + temporary + "'");
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t written = ::write(fd.get(), bytes.data() + done, bytes.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return fail_errno(errno, "write '" + temporary + "'");
    done += static_cast<std::size_t>(written);
  }
  if (::fsync(fd.get()) != 0) return fail_errno(errno, "write '" + temporary + "'");
  if (::rename(temporary.c_str(), file.c_str()) != 0) return fail_errno(errno, "rename '" + temporary + "'");
  return {};
}

Result<Index> Index::load(const std::filesystem::path& file, std::string_view model, std::size_t dimensions) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  if (error) return fail_errno(error.value(), "read '" + file.string() + "'");
  if (size > kIndexVectorsMax * kIndexDimensionsMax) return fail(Code::Corrupt, fmt::format("'{}' is too large for a vector index", file.string()));
  std::string bytes(size, '\0');
  std::ifstream stream(file, std::ios::binary);
  if (!stream.read(bytes.data(), static_cast<std::streamsize>(size))) return fail(Code::Io, "read '" + file.string() + "'");
  const auto corrupt = [&](std::string_view what) { return fail(Code::Corrupt, fmt::format("'{}': {}", file.string(), what)); };
  if (bytes.size() < sizeof(kMagic) + sizeof(std::uint64_t) || std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0) return corrupt("no vector index");
  std::string_view rest = std::string_view(bytes).substr(sizeof(kMagic), bytes.size() - sizeof(kMagic) - sizeof(std::uint64_t));
  std::uint64_t sum = 0;
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof(sum), sizeof(sum));
  if (sum != fnv1a(std::string_view(bytes).substr(0, bytes.size() - sizeof(sum)))) return corrupt("checksum differs");
  std::uint32_t width = 0;
  std::uint32_t name_bytes = 0;
  std::uint64_t count = 0;
  std::uint64_t graph_bytes = 0;
  if (!take(rest, width) || !take(rest, name_bytes) || name_bytes > rest.size()) return corrupt("header is cut off");
  if (width != dimensions || rest.substr(0, name_bytes) != model) {
    return fail(Code::Unsupported, fmt::format("'{}' was made with model '{}' ({} dimensions)", file.string(), rest.substr(0, std::min<std::size_t>(name_bytes, kModelNameMax)), width));
  }
  rest.remove_prefix(name_bytes);
  if (!take(rest, count) || count > kIndexVectorsMax || rest.size() < count * (sizeof(std::int64_t) + width * sizeof(float))) return corrupt("length does not fit its count");
  std::vector<std::int64_t> ids(count);
  std::vector<float> vectors(count * width);
  if (count > 0) {
    std::memcpy(ids.data(), rest.data(), count * sizeof(std::int64_t));
    std::memcpy(vectors.data(), rest.data() + count * sizeof(std::int64_t), vectors.size() * sizeof(float));
  }
  rest.remove_prefix(count * (sizeof(std::int64_t) + width * sizeof(float)));
  if (!take(rest, graph_bytes) || rest.size() != graph_bytes) return corrupt("length of the graph does not fit");
  ASSIGN(Index index, create(width));
  if (graph_bytes == 0) {
    if (auto added = index.add(ids, vectors); !added) return corrupt(added.error().message);
    return index;
  }
  try {
    faiss::VectorIOReader reader;
    reader.data.assign(rest.begin(), rest.end());
    std::unique_ptr<faiss::Index> read(faiss::read_index(&reader));
    auto* graph = dynamic_cast<faiss::IndexHNSWFlat*>(read.get());
    if (graph == nullptr || graph->ntotal != static_cast<std::int64_t>(count) || graph->d != static_cast<int>(width)) return corrupt("the graph is not of these vectors");
    (void)read.release();
    index.impl_->graph.reset(graph);
  } catch (const std::exception& e) {
    return corrupt(e.what());
  }
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0 || !index.impl_->position.emplace(ids[i], i).second) return corrupt("an id is negative or there twice");
  }
  index.impl_->graph_ids = ids;
  index.impl_->ids = std::move(ids);
  index.impl_->vectors = std::move(vectors);
  return index;
}

}  // namespace culprit::embed
