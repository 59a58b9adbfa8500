// Operators on plain arrays of any element type, in C order: whatever no tuned kernel runs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/isa.h"
#include "base/thread_pool.h"
#include "format/integer_form.h"
#include "format/row_form.h"
#include "gemm/tile.h"
#include "graph/ops.h"
#include "spmm/row.h"
#include "plan/weights.h"

namespace bittern::plan {

// The arrays of one run. All are in C order, aligned to their element's size at least, and do not overlap.
struct PlainArrays {
  const void* const* in;   // one per input of the node; null where omitted
  void* const* out;        // one per output of the node; null where omitted
  std::byte* scratch;      // `scratch_bytes`, aligned to cache lines, uninitialised
  engine::Team* team;
};

// What an operator is for given types and attributes, all arithmetic on shapes done. `run` allocates nothing, throws
// nothing and writes every element of every output.
struct PlainKernel {
  std::function<void(const PlainArrays&)> run;
  std::uint64_t scratch_bytes = 0;
  double macs = 0;  // multiplications with weights, for reports
  const engine::GemmKernel* product = nullptr;  // the tile that computes its matrix products, for reports
  // Of recurrent layers, in its place: name and level of the kernel, how W and R run, and why weights are decoded at load.
  const char* kernel = nullptr;
  engine::Isa isa = engine::Isa::scalar;
  std::string reason = {}, why_decoded = {};
};

// Makes a constant input of f32 in the form that a kernel wants, once per model: fill(values, target) writes `floats` numbers.
// `form` names the layout, the tile included: plans for other shapes share what has the same form. Null if the input is no
// constant; else `run` finds null in place of the input.
using Pack = std::function<const float*(std::size_t input, const std::string& form, std::int64_t floats,
                                        const std::function<void(const float*, float*)>& fill)>;

// A constant input of f32 whose encoding kernels of one row decode in registers; nothing if it is another.
using FormOf = std::function<std::optional<format::RowForm>(std::size_t input)>;

// As Pack, of an input that has such a form: fill(codes, target).
using PackCodes = std::function<const float*(std::size_t input, const std::string& form, std::int64_t floats,
                                             const std::function<void(const std::uint8_t*, float*)>& fill)>;

// A constant input of f32 whose encoding is whole numbers times scales; nothing if it is another.
using WholeOf = std::function<std::optional<format::IntegerForm>(std::size_t input)>;

// As Pack, of an input that has such a form: fill(values, target).
using PackWhole = std::function<const float*(std::size_t input, const std::string& form, std::int64_t floats,
                                             const std::function<void(const std::int16_t*, float*)>& fill)>;

// The rows of a constant input of f32 whose encoding may hold zeros; nothing for others, or if another kernel was asked for.
using SparseOf = std::function<std::optional<engine::SparseRows>(std::size_t input)>;
// As Pack, of such an input: fill(target).
using PackSparse = std::function<const float*(std::size_t input, const std::string& form, std::int64_t floats, const std::function<void(float*)>& fill)>;

// What is known when an operator is prepared; the types of outputs are those that graph::infer gave.
struct PlainNode {
  const graph::Node& node;
  const std::vector<const graph::ValueType*>& inputs;  // null where omitted
  const std::vector<graph::ValueType>& outputs;
  engine::Isa isa = engine::Isa::scalar;
  Pack pack = {};  // may be empty: then no input is constant
  FormOf form_of = {};  // may be empty, likewise
  PackCodes pack_codes = {};
  WholeOf whole_of = {};
  PackWhole pack_whole = {};
  SparseOf sparse_of = {};
  PackSparse pack_sparse = {};
  const engine::SpmvKernel* asked = nullptr;  // by name
  Charge* charge = nullptr;  // for tables that the kernel will hold; null where they are small
};

using Prepare = PlainKernel (*)(const PlainNode&);
using PlainOperators = std::map<std::string, Prepare>;

// One function per family, as in graph/schema.h; in plain_elementwise.cpp, plain_move.cpp, plain_nn.cpp, plain_quantize.cpp,
// plain_sequence.cpp.
void add_plain_elementwise(PlainOperators& operators);
void add_plain_move(PlainOperators& operators);
void add_plain_nn(PlainOperators& operators);
void add_plain_quantize(PlainOperators& operators);
void add_plain_sequence(PlainOperators& operators);

// Null if the operator has none.
Prepare plain_operator(const std::string& op);

// About how many operations a node takes. Only ever compared with a limit, so a bound on what is read per result will do.
double work_of(const graph::Node& node, const std::vector<const graph::ValueType*>& inputs, const std::vector<graph::ValueType>& outputs);

// The outputs' elements of a node all of whose inputs are known. Sets `known` of the outputs; does nothing if the operator
// has no plain form or arrays are large.
void evaluate(const graph::Node& node, const std::vector<const graph::ValueType*>& inputs, std::vector<graph::ValueType>& outputs);

// Known elements beyond so many bytes are not worth a plan of their own.
inline constexpr std::int64_t most_known_bytes = 1 << 18;

// Bytes of all elements.
std::int64_t bytes_of(const graph::ValueType& type);

}  // namespace bittern::plan
