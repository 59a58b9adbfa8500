// Which convolutions run on their non-zero weights alone: decided over the whole network, before layers are lowered.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "plan/builder.h"
#include "spmm/sparse_conv.h"

namespace bittern::plan {

// Position, value and code of a weight while a plan is made, or what blocks of four channels take for it at most.
inline constexpr std::uint64_t bytes_of_entry = 9 + 20;

// What is known of a layer whose encoding can hold zeros.
struct SparseLayer {
  double density = 1;
  double dense_cost = 0, sparse_cost = 0;  // estimated, in the same unit
  bool chosen = false;
  std::string reason;
  std::shared_ptr<const engine::SparseRows> rows;  // if chosen
  std::shared_ptr<Charge> charge;                  // for them
  std::vector<float> table;                        // of the codes of rows, or
  engine::SparseLists lists;                       // for rows of two values; else values run as they are
  const engine::SpmmKernel* kernel = nullptr;
  const char* dense_kernel = "";                   // what dense_cost is of
};

// What a plan says of such a layer, whichever kernel runs it.
inline void describe_density(LayerInfo& info, const SparseLayer& layer) {
  info.density = layer.density;
  info.dense_kernel = layer.dense_kernel;
  info.sparse_kernel = layer.kernel->name;
  info.dense_estimate = layer.dense_cost;
  info.sparse_estimate = layer.sparse_cost;
}

// What a plan says of such a layer's kernel.
std::string form_text(const engine::SpmmKernel& kernel);

// The kernel that was asked for, or the level's one of this form; null if it has none: only blocks need not be there.
const engine::SpmmKernel* spmm_kernel(const Builder& builder, const engine::SpmmKernel* asked, engine::SpmmForm form);

// The form of least estimated time for these weights, [output channels][...], and the time.
engine::SpmmForm cheapest_form(const Builder& builder, const engine::SpmmKernel* asked, const engine::ConvShape& shape,
                               std::span<const float> weights, double& cost);

// Makes the rows of the item's weights what kernels of this form run, with `table` or `lists` filled. Values become codes if the
// encoding says that they are few, and stay values where the form does not hold them. False if a kernel was asked for that cannot run them.
bool sparse_form(Builder& builder, const Item& item, engine::SparseRows& rows, const engine::SpmmKernel* asked, std::vector<float>& table,
                 engine::SparseLists& lists, engine::SpmmForm& form);

// True for encodings that say which weights are zero, or have few values, which may be zero.
bool may_hold_zeros(const graph::Encoding& tree);

// Writes its choices into the builder.
void choose_sparse_layers(Builder& builder, const std::vector<Item>& items);

void lower_sparse_conv(Builder& builder, const Item& item, const SparseLayer& layer);

// A product of one row with a constant matrix of k inputs and n outputs (`transposed`: stored n x k), y = clamp(x w + bias);
// `bias` makes it or is empty. False, with `why_not` for the plan, if other kernels are estimated to be faster.
bool lower_sparse_row(Builder& builder, const Item& item, std::int64_t k, std::int64_t n, bool transposed, const Storage& in, const Storage& out,
                      const std::function<std::vector<float>()>& bias, std::string& why_not);

// A product of several rows, a convolution of 1x1 whose pixels are rows: `shape`. `weights` makes what is left of them folded, n x k.
// `dense` is the estimate of the kernel that would run it otherwise. False, with `why_not`, if that is faster.
bool lower_sparse_product(Builder& builder, const Item& item, const engine::ConvShape& shape, double dense, const Storage& in, const Storage& out,
                          const std::function<std::vector<float>()>& weights, const std::function<std::vector<float>()>& bias, std::string& why_not);

// A layer on 8-bit codes, whose maps both kernels read and write, is decided when it is lowered. False, with `note` for the plan, if
// the dense kernel is estimated to be faster.
class LayerWeights;
bool lower_sparse_codes(Builder& builder, const Item& item, const engine::ConvShape& shape, LayerWeights& weights, double dense_cost,
                        const char* dense_kernel, const Storage& in, const Storage& out, const Storage& residual, std::string& note);

// Likewise a product of one row, whose dense kernel `dense_kernel` reads weights of so many bits.
bool lower_sparse_code_row(Builder& builder, const Item& item, const engine::ConvShape& shape, LayerWeights& weights, int bits,
                           const char* dense_kernel, const Storage& in, const Storage& out, std::string& note);

// The share of a layer's whole numbers that are not zero, counted once per model: plans for more shapes of the input need not
// decode weights that have none.
float density_of_codes(Builder& builder, const Item& item, LayerWeights& weights);

}  // namespace bittern::plan
