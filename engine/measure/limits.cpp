#include "measure/limits.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/cpu_count.h"
#include "base/thread_pool.h"
#include "measure/caches.h"
#include "measure/probes.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bittern::engine {
namespace {

using Clock = std::chrono::steady_clock;

const Probes& probes_for(Isa isa) {
  int count = 0;
#if defined(BITTERN_BUILD_X86)
  if (isa >= Isa::avx512) return *avx512::probes(count);
  if (isa >= Isa::avx2) return *avx2::probes(count);
#else
  static_cast<void>(isa);
#endif
  return *scalar::probes(count);
}

const DotProbe& dot_probe_for(Isa isa) {
#if defined(BITTERN_BUILD_X86)
  switch (isa) {
    case Isa::avx512icl:
    case Isa::avx512vnni: return avx512vnni::dot_probe();
    case Isa::avx512: return avx512::dot_probe();
    case Isa::avx2vnni: return avx2vnni::dot_probe();
    case Isa::avx2: return avx2::dot_probe();
    case Isa::scalar: break;
  }
#else
  static_cast<void>(isa);
#endif
  return scalar::dot_probe();
}

const BitProbe& bit_probe_for(Isa isa) {
#if defined(BITTERN_BUILD_X86)
  if (isa == Isa::avx512icl) return avx512icl::bit_probe();
  if (isa >= Isa::avx512) return avx512::bit_probe();
  if (isa >= Isa::avx2) return avx2::bit_probe();
#else
  static_cast<void>(isa);
#endif
  return scalar::bit_probe();
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Units of work per second: body(task, amount) does `amount` units in each thread of the team. The amount is raised
// until a run is long against the clock and the team's start; then the fastest run counts, since anything that
// disturbs a run makes it longer.
template <class Body>
double best_rate(Team& team, const Body& body) {
  constexpr double run_s = 2e-3, total_s = 60e-3;
  constexpr std::int64_t most = std::int64_t{1} << 40;
  const auto tasks = static_cast<std::size_t>(team.size());
  const auto timed = [&](std::int64_t amount) {
    const auto start = Clock::now();
    team.run(tasks, [&](std::size_t task) { body(task, amount); });
    return seconds_since(start);
  };
  std::int64_t amount = 1;
  while (timed(amount) < run_s && amount < most) amount *= 2;
  double best = timed(amount);
  const auto start = Clock::now();
  for (int run = 0; run < 8 || seconds_since(start) < total_s; ++run) best = std::min(best, timed(amount));
  return static_cast<double>(amount) * static_cast<double>(tasks) / best;
}

double flops(const Probes& probes, Team& team) {
  return static_cast<double>(probes.flops) * best_rate(team, [&](std::size_t task, std::int64_t amount) {
    alignas(buffer_alignment) float state[largest_state];
    // Different chains, else they could be computed as one; all of them run to 1, so that no number is special.
    for (int i = 0; i < largest_state; ++i) state[i] = static_cast<float>(i + static_cast<int>(task)) / largest_state;
    probes.fma(amount * 1024, 0.5f, 0.5f, state);
    volatile float result = state[0];
    static_cast<void>(result);
  }) * 1024;
}

double int8_ops(const DotProbe& probe, Team& team) {
  return static_cast<double>(probe.ops) * best_rate(team, [&](std::size_t task, std::int64_t amount) {
    // Their product is zero, so that no number of rounds overflows.
    constexpr unsigned char x[] = {200, 100, 200, 100};
    constexpr signed char w[] = {57, -31, -42, 1};
    int state[largest_state];
    for (int i = 0; i < largest_state; ++i) state[i] = i + static_cast<int>(task);
    probe.dots(amount * 1024, x, w, state);
    volatile int result = state[0];
    static_cast<void>(result);
  }) * 1024;
}

double bit_ops(const BitProbe& probe, Team& team) {
  return static_cast<double>(probe.ops) * best_rate(team, [&](std::size_t task, std::int64_t amount) {
    // Words that differ in few bits, so that no number of rounds overflows.
    constexpr unsigned x = 0x5a5a3c00u, w = 0x5a5a3c00u;
    int state[largest_state];
    for (int i = 0; i < largest_state; ++i) state[i] = i + static_cast<int>(task);
    probe.ones(amount * 32, &x, &w, state);
    volatile int result = state[0];
    static_cast<void>(result);
  }) * 32;
}

constexpr std::uint64_t step_bytes = load_step * sizeof(float);

// Bytes per second that all threads together read from regions of `bytes` each, `spacing` bytes apart.
double load_rate(const Probes& probes, Team& team, const std::byte* data, std::uint64_t bytes, std::uint64_t spacing) {
  return static_cast<double>(bytes) * best_rate(team, [&](std::size_t task, std::int64_t amount) {
    const auto* region = reinterpret_cast<const float*>(data + task * spacing);
    float total = 0;
    for (std::int64_t pass = 0; pass < amount; ++pass) total += probes.load(region, static_cast<std::int64_t>(bytes / sizeof(float)));
    volatile float result = total;
    static_cast<void>(result);
  });
}

double copy_rate(Team& team, std::byte* data, std::uint64_t bytes, std::uint64_t spacing) {
  return 2.0 * static_cast<double>(bytes) * best_rate(team, [&](std::size_t task, std::int64_t amount) {
    std::byte* region = data + task * spacing;
    for (std::int64_t pass = 0; pass < amount; ++pass) std::memcpy(region + bytes, region, bytes);
  });
}

std::uint64_t whole_steps(std::uint64_t bytes) { return std::max(step_bytes, bytes / step_bytes * step_bytes); }

void ask_for_large_pages(const AlignedBuffer& buffer) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t page = 2 << 20;
  const auto first = (reinterpret_cast<std::uintptr_t>(buffer.data()) + page - 1) / page * page;
  const auto last = (reinterpret_cast<std::uintptr_t>(buffer.data()) + buffer.size()) / page * page;
  if (first < last) static_cast<void>(madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE));
#else
  static_cast<void>(buffer);
#endif
}

}  // namespace

