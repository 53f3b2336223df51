// The values and times of one run of a block, as bytes and back (docs/events.md, columns 1, 2, 4 and 5). Inside of the codec.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace culprit::stream {

// Appends. Values are all the same, decimal numbers as integers, or their bits: whichever is exact and comes first.
void encode_values(std::span<const double> values, std::string& out);
// Appends `rows` values; false if the bytes are not exactly those of so many.
bool decode_values(std::string_view bytes, std::size_t rows, std::vector<double>& values);

// Of a series (`plain`) the change of the change, of other rows, which are irregular but sorted, the distance. At least one.
void encode_times(std::span<const std::int64_t> times, std::int64_t base, bool plain, std::string& out);
bool decode_times(std::string_view bytes, std::size_t rows, std::int64_t base, bool plain, std::vector<std::int64_t>& times);

}  // namespace culprit::stream
