#include "daemon/logs/sightings.h"

#include <fmt/format.h>

#include <algorithm>

#include "daemon/stream/bytes.h"

namespace culprit::logs {
namespace {

constexpr std::string_view kSavedAs = "culprit sightings 1\n";

}  // namespace

void Sightings::make_room() {
  std::vector<std::int64_t> last;
  last.reserve(size_);
  for (const auto& [id, rows] : rows_) {
    for (const Row& row : rows) last.push_back(row.sighting.last_wall_ns);
  }
  const auto middle = last.begin() + static_cast<std::ptrdiff_t>(last.size() / 2);
  std::ranges::nth_element(last, middle);
  const std::size_t before = size_;
  for (auto each = rows_.begin(); each != rows_.end();) {
    size_ -= std::erase_if(each->second, [&](const Row& row) { return row.sighting.last_wall_ns < *middle; });
    each = each->second.empty() ? rows_.erase(each) : std::next(each);
  }
  if (size_ == before) {  // all of one moment
    rows_.clear();
    size_ = 0;
  }
  forgotten_ += before - size_;
}

Sighting& Sightings::at(std::uint64_t template_id, std::uint64_t entity, std::int64_t wall_ns) {
  if (size_ >= entries_max_) make_room();
  std::vector<Row>& rows = rows_[template_id];
  auto found = std::ranges::lower_bound(rows, entity, {}, &Row::entity);
  if (found == rows.end() || found->entity != entity) {
    found = rows.insert(found, Row{entity, {wall_ns, wall_ns, 0}});
    ++size_;
  }
  return found->sighting;
}

void Sightings::add(std::uint64_t template_id, std::string_view entity, std::int64_t wall_ns) {
  Sighting& sighting = at(template_id, stream::hash_bytes(entity, 0), wall_ns);
  sighting.first_wall_ns = std::min(sighting.first_wall_ns, wall_ns);
  sighting.last_wall_ns = std::max(sighting.last_wall_ns, wall_ns);
  ++sighting.lines;
  if (began_wall_ns_ == 0 || wall_ns < began_wall_ns_) began_wall_ns_ = wall_ns;
}

void Sightings::merge(std::uint64_t from, std::uint64_t into) {
  const auto found = rows_.find(from);
  if (found == rows_.end() || from == into) return;
  const std::vector<Row> rows = std::move(found->second);
  rows_.erase(found);
  size_ -= rows.size();
  for (const Row& row : rows) {
    Sighting& sighting = at(into, row.entity, row.sighting.first_wall_ns);
    sighting.first_wall_ns = std::min(sighting.first_wall_ns, row.sighting.first_wall_ns);
    sighting.last_wall_ns = std::max(sighting.last_wall_ns, row.sighting.last_wall_ns);
    sighting.lines += row.sighting.lines;
  }
}

const Sighting* Sightings::find(std::uint64_t template_id, std::string_view entity) const {
  const auto found = rows_.find(template_id);
  if (found == rows_.end()) return nullptr;
  const std::uint64_t hash = stream::hash_bytes(entity, 0);
  const auto row = std::ranges::lower_bound(found->second, hash, {}, &Row::entity);
  return row == found->second.end() || row->entity != hash ? nullptr : &row->sighting;
}

// "culprit sightings 1\n"; signed begin; varint entries, each: key (8), signed first, signed last, varint lines.
std::string Sightings::save() const {
  std::string out(kSavedAs);
  stream::put_signed(out, began_wall_ns_);
  stream::put_varint(out, size_);
  for (const auto& [id, rows] : rows_) {
    for (const auto& [entity, sighting] : rows) {
      stream::put_fixed64(out, id);
      stream::put_fixed64(out, entity);
      stream::put_signed(out, sighting.first_wall_ns);
      stream::put_signed(out, sighting.last_wall_ns);
      stream::put_varint(out, sighting.lines);
    }
  }
  return out;
}

Result<Sightings> Sightings::load(std::string_view saved, std::size_t entries_max) {
  Sightings sightings(entries_max);
  if (!saved.starts_with(kSavedAs)) return fail(Code::Corrupt, "no saved sightings: they begin otherwise");
  stream::Reader reader(saved.substr(kSavedAs.size()));
  sightings.began_wall_ns_ = reader.signed_varint();
  for (std::uint64_t left = reader.varint(); left > 0 && reader.ok(); --left) {
    const std::uint64_t id = reader.fixed64(), entity = reader.fixed64();
    Sighting sighting;
    sighting.first_wall_ns = reader.signed_varint();
    sighting.last_wall_ns = reader.signed_varint();
    sighting.lines = reader.varint();
    if (sightings.size_ < entries_max && reader.ok()) sightings.at(id, entity, sighting.first_wall_ns) = sighting;
  }
  if (!reader.ok() || reader.left() > 0) return fail(Code::Corrupt, fmt::format("saved sightings: wrong at offset {}", kSavedAs.size() + reader.position()));
  return sightings;
}

}  // namespace culprit::logs
