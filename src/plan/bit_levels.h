// Which values of a graph hold numbers of few levels, and what makes them: quantisers, residual levels of several of them, and what
// moves such values.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "plan/bits.h"

namespace bittern::plan {

// The numbers of few levels that a value holds, or would hold: made by a quantiser, or moved from another value.
struct BitValue {
  std::shared_ptr<const BitLevels> levels;
  std::string from;    // the value that a pool, a view or another quantiser of the same levels reads; empty for a quantiser's own
  bool alias = false;  // the same bits as `from`
};

struct FoundLevels {
  std::map<std::string, BitValue> values;
  std::map<std::string, std::string> source;                // what a quantiser's input is
  std::map<std::string, std::vector<std::string>> between;  // values between it and the quantiser's output
  std::set<std::string> rests;                              // what levels of a residual quantiser leave to the next
};

// `producer` has the item that makes each value. More levels count as few where a kernel on bits was `asked` for.
FoundLevels find_levels(const std::vector<Item>& items, const std::map<std::string, std::size_t>& producer, const Types& types,
                        const Constants& constants, bool asked);

// A border of one level around a map, put there by a Pad.
struct BitBorder {
  std::int64_t code = 0, top = 0, left = 0;
};
std::optional<BitBorder> bit_border(const Item& item, const BitLevels& levels, const Types& types, const Constants& constants);

// A constant as one number for each channel or for all; nothing if it is none.
std::vector<float> few_numbers(const std::string& name, std::size_t most, const Types& types, const Constants& constants);

}  // namespace bittern::plan
