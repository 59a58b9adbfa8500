// What the constants of operators on 8-bit codes must be like, and tables of functions on codes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "format/integer_form.h"
#include "plan/fuse.h"

namespace bittern::plan {

// The operator's results on all 256 codes of its input number `place`, as codes; null if its other inputs are no constants. `scalars`:
// these are single numbers that broadcast, whatever their shape.
std::shared_ptr<const std::vector<std::byte>> table_of(const Item& item, std::size_t place, bool scalars, const engine::Quantiser& from,
                                                       const engine::Quantiser& to, const Types& types, const Constants& constants);

// True if the item's bias is one constant, or one per output channel.
bool bias_fits(const Item& item, std::int64_t channels, const Types& types, const Constants& constants);

// A bias whose scale is that of the sums is added to them exactly; else null. `rounded`: a file's own rounding of the scale does not count.
std::shared_ptr<const std::vector<std::int32_t>> bias_of_sums(const std::string& name, const format::IntegerForm& weights, const engine::Quantiser& x,
                                                              std::int64_t channels, bool rounded, const Constants& constants);

// True if weights are within two bytes' reach, and all sums, and the codes of zero times the weights, within 32 bits.
// Where what the encoding allows would not fit, the weights themselves decide, and narrow the form.
bool sums_fit(const std::string& name, format::IntegerForm& weights, std::int64_t each, std::int64_t largest_bias, std::int64_t zero,
              const Constants& constants);

// The weights of ConvInteger (`axis` 0) or MatMulInteger (1) less their zero points: one, one per output channel, or none. Their scale
// is 1. Nothing if their sums could leave 32 bits, or they two bytes.
std::optional<format::IntegerForm> whole_weights(const std::string& name, const std::vector<std::int64_t>& zeros, int axis, const Types& types,
                                                 const Constants& constants);

// The values of such weights, all of which two bytes hold.
std::vector<std::int16_t> whole_values(const std::string& name, const std::vector<std::int64_t>& zeros, int axis, const graph::ValueType& type,
                                       const Constants& constants);

}  // namespace bittern::plan
