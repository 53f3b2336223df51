// The only file that calls FAISS: its exceptions end here.
#include "embed/index.h"

#include <faiss/IndexFlat.h>
#include <faiss/IndexIDMap.h>
#include <faiss/impl/IDSelector.h>
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
#include <unordered_set>

#include "daemon/base/fd.h"

namespace culprit::embed {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format below is little-endian");
constexpr char kMagic[8] = {'C', 'U', 'L', 'P', 'V', 'E', 'C', '1'};
constexpr std::size_t kModelNameMax = 256;

// File: magic 8 | dimensions u32 | name length u32 | name | count u64 | ids count × i64 | vectors | FNV-1a u64 of all before.
std::uint64_t checksum(std::string_view bytes) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  return hash;
}

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

}  // namespace

struct Index::Impl {
  faiss::IndexFlatIP flat{static_cast<std::int64_t>(kDimensions)};
  faiss::IndexIDMap mapped{&flat};
  std::unordered_set<std::int64_t> ids;
};

Index::Index(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Index::Index(Index&&) noexcept = default;
Index& Index::operator=(Index&&) noexcept = default;
Index::~Index() = default;

Result<Index> Index::create() {
  try {
    return Index(std::make_unique<Impl>());
  } catch (const std::exception& e) {
    return fail(Code::Exhausted, fmt::format("vector index: {}", e.what()));
  }
}

Result<void> Index::add(std::span<const std::int64_t> ids, std::span<const Vector> vectors) {
  if (ids.size() != vectors.size()) return fail(Code::Invalid, "vector index: one id for each vector");
  if (ids.size() > kIndexVectorsMax - impl_->ids.size()) return fail(Code::Exhausted, fmt::format("vector index holds at most {}", kIndexVectorsMax));
  std::unordered_set<std::int64_t> fresh;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (ids[i] < 0) return fail(Code::Invalid, fmt::format("vector index: id {} is negative", ids[i]));
    if (impl_->ids.contains(ids[i]) || !fresh.insert(ids[i]).second) return fail(Code::Invalid, fmt::format("vector index: id {} is there already", ids[i]));
    if (!std::ranges::all_of(vectors[i], [](float value) { return std::isfinite(value); })) {
      return fail(Code::Invalid, fmt::format("vector index: vector {} is not finite", ids[i]));
    }
  }
  if (ids.empty()) return {};
  try {
    std::vector<std::int64_t> labels(ids.begin(), ids.end());
    impl_->mapped.add_with_ids(static_cast<std::int64_t>(ids.size()), vectors.front().data(), labels.data());
    impl_->ids.merge(fresh);
  } catch (const std::exception& e) {
    return fail(Code::Exhausted, fmt::format("vector index: {}", e.what()));
  }
  return {};
}

Result<void> Index::remove(std::int64_t id) {
  if (!impl_->ids.contains(id)) return fail(Code::NotFound, fmt::format("vector index: no id {}", id));
  try {
    const std::int64_t label = id;
    impl_->mapped.remove_ids(faiss::IDSelectorBatch(1, &label));
    impl_->ids.erase(id);
  } catch (const std::exception& e) {
    return fail(Code::Io, fmt::format("vector index: {}", e.what()));
  }
  return {};
}

bool Index::contains(std::int64_t id) const { return impl_->ids.contains(id); }
std::size_t Index::size() const { return impl_->ids.size(); }

Result<std::vector<Neighbour>> Index::search(const Vector& query, std::size_t limit) const {
  limit = std::min(limit, impl_->ids.size());
  std::vector<Neighbour> result;
  if (limit == 0) return result;
  try {
    std::vector<float> similarities(limit);
    std::vector<std::int64_t> labels(limit);
    impl_->mapped.search(1, query.data(), static_cast<std::int64_t>(limit), similarities.data(), labels.data());
    for (std::size_t i = 0; i < limit; ++i) {
      if (labels[i] >= 0) result.push_back({labels[i], similarities[i]});
    }
  } catch (const std::exception& e) {
    return fail(Code::Io, fmt::format("vector index: {}", e.what()));
  }
  std::ranges::sort(result, [](const Neighbour& a, const Neighbour& b) { return a.similarity != b.similarity ? a.similarity > b.similarity : a.id < b.id; });
  return result;
}

Result<void> Index::save(const std::filesystem::path& file, std::string_view model) const {
  if (model.empty() || model.size() > kModelNameMax) return fail(Code::Invalid, "vector index: the model's name must have 1 to 256 bytes");
  std::string bytes;
  bytes.append(kMagic, sizeof(kMagic));
  put(bytes, static_cast<std::uint32_t>(kDimensions));
  put(bytes, static_cast<std::uint32_t>(model.size()));
  bytes += model;
  put(bytes, static_cast<std::uint64_t>(impl_->mapped.ntotal));
  for (const std::int64_t id : impl_->mapped.id_map) put(bytes, static_cast<std::int64_t>(id));
  bytes.append(reinterpret_cast<const char*>(impl_->flat.get_xb()), impl_->ids.size() * sizeof(Vector));
  put(bytes, checksum(bytes));

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

Result<Index> Index::load(const std::filesystem::path& file, std::string_view model) {
  std::error_code error;
  const auto size = std::filesystem::file_size(file, error);
  if (error) return fail_errno(error.value(), "read '" + file.string() + "'");
  if (size > kIndexVectorsMax * (sizeof(Vector) + sizeof(std::int64_t)) + 4096) return fail(Code::Corrupt, fmt::format("'{}' is too large for a vector index", file.string()));
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(stream)), {});
  if (!stream) return fail(Code::Io, "read '" + file.string() + "'");
  const auto corrupt = [&](std::string_view what) { return fail(Code::Corrupt, fmt::format("'{}': {}", file.string(), what)); };
  if (bytes.size() < sizeof(kMagic) + sizeof(std::uint64_t) || std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0) return corrupt("no vector index");
  std::string_view rest = std::string_view(bytes).substr(sizeof(kMagic), bytes.size() - sizeof(kMagic) - sizeof(std::uint64_t));
  std::uint64_t sum = 0;
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof(sum), sizeof(sum));
  if (sum != checksum(std::string_view(bytes).substr(0, bytes.size() - sizeof(sum)))) return corrupt("checksum differs");
  std::uint32_t dimensions = 0;
  std::uint32_t name_bytes = 0;
  std::uint64_t count = 0;
  if (!take(rest, dimensions) || !take(rest, name_bytes) || name_bytes > rest.size()) return corrupt("header is cut off");
  if (dimensions != kDimensions || rest.substr(0, name_bytes) != model) {
    return fail(Code::Unsupported, fmt::format("'{}' was made with model '{}' ({} dimensions)", file.string(), rest.substr(0, std::min<std::size_t>(name_bytes, kModelNameMax)), dimensions));
  }
  rest.remove_prefix(name_bytes);
  if (!take(rest, count) || count > kIndexVectorsMax || rest.size() != count * (sizeof(std::int64_t) + sizeof(Vector))) return corrupt("length does not fit its count");
  std::vector<std::int64_t> ids(count);
  std::vector<Vector> vectors(count);
  if (count > 0) {
    std::memcpy(ids.data(), rest.data(), count * sizeof(std::int64_t));
    std::memcpy(vectors.data(), rest.data() + count * sizeof(std::int64_t), count * sizeof(Vector));
  }
  ASSIGN(Index index, create());
  if (auto added = index.add(ids, vectors); !added) return corrupt(added.error().message);
  return index;
}

}  // namespace culprit::embed
