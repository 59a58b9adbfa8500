// Which layers run on planes of bits: their inputs have few levels, their weights few values, and counting ones is estimated to be
// faster than multiplying.
//
// Exact: a sum of codes is a whole number on either way. A quantiser behind such a layer becomes thresholds of that number, found
// from the float function that the graph states (docs/numerics.md), so that chains of layers stay in bits.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "base/isa.h"
#include "bgemm/bit_conv.h"
#include "plan/fuse.h"

namespace bittern::plan {

struct BitTerm {
  engine::BitValues values;
  float unit = 1;
};

// Real numbers of few levels, and the quantiser that makes them. q is how many of the channel's thresholds x * sign + 0 reaches; the number
// is the sum of unit * (factor * d - shift) over the terms, d being the planes of q that the term has: all of them where it is the only one.
// Thresholds rise: [threshold], or [channel][threshold] where channels differ.
struct BitLevels {
  std::vector<BitTerm> terms;
  std::vector<float> thresholds;
  std::int64_t count = 0;              // thresholds of a channel
  std::vector<float> sign;             // of each channel, -1, 0 or 1; empty: 1
  std::string name;                    // of the quantiser

  std::int64_t planes() const noexcept {
    std::int64_t all = 0;
    for (const BitTerm& term : terms) all += term.values.planes;
    return all;
  }
  float real(std::int64_t code) const;
  bool rise() const;  // greater codes stand for greater numbers, or the same
  bool per_channel() const noexcept { return static_cast<std::int64_t>(thresholds.size()) != count; }
  float threshold(std::int64_t channel, std::int64_t j) const {
    return thresholds[static_cast<std::size_t>((per_channel() ? channel * count : 0) + j)];
  }
  float sign_of(std::int64_t channel) const { return sign.empty() ? 1.0f : sign[static_cast<std::size_t>(channel)]; }
};

enum class BitRole { layer, pack, pool, pad };

// One of the sums that a layer adds up: a term of its input times a part of its weights.
struct BitSum {
  BitTerm input;
  std::size_t part = 0;                    // of the weights (format::integer_parts)
  engine::BitWeightForm weights;
  std::vector<float> scale;                // of the part: one, or one for each output channel
};

// What an item on bits has besides. Its input is the value `input`, which for a layer or a pool exists as bits.
struct BitsForm {
  BitRole role = BitRole::layer;
  std::string input;
  std::shared_ptr<const BitLevels> from;   // of a layer's or pool's input
  std::shared_ptr<const BitLevels> to;     // of the bits it gives; null: real numbers
  std::int64_t pad_code = 0, pad_top = 0, pad_left = 0;  // of a pad: what is put around its input, and from where on
  bool flattened = false;                  // a product that reads a whole map
  std::vector<BitSum> sums;                // of a layer, in the order of their addition
  std::string factors;                     // a value of one channel that multiplies a layer's real numbers; empty: none
  std::string reason;
};

// The convolution that a layer on bits is: a product of a matrix is one of a row of pixels, one of flattened maps has a kernel as large
// as they are.
engine::ConvShape bit_shape(const Item& item, const BitsForm& form, const Types& types);

// Whether counting ones is estimated to be faster than the tile that would run otherwise: of codes, where the input has some, else of
// real numbers, for which Winograd is an alternative unless sums have to be exact. Sets form.reason.
bool bits_pay(BitsForm& form, const engine::ConvShape& shape, bool codes, bool exact, engine::Isa isa);

// Sets `bits` of items that run on bits, and adds those that make bits of real numbers.
std::vector<Item> use_bits(std::vector<Item> items, const Types& types, const std::set<std::string>& kept, const Constants& constants, engine::Isa isa,
                           const std::vector<std::string>& preferred);

}  // namespace bittern::plan
