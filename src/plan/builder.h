// The state of planning: where each value lives, in which layouts, and the steps emitted so far.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/map.h"
#include "bgemm/bit_map.h"
#include "gemm/conv_loop.h"
#include "ops/codes.h"
#include "ops/rows.h"
#include "plan/plan.h"

namespace bittern::plan {

// A value in memory. For ranks 3 (as height 1) and 4 `map` describes it; other ranks are plain arrays in C order.
struct Storage {
  Place place;
  engine::Map map;
};

// A value as planes of bits.
struct BitStorage {
  Place place;
  engine::BitMap map;
};

struct SparseLayer;  // plan/sparse_layers.h

class Builder {
 public:
  Builder(const Source& source, const Types& types, const std::vector<std::string>& outputs);

  const Source& source() const { return source_; }
  const Types& types() const { return types_; }
  const graph::ValueType& type(const std::string& value) const { return types_.at(value); }
  const Shape& shape(const std::string& value) const { return types_.at(value).shape; }
  std::int64_t count(const std::string& value) const;
  // [n, c, h, w]: a value of rank 3 is a map of height 1.
  Shape map_shape(const std::string& value) const { return graph::map_shape(shape(value)); }

  // The items still to come ask for halos and for concatenation in place: told before lowering starts.
  void ask_halo(const std::string& value, const graph::Window& window);
  void concatenate_in_place(const std::string& part, const std::string& whole, std::int64_t first_channel);
  bool in_place(const std::string& part) const { return in_place_.count(part) != 0; }

  // The value in the layout asked for; emits a reorder if it does not exist yet.
  Storage planar(const std::string& value);
  Storage blocked(const std::string& value);
  bool has_blocked(const std::string& value) const;
  bool has_planar(const std::string& value) const;
  // Rank 4, planar, inside a halo of zeros as wide as the window's padding.
  Storage planar_with_halo(const std::string& value, const graph::Window& window);

  // A value of 8-bit codes in blocks of channels, the halo filled with the code `zero` (ops/codes.h); converted if it exists
  // in another form. A matrix is a map of one row: pixels are its rows, `c` its columns, in one block rounded up to 16.
  Storage codes(const std::string& value, std::int32_t zero);
  bool has_codes(const std::string& value) const;
  Storage make_codes(const std::string& value, std::int32_t zero);
  // Codes of more than 2 dimensions as a matrix, their last dimension its columns. Said before lowering starts.
  void expect_rows(const std::string& value) { values_[value].rows = true; }
  bool has_rows(const std::string& value) const;
  // A reshape of codes: true if it moves nothing.
  bool view_codes(const std::string& value, const std::string& of);
  void expect_codes(const std::string& value) { values_[value].wants_codes = true; }
  bool wants_codes(const std::string& value) const;
  const engine::CodeKernels& code_kernels() const;
  // A value as planes of bits, once something has made them. A matrix is a map of one row. The halo, which readers ask for before
  // lowering starts, holds `code`.
  void ask_bit_halo(const std::string& value, const engine::ConvShape& shape);
  BitStorage bits(const std::string& value) const { return values_.at(value).bits.value(); }
  BitStorage make_bits(const std::string& value, std::int64_t planes, std::int64_t code);
  // What was decided of the convolution that makes a value; null if its encoding holds no zeros.
  const SparseLayer* sparse(const std::string& output) const;
  void set_sparse(const std::string& output, std::shared_ptr<const SparseLayer> layer) { sparse_[output] = std::move(layer); }

  // Memory for a value about to be computed.
  Storage make_planar(const std::string& value);
  Storage make_blocked(const std::string& value);
  // Memory for the next steps, uninitialised.
  Place scratch(std::int64_t floats) { return new_buffer(static_cast<std::uint64_t>(floats)); }
  // The value is another one's memory under a new shape.
  void view(const std::string& value, const std::string& of);

  // The weights of a layer: `fill` runs once per model and key.
  const float* weights(const std::string& key, std::int64_t floats, const std::string& what, const std::function<void(float*)>& fill);

