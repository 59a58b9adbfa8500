// The row functions of the operators on 8-bit codes: what each instruction-set level implements.
//
// A row is a run of pixels of one block of channels, or plain codes. Codes are unsigned: those of a signed tensor are stored
// plus 128. The drivers are in ops/codes.h.
#pragma once

#include <cstdint>

#include "base/isa.h"
#include "gemm/int_store.h"

namespace bittern::engine {

// Depthwise convolution of one output row of a block of 16 channels: sums of x[p * step + taps[t]] * w[t] + offset.
struct CodeDepthwiseRow {
  const std::uint8_t* x = nullptr;      // the window of the first pixel
  const std::int64_t* taps = nullptr;   // offsets of the taps, in codes
  std::int64_t tap_count = 0;
  const std::int32_t* weights = nullptr;  // [tap][16]
  const std::int32_t* offset = nullptr;   // 16
  IntStore store;
  void* y = nullptr;                    // codes or floats
  std::int64_t step = 0;                // codes of x between output pixels
  std::int64_t count = 0;
};

// The same for square kernels of 3 or 5 taps a side and stride 1 or 2, weights of 8 bits, and several output rows. Four weights
// of a column of the kernel, one below the other, are one number: row 0 lowest, rows beyond the kernel 0.
struct CodeDepthwiseLines {
  const std::uint8_t* x = nullptr;       // the window of the first pixel
  std::int64_t readable = 0;             // codes from there to the end of the map
  std::int64_t x_row = 0;                // codes between rows of x
  std::int64_t kernel = 0, stride = 0;
  const std::int32_t* quads = nullptr;   // [four rows][kernel column][16]
  const std::int32_t* offset = nullptr;  // 16
  IntStore store;                        // the residual is that of the first line
  IntOut out = IntOut::bytes;            // or floats
  void* y = nullptr;
  std::int64_t y_row = 0, residual_row = 0;  // elements between lines
  std::int64_t lines = 0, count = 0;         // output rows, pixels of each
};

// Maximum over windows of one output row, 16 channels. Taps outside the input do not exist: vertically left out by the caller.
struct CodeMaxRow {
  const std::uint8_t* x = nullptr;      // column 0 of the first existing window row
  std::int64_t rows = 0, row_step = 0;  // window rows that exist; codes between them
  std::int64_t width = 0;               // columns of the input
  std::int64_t kernel = 0, stride = 0, pad = 0, dilation = 0;  // horizontally
  std::uint8_t* y = nullptr;
  std::int64_t count = 0;
  std::uint8_t lowest = 0;              // of a window without elements
};

// Mean of one window of rows x columns pixels, 16 channels: code = round(clamp(float(sum - taps * x_zero) * scale)) + zero.
struct CodeMean {
  const std::uint8_t* x = nullptr;
  std::int64_t rows = 0, row_step = 0, columns = 0, column_step = 0;
  std::int32_t offset = 0;              // -taps * x_zero
  float scale = 0, lo = 0, hi = 0;
  std::int32_t zero = 0;
  std::uint8_t* y = nullptr;
};

// code = round(clamp((a - a_zero) * a_scale + (b - b_zero) * b_scale)) + zero.
struct CodeAddRow {
  const std::uint8_t* a = nullptr;
  const std::uint8_t* b = nullptr;
  std::uint8_t* y = nullptr;
  std::int64_t count = 0;
  float a_zero = 0, a_scale = 0, b_zero = 0, b_scale = 0, lo = 0, hi = 0;
  std::int32_t zero = 0;
};

// Float to codes: round(clamp(x / scale)) + zero; codes to float: (code - zero) * scale.
struct CodeConvertRow {
  const void* x = nullptr;
  void* y = nullptr;
  std::int64_t count = 0;
  float scale = 1, lo = 0, hi = 0;
  std::int32_t zero = 0;
};

// y[i] = table[x[i]].
struct CodeTableRow {
  const std::uint8_t* x = nullptr;
  const std::uint8_t* table = nullptr;  // 256
  std::uint8_t* y = nullptr;
  std::int64_t count = 0;
};

// Counts of thresholds that numbers of a block of 16 channels reach.
struct CodeThresholdRow {
  const float* x = nullptr;
  std::int64_t x_step = 0;              // floats from pixel to pixel
  const float* thresholds = nullptr;    // [step][16]
  std::int64_t steps = 0;               // at most 255
  std::uint8_t* y = nullptr;
  std::int64_t y_step = 0;
  std::int64_t count = 0, lanes = 16;   // pixels; channels that there are
};

// All of them at one level.
struct CodeKernels {
  Isa isa;
  void (*depthwise_bytes)(const CodeDepthwiseRow&);
  void (*depthwise_floats)(const CodeDepthwiseRow&);
  void (*depthwise_sums)(const CodeDepthwiseRow&);
  void (*depthwise_lines)(const CodeDepthwiseLines&);  // null where it is no faster
  void (*max)(const CodeMaxRow&);
  void (*mean)(const CodeMean&);
  void (*add)(const CodeAddRow&);
  void (*quantise)(const CodeConvertRow&);
  void (*dequantise)(const CodeConvertRow&);
  void (*table)(const CodeTableRow&);
  void (*threshold)(const CodeThresholdRow&);
};

namespace scalar { const CodeKernels& code_kernels(); }
namespace avx2 { const CodeKernels& code_kernels(); }
namespace avx2vnni { const CodeKernels& code_kernels(); }
namespace avx512 { const CodeKernels& code_kernels(); }
namespace avx512vnni { const CodeKernels& code_kernels(); }

}  // namespace bittern::engine
