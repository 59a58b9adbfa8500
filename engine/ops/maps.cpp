#include "ops/maps.h"

#include <algorithm>
#include <cstring>

namespace bittern::engine {

Depthwise::Depthwise(const OpKernel& kernel, const ConvShape& shape, const Map& in, const Map& out, const Map& residual)
    : kernel_(&kernel), shape_(shape), in_(in), out_(out), residual_(residual), blocks_((shape.oc + 15) / 16), taps_count_(shape.kh * shape.kw) {
  for (std::int64_t y = 0; y < shape.kh; ++y)
    for (std::int64_t x = 0; x < shape.kw; ++x) taps_.push_back(y * shape.dilation_h * in.row + x * shape.dilation_w * 16);
}

void Depthwise::pack(const float* weights, float* packed) const {
  std::memset(packed, 0, static_cast<std::size_t>(packed_elements()) * sizeof(float));
  for (std::int64_t c = 0; c < shape_.oc; ++c)
    for (std::int64_t t = 0; t < taps_count_; ++t) packed[(c / 16 * taps_count_ + t) * 16 + c % 16] = weights[c * taps_count_ + t];
}

void Depthwise::pad_bias(const float* bias, float* padded) const {
  std::memset(padded, 0, static_cast<std::size_t>(padded_channels()) * sizeof(float));
  std::memcpy(padded, bias, static_cast<std::size_t>(shape_.oc) * sizeof(float));
}

void Depthwise::run(const float* in, const float* packed, const Epilogue& epilogue, float* out, Team& team) const {
  const ConvShape& s = shape_;
  const float* first = in - s.pad_top * in_.row - s.pad_left * 16;
  const std::int64_t chunk = std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, s.ow * taps_count_));
  const std::int64_t chunks = (s.oh + chunk - 1) / chunk;
  team.run(static_cast<std::size_t>(s.n * blocks_ * chunks), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const std::int64_t b = t / chunks % blocks_, n = t / chunks / blocks_;
    DepthwiseRow row;
    row.taps = taps_.data();
    row.tap_count = taps_count_;
    row.weights = packed + b * taps_count_ * 16;
    row.bias = epilogue.bias != nullptr ? epilogue.bias + b * 16 : nullptr;
    row.step = s.stride_w * 16;
    row.count = s.ow;
    row.lo = epilogue.lo;
    row.hi = epilogue.hi;
    const std::int64_t end = std::min(s.oh, (t % chunks + 1) * chunk);
    for (std::int64_t y = t % chunks * chunk; y < end; ++y) {
      row.x = first + n * in_.image + b * in_.plane + y * s.stride_h * in_.row;
      row.y = out + n * out_.image + b * out_.plane + y * out_.row;
      if (epilogue.residual != nullptr) {
        row.residual = epilogue.residual + n * residual_.image + b * residual_.plane + y * residual_.row;
      }
      kernel_->depthwise(row);
    }
  });
}

void pool(const OpKernel& kernel, const PoolShape& s, const Map& in, const float* source, const Map& out, float* target, Team& team) {
  const std::int64_t blocks = out.blocks();
  const std::int64_t chunk = std::max<std::int64_t>(1, 8192 / std::max<std::int64_t>(1, out.w * s.kh * s.kw));
  const std::int64_t chunks = (out.h + chunk - 1) / chunk;
  team.run(static_cast<std::size_t>(out.n * blocks * chunks), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const std::int64_t b = t / chunks % blocks, n = t / chunks / blocks;
    PoolRow row;
    row.row_step = s.dilation_h * in.row;
    row.width = in.w;
    row.kernel = s.kw;
    row.stride = s.stride_w;
    row.pad = s.pad_left;
    row.dilation = s.dilation_w;
    row.count = out.w;
    row.include_pad = s.include_pad;
    row.padded_width = s.pad_left + in.w + s.pad_right;
    const std::int64_t end = std::min(out.h, (t % chunks + 1) * chunk);
    for (std::int64_t y = t % chunks * chunk; y < end; ++y) {
      const std::int64_t start = y * s.stride_h - s.pad_top;
      const std::int64_t first = start < 0 ? (-start + s.dilation_h - 1) / s.dilation_h : 0;
      std::int64_t last = start >= in.h ? 0 : (in.h - 1 - start) / s.dilation_h + 1;
      last = std::min(last, s.kh);
      row.rows = std::max<std::int64_t>(0, last - first);
      row.full_rows = row.rows;
      if (s.include_pad) {
        const std::int64_t room = (s.pad_top + in.h + s.pad_bottom - 1 - (start + s.pad_top)) / s.dilation_h + 1;
        row.full_rows = std::min(room, s.kh);
      }
      row.x = source + n * in.image + b * in.plane + (start + first * s.dilation_h) * in.row;
      row.y = target + n * out.image + b * out.plane + y * out.row;
      kernel.pool(row);
    }
  });
}

