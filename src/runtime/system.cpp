#include <bittern/system.h>

#include "base/cpu_count.h"
#include "base/cpu_features.h"
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

const char* version() noexcept { return BITTERN_VERSION; }

const char* compiler() noexcept {
#if defined(__clang__)
  return "Clang " __clang_version__;
#else
  return "GCC " __VERSION__;
#endif
}

}  // namespace bittern
