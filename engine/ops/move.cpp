#include "ops/move.h"

#include <array>

#include "ops/plain.h"

namespace bittern::engine {

void fill(void* y, const void* value, int size, std::int64_t count) {
  with_size(size, [&](auto bytes) {
    std::array<std::byte, bytes()> element;
    std::memcpy(element.data(), value, bytes());
    auto* target = static_cast<std::byte*>(y);
    for (std::int64_t i = 0; i < count; ++i) std::memcpy(target + i * static_cast<std::int64_t>(bytes()), element.data(), bytes());
  });
}

void copy(const void* x, void* y, std::int64_t bytes, Team& team) {
  in_pieces(team, bytes, 1, [&](std::int64_t first, std::int64_t last) {
    std::memcpy(static_cast<std::byte*>(y) + first, static_cast<const std::byte*>(x) + first, static_cast<std::size_t>(last - first));
  });
}

Take::Take(std::vector<TakeAxis> axes, std::int64_t first, int size) : first_(first), size_(static_cast<std::size_t>(size)) {
  for (TakeAxis& axis : axes) {
    total_ *= axis.count;
    if (axis.table.empty()) {
      if (axis.count == 1) continue;
      // Two axes that lie in the source as they do in the result are one.
      if (!axes_.empty() && axes_.back().table.empty() && axes_.back().stride == axis.stride * axis.count) {
        axes_.back().count *= axis.count;
        axes_.back().stride = axis.stride;
        continue;
      }
    }
    axes_.push_back(std::move(axis));
  }
  if (axes_.empty()) axes_.push_back({1, 1, {}});
  if (total_ == 0) return;

  if (std::all_of(axes_.begin(), axes_.end(), [](const TakeAxis& axis) { return axis.table.empty(); })) {
    std::int64_t step = size;
    shape_.resize(axes_.size());
    from_.resize(axes_.size());
    to_.resize(axes_.size());
    for (std::size_t d = axes_.size(); d-- > 0;) {
      shape_[d] = axes_[d].count;
      from_[d] = axes_[d].stride * size;
      to_[d] = step;
      step *= axes_[d].count;
    }
    return;
  }
  const TakeAxis& last = axes_.back();
  for (const std::int64_t source : last.table) {
    const bool goes_on = !runs_.empty() && (source == nothing ? runs_.back().source == nothing
                                                              : runs_.back().source != nothing && source == runs_.back().source + runs_.back().count);
    if (goes_on) {
      ++runs_.back().count;
    } else {
      runs_.push_back({1, source});
    }
  }
  if (static_cast<std::int64_t>(runs_.size()) * 4 > last.count) runs_.clear();
}

void Take::run(const void* x, const void* value, void* y, Team& team) const {
  if (total_ == 0) return;
  const auto size = static_cast<std::int64_t>(size_);
  const auto* source = static_cast<const std::byte*>(x);
  auto* target = static_cast<std::byte*>(y);
  if (!shape_.empty()) return run_affine(source + first_ * size, target, team);

  const std::size_t outer = axes_.size() - 1;
  const std::int64_t length = axes_.back().count;
  in_pieces(team, total_ / length, length, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      std::int64_t rest = r, offset = first_;
      bool empty = false;
      for (std::size_t d = outer; d-- > 0;) {
        const TakeAxis& axis = axes_[d];
        const std::int64_t i = rest % axis.count;
        rest /= axis.count;
        const std::int64_t at = axis.table.empty() ? i * axis.stride : axis.table[static_cast<std::size_t>(i)];
        empty = empty || (!axis.table.empty() && at == nothing);
        offset += at;
      }
      std::byte* to = target + r * length * size;
      if (empty) {
        fill(to, value, static_cast<int>(size_), length);
      } else {
        row(source + offset * size, value, to);
      }
    }
  });
}

void Take::run_affine(const std::byte* x, std::byte* y, Team& team) const {
  // The longest axis is shared out; the last one only if there is no other, as copies run along it.
  std::size_t shared = 0;
  for (std::size_t d = 1; d + 1 < shape_.size(); ++d)
    if (shape_[d] > shape_[shared]) shared = d;
  in_pieces(team, shape_[shared], total_ / shape_[shared], [&](std::int64_t begin, std::int64_t end) {
    std::array<std::int64_t, max_rank> shape;
    std::copy(shape_.begin(), shape_.end(), shape.begin());
    shape[shared] = end - begin;
    strided_copy(std::span(shape.data(), shape_.size()), static_cast<int>(size_), x + begin * from_[shared], from_, y + begin * to_[shared], to_);
  });
}

void Take::row(const std::byte* x, const void* value, std::byte* y) const {
  const TakeAxis& axis = axes_.back();
  const auto size = static_cast<std::int64_t>(size_);
  if (axis.table.empty() && axis.stride == 1) {
    std::memcpy(y, x, static_cast<std::size_t>(axis.count) * size_);
    return;
  }
  if (!runs_.empty()) {
    for (const Run& run : runs_) {
      if (run.source == nothing) {
        fill(y, value, static_cast<int>(size_), run.count);
      } else {
        std::memcpy(y, x + run.source * size, static_cast<std::size_t>(run.count) * size_);
      }
      y += run.count * size;
    }
    return;
  }
  with_size(static_cast<int>(size_), [&](auto bytes) {
    constexpr auto step = static_cast<std::int64_t>(bytes());
    for (std::int64_t i = 0; i < axis.count; ++i) {
      const std::int64_t at = axis.table.empty() ? i * axis.stride : axis.table[static_cast<std::size_t>(i)];
      const bool empty = !axis.table.empty() && at == nothing;
      std::memcpy(y + i * step, empty ? static_cast<const std::byte*>(value) : x + at * step, bytes());
    }
  });
}

void concatenate(std::span<const void* const> x, std::span<const std::int64_t> bytes, std::int64_t outer, void* y, Team& team) {
  std::int64_t row = 0;
  for (const std::int64_t b : bytes) row += b;
  in_pieces(team, outer, row, [&](std::int64_t begin, std::int64_t end) {
    auto* target = static_cast<std::byte*>(y) + begin * row;
    for (std::int64_t o = begin; o < end; ++o) {
      for (std::size_t i = 0; i < x.size(); ++i) {
        if (bytes[i] == 0) continue;  // an empty source may have no address
        std::memcpy(target, static_cast<const std::byte*>(x[i]) + o * bytes[i], static_cast<std::size_t>(bytes[i]));
        target += bytes[i];
      }
    }
  });
}

}  // namespace bittern::engine