int widest_panel(Isa isa) noexcept { return probes_for(isa).vectors; }

double measure_panel(Isa isa, int threads, int vectors, std::int64_t entries) {
  const Probes& probes = probes_for(isa);
  if (vectors < 1 || vectors > probes.vectors || entries < 1) return 0;
  Team team(std::max(1, threads));
  // The panel, its weights and sums have to stay in the first-level cache together.
  constexpr std::uint64_t largest = 32 << 10, cache_line = 64;
  const auto row = static_cast<std::uint64_t>(vectors * probes.lanes) * sizeof(float);
  const auto whole_lines = [](std::uint64_t bytes) { return (bytes + cache_line - 1) / cache_line * cache_line; };
  const std::uint64_t panel = whole_lines(std::max(std::min(largest, data_caches()[0].bytes * 3 / 4), row));
  const std::int64_t rows = std::clamp<std::int64_t>(1024 / entries, 4, 16);
  const std::uint64_t sums = static_cast<std::uint64_t>(rows) * row, list = static_cast<std::uint64_t>(rows * entries) * sizeof(PanelEntry);
  const std::uint64_t spacing = whole_lines(panel + sums + list) + cache_line;
  const AlignedBuffer buffer(static_cast<std::uint64_t>(team.size()) * spacing);
  const auto walk_of = [&](std::size_t task) {
    auto* data = buffer.as<std::byte>() + task * spacing;
    return PanelWalk{reinterpret_cast<const float*>(data), reinterpret_cast<const PanelEntry*>(data + panel + sums), entries, rows,
                     reinterpret_cast<float*>(data + panel)};
  };
  team.run(static_cast<std::size_t>(team.size()), [&](std::size_t task) {
    const PanelWalk walk = walk_of(task);
    auto* floats = buffer.as<float>() + task * spacing / sizeof(float);
    std::fill(floats, floats + panel / sizeof(float), 1.0f);
    std::fill(walk.sums, walk.sums + sums / sizeof(float), 0.0f);
    auto* entry = reinterpret_cast<PanelEntry*>(buffer.as<std::byte>() + task * spacing + panel + sums);
    std::uint64_t state = 1;  // a linear congruence: its upper bits are random enough; signs alternate, so that sums stay small
    for (std::int64_t i = 0; i < rows * entries; ++i) {
      state = state * 6364136223846793005u + 1442695040888963407u;
      const std::uint64_t place = (state >> 33) % ((panel - row) / cache_line + 1);
      entry[i] = {static_cast<std::uint32_t>(place * cache_line), i % 2 == 0 ? 0.5f : -0.5f};
    }
  });
  return 2.0 * static_cast<double>(rows * entries * vectors * probes.lanes) * best_rate(team, [&](std::size_t task, std::int64_t amount) {
    const PanelWalk walk = walk_of(task);
    probes.panels[vectors - 1](walk, amount * 16);
    volatile float result = walk.sums[0];
    static_cast<void>(result);
  }) * 16;
}

Limits measure_limits(Isa isa, int threads) {
  const Probes& probes = probes_for(isa);
  const std::vector<Cache> caches = data_caches();
  Team team(std::max(1, threads));
  const auto tasks = static_cast<std::uint64_t>(team.size());

  // Four times the last cache, so that next to nothing of it stays from one pass to the next.
  const std::uint64_t last = caches.back().bytes;
  const std::uint64_t memory = std::max(std::min({std::max<std::uint64_t>(4 * last, 64 << 20), std::uint64_t{1} << 30, granted_memory() / 4}), 2 * step_bytes * tasks);
  const std::uint64_t share = (memory + tasks * step_bytes - 1) / (tasks * step_bytes) * step_bytes;
  // The caches in front of the last one belong to each core, which works on half of it.
  const std::uint64_t inner = caches.size() < 2 ? 0 : caches[caches.size() - 2].bytes;
  const std::uint64_t spacing = std::max(share, whole_steps(inner));
  const AlignedBuffer buffer(tasks * spacing);
  ask_for_large_pages(buffer);
  auto* data = buffer.as<std::byte>();
  team.run(tasks, [&](std::size_t task) {
    auto* floats = reinterpret_cast<float*>(data + task * spacing);
    std::fill(floats, floats + spacing / sizeof(float), 1.0f);
  });

  Limits limits;
  limits.isa = isa;
  limits.threads = team.size();
  limits.flops = flops(probes, team);
  limits.int8_ops = int8_ops(dot_probe_for(isa), team);
  limits.bit_ops = bit_ops(bit_probe_for(isa), team);
  for (const Cache& cache : caches) {
    const std::uint64_t sharers = cache.level == caches.back().level ? tasks : 1;
    const std::uint64_t bytes = std::min(whole_steps(cache.bytes / 2 / sharers), spacing);
    limits.caches.push_back({cache.level, cache.bytes, load_rate(probes, team, data, bytes, spacing)});
  }
  limits.memory_load = load_rate(probes, team, data, share, spacing);
  limits.memory_copy = copy_rate(team, data, whole_steps(share / 2), spacing);
  return limits;
}

}  // namespace bittern::engine
