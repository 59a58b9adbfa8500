#include "ops/select.h"

#include <cstddef>
#include <cstring>


namespace bittern::engine {
namespace {

// A block of any size; single elements as one move.
void copy_block(const std::byte* x, std::byte* y, std::int64_t bytes) {
  switch (bytes) {
    case 1: std::memcpy(y, x, 1); break;
    case 2: std::memcpy(y, x, 2); break;
    case 4: std::memcpy(y, x, 4); break;
    case 8: std::memcpy(y, x, 8); break;
    default: std::memcpy(y, x, static_cast<std::size_t>(bytes)); break;
  }
}

}  // namespace

void gather(const GatherShape& s, const void* x, Indices indices, void* y, Team& team) {
  if (s.bytes == 0) return;
  in_pieces(team, s.outer * s.count, s.bytes, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = first; r < last; ++r) {
      const std::int64_t outer = r / s.count, at = nearest(indices[r % s.count], s.axis);
      copy_block(static_cast<const std::byte*>(x) + (outer * s.axis + at) * s.bytes, static_cast<std::byte*>(y) + r * s.bytes, s.bytes);
    }
  });
}

ElementSelection::ElementSelection(std::vector<std::int64_t> indices, const std::vector<std::int64_t>& data, std::size_t axis)
    : sizes_(std::move(indices)), strides_(data.size(), 1), axis_(axis), limit_(data[axis]) {
  for (std::size_t d = data.size(); d-- > 1;) strides_[d - 1] = strides_[d] * data[d];
  for (std::size_t d = 0; d < sizes_.size(); ++d) {
    count_ *= sizes_[d];
    if (d < axis_ && d + 1 < sizes_.size()) rows_before_ *= sizes_[d];
  }
  row_ = sizes_.back();
  rows_ = count_ == 0 ? 0 : count_ / row_;
}

std::int64_t ElementSelection::row_offset(std::int64_t r) const {
  std::int64_t offset = 0;
  for (std::size_t d = sizes_.size() - 1; d-- > 0;) {
    if (d != axis_) offset += r % sizes_[d] * strides_[d];
    r /= sizes_[d];
  }
  return offset;
}

void ElementSelection::gather(int size, const void* x, Indices indices, void* y, Team& team) const {
  if (count_ == 0) return;
  const bool along = axis_ + 1 == sizes_.size();
  const std::int64_t step = along ? 0 : strides_.back(), scale = strides_[axis_];
  with_size(size, [&](auto bytes) {
    constexpr auto element = static_cast<std::int64_t>(bytes());
    in_pieces(team, rows_, row_, [&](std::int64_t first, std::int64_t last) {
      for (std::int64_t r = first; r < last; ++r) {
        const std::byte* from = static_cast<const std::byte*>(x) + row_offset(r) * element;
        std::byte* to = static_cast<std::byte*>(y) + r * row_ * element;
        for (std::int64_t i = 0; i < row_; ++i) {
          std::memcpy(to + i * element, from + (i * step + nearest(indices[r * row_ + i], limit_) * scale) * element, bytes());
        }
      }
    });
  });
}

TupleSelection::TupleSelection(const std::vector<std::int64_t>& indices, const std::vector<std::int64_t>& data, std::size_t batch,
                               std::size_t depth) {
  for (std::size_t d = 0; d < indices.size(); ++d) {
    tuples_ *= indices[d];
    if (d >= batch) per_batch_ *= indices[d];
  }
  std::int64_t stride = 1;
  for (std::size_t d = data.size(); d-- > batch;) {
    if (d >= batch + depth) {
      block_ *= data[d];
    } else {
      sizes_.insert(sizes_.begin(), data[d]);
      strides_.insert(strides_.begin(), stride);
    }
    stride *= data[d];
  }
  batch_stride_ = stride;
}

void TupleSelection::gather(int size, const void* x, Indices indices, void* y, Team& team) const {
  const std::int64_t bytes = block_ * size;
  const auto depth = static_cast<std::int64_t>(sizes_.size());
  if (bytes == 0) return;
  in_pieces(team, tuples_, bytes, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t t = first; t < last; ++t) {
      std::int64_t offset = t / per_batch_ * batch_stride_;
      for (std::int64_t j = 0; j < depth; ++j) {
        const auto d = static_cast<std::size_t>(j);
        offset += nearest(indices[t * depth + j], sizes_[d]) * strides_[d];
      }
      copy_block(static_cast<const std::byte*>(x) + offset * size, static_cast<std::byte*>(y) + t * bytes, bytes);
    }
  });
}

}  // namespace bittern::engine
