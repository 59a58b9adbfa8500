// One row of 8-bit codes times sparse weights, compiled once per level.
#include "simd/lanes.h"
#include "simd/store.h"
#include "simd/table.h"
#include "spmm/int_row.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// What a while later stands at the same place of the stream: a hint, which may lie behind the end. Into the second-level cache, far
// ahead: the first has too few misses at once for the bandwidth of memory (cold 0.22 for 0.30 ms, a tenth of 4096 x 4096).
inline void ahead(const void* p) { __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<unsigned long>(p) + 16384), 0, 2); }

// Four sums in turn: a product does not wait for the one before it.
template <IntOut out>
void run(const IntSpmvArgs& args) {
  constexpr int chains = 4, bytes = 4 * width;  // bytes of a slot
  vi acc[chains] = {load_int(args.offset), set1_int(0), set1_int(0), set1_int(0)};
  const std::uint8_t* x = args.x;
  for (std::int64_t s = 0; s < args.slots; s += int_spmv_slots) {
    const vi places = load_codes(args.places + s / int_spmv_slots * bytes);
    const std::int8_t* w = args.weights + s * bytes;
    ahead(args.places + s / int_spmv_slots * bytes);
    BITTERN_UNROLL
    for (int i = 0; i < int_spmv_slots; ++i) {
      ahead(w + i * bytes);
      x += args.steps[s + i] * 4;
      const vi input = bits_of(Table16::load(reinterpret_cast<const float*>(x)).of(i == 0 ? places : shifted(places, 4 * i)));
      acc[i % chains] = dot_each(acc[i % chains], input, w + i * bytes);
    }
  }
  const vi sums = add(add(acc[0], acc[1]), add(acc[2], acc[3]));
  const vf bias = args.store.bias != nullptr ? load(args.store.bias) : zero();
  store_sums<out>(args.store, sums, load(args.store.scale), bias, args.c, 0, 0, static_cast<int>(args.valid < width ? args.valid : width));
}

constexpr IntSpmvKernel list[] = {
    {"spmv_u8_s8_s32_1x" BITTERN_WIDTH_TEXT "__" BITTERN_TEXT(BITTERN_LEVEL), Isa::BITTERN_LEVEL, width, &run<IntOut::bytes>, &run<IntOut::floats>},
};

}  // namespace

const IntSpmvKernel* int_spmv_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
