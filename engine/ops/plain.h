// Operators that move or transform plain arrays: one portable implementation each.
#pragma once

#include <cstdint>
#include <span>

#include "base/map.h"
#include "base/thread_pool.h"
#include "ops/rows.h"

namespace bittern::engine {

struct PlainKernel {
  const char* name;
  const char* loop;
  const char* description;
};

inline constexpr PlainKernel plain_kernels[] = {
    {"reorder_f32__scalar", "reorder", "between layouts; fills halos with zeros"},
    {"reorder_codes__scalar", "reorder_codes", "8-bit codes between plain tensors and blocks of channels"},
    {"channel_shuffle_f32__scalar", "channel_shuffle", "channels of groups interleaved, in blocks of 16"},
    {"strided_copy_f32__scalar", "strided_copy", "transpose, concatenate, read a strided array"},
    {"broadcast_f32__scalar", "broadcast", "binary operators with broadcasting"},
    {"maxpool_b1__scalar", "maxpool_b1", "max-pooling of planes of bits"},
    {"pad_b1__scalar", "pad_b1", "planes of bits inside a border of one code"},
    {"affine_f32__scalar", "affine", "scale and shift per channel of planar tensors"},
};

inline constexpr int max_rank = 8;

// Copies a 4-D activation from one layout to another.
void reorder(const Map& from, const float* source, const Map& to, float* target, Team& team);

// target channel m * groups + g = source channel g * (c / groups) + m; both in blocks of 16 channels.
void channel_shuffle(std::int64_t groups, const Map& from, const float* source, const Map& to, float* target, Team& team);

// Zeroes the halo of every plane.
void clear_halo(const Map& map, float* data, Team& team);

// target[i...] = source[i...] for every index below `shape`; strides in bytes, elements of `size` bytes (1, 2, 4 or 8).
void strided_copy(std::span<const std::int64_t> shape, int size, const void* source, std::span<const std::int64_t> source_strides,
                  void* target, std::span<const std::int64_t> target_strides);

// y = op(a, b) over `shape` in C order; strides of a and b in elements, 0 where they repeat.
void broadcast(Eltwise op, std::span<const std::int64_t> shape, const float* a, std::span<const std::int64_t> a_strides, const float* b,
               std::span<const std::int64_t> b_strides, float* y, float lo, float hi);

// y = x * scale[c] + shift[c] for x of shape [outer, channels, inner].
void channel_affine(const float* x, const float* scale, const float* shift, float* y, std::int64_t outer, std::int64_t channels,
                    std::int64_t inner, float lo, float hi);

}  // namespace bittern::engine