void lrn(const OpKernel& kernel, const LrnRow& parameters, const Map& in, const float* source, const Map& out, float* target, float* scratch,
         Team& team) {
  const std::int64_t each = lrn_scratch(in.c, parameters.before, parameters.after);
  team.run(static_cast<std::size_t>(in.n * in.h), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const std::int64_t n = t / in.h, y = t % in.h;
    LrnRow row = parameters;
    row.x = source + n * in.image + y * in.row;
    row.x_plane = in.plane;
    row.y = target + n * out.image + y * out.row;
    row.y_plane = out.plane;
    row.channels = in.c;
    row.count = in.w;
    row.squares = scratch + t * each;
    kernel.lrn(row);
  });
}

void eltwise(const OpKernel& kernel, const EltwiseRow& parameters, const Map& a_map, const float* a, const Map& b_map, const float* b,
             const Map& y_map, float* y, Team& team) {
  const std::int64_t blocks = y_map.blocks();
  const std::int64_t chunk = std::max<std::int64_t>(1, 4096 / std::max<std::int64_t>(1, y_map.w * y_map.block));
  const std::int64_t chunks = (y_map.h + chunk - 1) / chunk;
  team.run(static_cast<std::size_t>(y_map.n * blocks * chunks), [&](std::size_t task) {
    const auto t = static_cast<std::int64_t>(task);
    const std::int64_t block = t / chunks % blocks, n = t / chunks / blocks;
    EltwiseRow row = parameters;
    row.count = y_map.w * y_map.block;
    const std::int64_t end = std::min(y_map.h, (t % chunks + 1) * chunk);
    for (std::int64_t line = t % chunks * chunk; line < end; ++line) {
      const auto at = [&](const Map& map) { return n * map.image + block * map.plane + line * map.row; };
      row.a = a + at(a_map);
      row.b = b != nullptr ? b + at(b_map) : nullptr;
      row.y = y + at(y_map);
      kernel.eltwise(row);
    }
  });
}

void eltwise_flat(const OpKernel& kernel, const EltwiseRow& parameters, const float* a, const float* b, float* y, std::int64_t count, Team& team) {
  constexpr std::int64_t chunk = 16384;
  team.run(static_cast<std::size_t>((count + chunk - 1) / chunk), [&](std::size_t task) {
    const std::int64_t first = static_cast<std::int64_t>(task) * chunk;
    EltwiseRow row = parameters;
    row.count = std::min(chunk, count - first);
    row.a = a + first;
    row.b = b != nullptr ? b + first : nullptr;
    row.y = y + first;
    kernel.eltwise(row);
  });
}

void softmax(const OpKernel& kernel, const float* x, float* y, std::int64_t outer, std::int64_t axis, std::int64_t inner, Team& team) {
  if (axis == 0 || inner == 0) return;
  const std::int64_t rows = outer * inner, chunk = std::max<std::int64_t>(16, 16384 / axis);
  team.run(static_cast<std::size_t>((rows + chunk - 1) / chunk), [&](std::size_t task) {
    SoftmaxRow row;
    row.x = x;
    row.y = y;
    row.axis = axis;
    row.inner = inner;
    row.first = static_cast<std::int64_t>(task) * chunk;
    row.count = std::min(chunk, rows - row.first);
    kernel.softmax(row);
  });
}

}  // namespace bittern::engine