  // Memory of the plan itself, taken until it dies.
  Charge& charge() {
    plan_.charges.push_back(std::make_shared<Charge>(*source_.budget));
    return *plan_.charges.back();
  }

  // Starts a layer's row: steps emitted from here on belong to it. Ask for the inputs' storage before, for the
  // output's after.
  LayerInfo& layer(const Item& item);
  LayerInfo& current() { return plan_.info.layers.back(); }
  // `uses` are all places the step reads or writes.
  void emit(std::function<void(const RunContext&)> run, std::span<const Place> uses);
  void emit(std::function<void(const RunContext&)> run, std::initializer_list<Place> uses) { emit(std::move(run), std::span(uses.begin(), uses.size())); }

  Plan finish(const std::vector<std::string>& outputs);

 private:
  struct Value {
    std::optional<Storage> planar, blocked, codes;
    std::optional<BitStorage> bits;
    std::int64_t bit_top = 0, bit_left = 0, bit_bottom = 0, bit_right = 0;  // halo of the bits
    bool wants_codes = false;                         // some layer reads it as codes
    bool rows = false;                                // which stand in rows whatever its rank
    std::int64_t top = 0, left = 0, bottom = 0, right = 0;  // halo of the blocked form
  };
  struct Buffer {
    std::uint64_t floats = 0;
    std::size_t first = 0, last = 0;  // steps
  };
  struct Part {
    std::string whole;
    std::int64_t first_channel = 0;
  };

  const float* constant(const std::string& value);
  const float* known(const std::string& value);
  Place new_buffer(std::uint64_t floats);
  void check_map(const Shape& shape, std::int64_t rows, std::int64_t columns) const;
  Storage allocate_map(const engine::Map& map);
  engine::Map code_map(const std::string& value) const;
  void separate(const std::string& value);
  // Conversions get rows of their own in the plan, in front of the layer that asked for them: they are never hidden.
  void begin_conversion(const char* op, const std::string& value, const char* kernel, const char* reason);
  void begin_reorder(const std::string& value) {
    begin_conversion("Reorder", value, "reorder_f32__scalar", "the next layer needs this layout");
  }
  void emit_reorder(const Storage& from, const Storage& to);
  void assign_offsets();
  void assign_in_order(std::uint64_t line);

  const Source& source_;
  const Types& types_;
  std::map<std::string, int> output_index_;
  std::map<std::string, Value> values_;
  std::map<std::string, Part> in_place_;
  std::map<std::string, std::shared_ptr<const SparseLayer>> sparse_;
  std::vector<Buffer> buffers_;
  Plan plan_;
};

// A name as part of a key of weights: its length stands in front, so that no name can imitate another key.
inline std::string key_part(const std::string& name) { return " " + std::to_string(name.size()) + ":" + name; }

// "planar", "c16", "c16 halo 1,1,1,1".
std::string layout_name(const engine::Map& map);

// Emit the steps of one item; in lower_layers.cpp, lower_ops.cpp, lower_codes.cpp, lower_code_layers.cpp, lower_bits.cpp,
// lower_winograd.cpp and plain.cpp.
void lower_conv(Builder& builder, const Item& item);
void lower_gemm(Builder& builder, const Item& item);
void lower_winograd(Builder& builder, const Item& item);
void lower_op(Builder& builder, const Item& item);
void lower_plain(Builder& builder, const Item& item);
void lower_codes(Builder& builder, const Item& item);
void lower_code_layer(Builder& builder, const Item& item);
void lower_bits(Builder& builder, const Item& item);
// QuantizeLinear whose codes layers read, DequantizeLinear of such codes; false if it is neither.
bool lower_code_conversion(Builder& builder, const Item& item);

// The kernel of an operator loop: a preferred one if it fits, else the best level's. Fills the layer's kernel and reason.
const engine::OpKernel& choose_op(Builder& builder, const char* loop);

}  // namespace bittern::plan
