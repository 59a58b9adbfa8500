// One row times sparse weights, compiled once per level.
#include "simd/table.h"
#include "spmm/row.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// What a while later stands at the same place of the stream: a hint, which may lie behind the end.
inline void ahead(const void* p) { __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<unsigned long>(p) + 8192), 0, 2); }

// Four sums in turn: a product does not wait for the one before it. Codes of four slots are loaded at once and shifted: bytes
// that are widened by loads take the unit that looks up. Prefetched by hand: between few bytes and much work the processor's own
// prefetch falls behind (cold 0.54 for 0.74 ms, 4096 x 4096).
template <bool codes>
void run(const SpmvArgs& args) {
  constexpr int chains = spmv_slots;
  vf acc[chains] = {zero(), zero(), zero(), zero()};
  Table16 table{};
  if constexpr (codes) table = Table16::load(args.table);
  const float* x = args.x;
  for (std::int64_t s = 0; s < args.slots; s += chains) {
    const vi all = load_codes(args.codes + s * width);
    ahead(args.codes + s * width);
    if constexpr (!codes) {
      BITTERN_UNROLL
      for (int i = 0; i < chains; ++i) ahead(args.values + (s + i) * width);
    }
    BITTERN_UNROLL
    for (int i = 0; i < chains; ++i) {
      x += args.steps[s + i] * spmv_step;
      const vf input = Table16::load(x).of(i == 0 ? all : shifted(all, 8 * i));
      if constexpr (codes) {
        acc[i] = fma(input, table.of(shifted(all, 8 * i + 4)), acc[i]);
      } else {
        acc[i] = fma(input, load(args.values + (s + i) * width), acc[i]);
      }
    }
  }
  vf y = add(add(acc[0], acc[1]), add(acc[2], acc[3]));
  if (args.bias != nullptr) y = add(y, load_first(args.bias, args.valid));
  store_first(args.y, min(set1(args.hi), max(set1(args.lo), y)), args.valid);
}

constexpr SpmvKernel list[] = {
    {"spmv_f32_f32_f32_1x" BITTERN_WIDTH_TEXT "__" BITTERN_TEXT(BITTERN_LEVEL), Isa::BITTERN_LEVEL, width, false, &run<false>},
    {"spmv_f32_lut4_f32_1x" BITTERN_WIDTH_TEXT "__" BITTERN_TEXT(BITTERN_LEVEL), Isa::BITTERN_LEVEL, width, true, &run<true>},
};

}  // namespace

const SpmvKernel* spmv_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
