#include "measure/caches.h"

#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

namespace bittern::engine {
namespace {

// Linux: /sys/devices/system/cpu/cpu0/cache/index*/{level,type,size}, sizes as "1024K".
std::vector<Cache> from_sysfs() {
  std::vector<Cache> caches;
  for (int index = 0; index < 16; ++index) {
    const std::string folder = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(index) + "/";
    Cache cache;
    std::string type, unit;
    if (!(std::ifstream(folder + "level") >> cache.level)) break;
    std::ifstream(folder + "type") >> type;
    if (type == "Instruction" || !(std::ifstream(folder + "size") >> cache.bytes >> unit)) continue;
    if (unit == "K") cache.bytes <<= 10;
    if (unit == "M") cache.bytes <<= 20;
    caches.push_back(cache);
  }
  return caches;
}

std::vector<Cache> from_sysconf() {
  std::vector<Cache> caches;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
  constexpr int names[] = {_SC_LEVEL1_DCACHE_SIZE, _SC_LEVEL2_CACHE_SIZE, _SC_LEVEL3_CACHE_SIZE};
  for (int level = 1; level <= 3; ++level) {
    if (const long bytes = sysconf(names[level - 1]); bytes > 0) caches.push_back({level, static_cast<std::uint64_t>(bytes)});
  }
#endif
  return caches;
}

}  // namespace

std::vector<Cache> data_caches() {
  constexpr std::uint64_t least = 4 << 10, most = std::uint64_t{4} << 30;
  for (auto told : {from_sysfs(), from_sysconf()}) {
    std::sort(told.begin(), told.end(), [](const Cache& a, const Cache& b) { return a.level < b.level; });
    std::vector<Cache> caches;
    for (const Cache& cache : told) {
      if (cache.bytes < least || cache.bytes > most) continue;
      if (caches.empty() || (cache.level > caches.back().level && cache.bytes > caches.back().bytes)) caches.push_back(cache);
    }
    if (!caches.empty() && caches[0].level == 1) return caches;
  }
  return {{1, 32 << 10}, {2, 512 << 10}, {3, 8 << 20}};
}

}  // namespace bittern::engine
