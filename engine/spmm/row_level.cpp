// One row times sparse weights, compiled once per level.
#include "simd/table.h"
#include "spmm/row.h"

namespace bittern::engine::BITTERN_LEVEL {
namespace {

// Four sums in turn: a product does not wait for the one before it.
template <bool codes>
void run(const SpmvArgs& args) {
  constexpr int chains = 4;
  vf acc[chains] = {zero(), zero(), zero(), zero()};
  Table16 table{};
  if constexpr (codes) table = Table16::load(args.table);
  const auto slot = [&](std::int64_t s, vf& sum) {
    const Table16 inputs = Table16::load(args.x + args.blocks[s] * spmv_block);
    const vi code = unsigned_bytes(args.codes + s * width);
    const vf x = inputs.of(code);
    if constexpr (codes) {
      sum = fma(x, table.of(shifted(code, 4)), sum);
    } else {
      sum = fma(x, load(args.values + s * width), sum);
    }
  };
  std::int64_t s = 0;
  for (; s + chains <= args.slots; s += chains) {
    BITTERN_UNROLL
    for (int i = 0; i < chains; ++i) slot(s + i, acc[i]);
  }
  for (; s < args.slots; ++s) slot(s, acc[0]);
  vf y = add(add(acc[0], acc[1]), add(acc[2], acc[3]));
  if (args.bias != nullptr) y = add(y, load_first(args.bias, args.valid));
  store_first(args.y, min(set1(args.hi), max(set1(args.lo), y)), args.valid);
}

#define BITTERN_TEXT_(text) #text
#define BITTERN_TEXT(text) BITTERN_TEXT_(text)
#if BITTERN_VEC == 0
#define BITTERN_LANES "1x4"
#elif BITTERN_VEC <= 2
#define BITTERN_LANES "1x8"
#else
#define BITTERN_LANES "1x16"
#endif
constexpr SpmvKernel list[] = {
    {"spmv_f32_f32_f32_" BITTERN_LANES "__" BITTERN_TEXT(BITTERN_LEVEL), Isa::BITTERN_LEVEL, width, false, &run<false>},
    {"spmv_f32_lut4_f32_" BITTERN_LANES "__" BITTERN_TEXT(BITTERN_LEVEL), Isa::BITTERN_LEVEL, width, true, &run<true>},
};

}  // namespace

const SpmvKernel* spmv_kernels(int& count) {
  count = static_cast<int>(sizeof list / sizeof list[0]);
  return list;
}

}  // namespace bittern::engine::BITTERN_LEVEL
