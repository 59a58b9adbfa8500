#include <bittern/system.h>

#include <new>

#include <bittern/error.h>

#include "base/cpu_count.h"
#include "base/cpu_features.h"
#include "measure/limits.h"
#include "registry.h"
#include "runtime/options.h"

namespace bittern {

std::vector<KernelInfo> kernels() {
  std::vector<KernelInfo> list;
  for (const engine::KernelInfo& k : engine::kernels()) {
    list.push_back({k.name, k.loop, engine::name_of(k.isa), k.description, engine::isa_usable(k.isa), k.rows, k.cols});
  }
  return list;
}

CpuInfo cpu() {
  const engine::CpuFeatures& features = engine::cpu_features();
  CpuInfo info;
  info.name = features.name;
  info.features = features.features;
  for (int level = 0; level < engine::isa_count; ++level) {
    const auto isa = static_cast<engine::Isa>(level);
    if (engine::isa_built(isa)) info.isa_built.emplace_back(engine::name_of(isa));
    if (engine::isa_usable(isa)) info.isa_usable.emplace_back(engine::name_of(isa));
  }
  info.isa = engine::name_of(runtime::choose_isa(""));
  info.cpus_granted = engine::granted_cpus();
  info.cpus_present = engine::present_cpus();
  info.memory_granted = engine::granted_memory();
  return info;
}

namespace {

int threads_of(int threads) {
  if (threads < 0) throw Error(ErrorCode::input, "threads", std::to_string(threads), "0 means all CPUs, else a positive number");
  return threads == 0 ? engine::granted_cpus() : threads;
}

}  // namespace

double panel_limit(int vectors, std::int64_t entries, const std::string& isa, int threads) {
  constexpr std::int64_t most = 1 << 20;
  const int team = threads_of(threads);
  const engine::Isa level = runtime::choose_isa(isa);
  if (vectors < 1 || vectors > engine::widest_panel(level)) {
    throw Error(ErrorCode::input, "vectors", std::to_string(vectors),
                "1 to " + std::to_string(engine::widest_panel(level)) + " are allowed on " + engine::name_of(level));
  }
  if (entries < 1 || entries > most) {
    throw Error(ErrorCode::input, "entries", std::to_string(entries), "1 to " + std::to_string(most) + " are allowed");
  }
  try {
    return engine::measure_panel(level, team, vectors, entries) * 1e-9;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::resource, "panel_limit", "not enough memory", "free some");
  }
}

LimitInfo limits(const std::string& isa, int threads) {
  const int team = threads_of(threads);
  const engine::Isa level = runtime::choose_isa(isa);
  try {
    const engine::Limits measured = engine::measure_limits(level, team);
    LimitInfo info;
    info.isa = engine::name_of(measured.isa);
    info.threads = measured.threads;
    info.fma_gflops = measured.flops * 1e-9;
    info.int8_gops = measured.int8_ops * 1e-9;
    for (const engine::CacheLimit& cache : measured.caches) info.caches.push_back({cache.level, cache.bytes, cache.load * 1e-9});
    info.memory_load_gbs = measured.memory_load * 1e-9;
    info.bit_gops = measured.bit_ops * 1e-9;
    info.memory_copy_gbs = measured.memory_copy * 1e-9;
    return info;
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::resource, "limits", "not enough memory to measure its bandwidth", "free some");
  }
}

const char* version() noexcept { return BITTERN_VERSION; }

const char* compiler() noexcept {
#if defined(__clang__)
  return "Clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

}  // namespace bittern
