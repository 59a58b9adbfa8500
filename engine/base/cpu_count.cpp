#include "base/cpu_count.h"

#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>

#if defined(__linux__)
#include <sched.h>
#endif

namespace bittern::engine {
namespace {

#if defined(__linux__)

// True if `word` is one of the comma-separated names.
bool lists(const std::string& names, const std::string& word) {
  std::istringstream stream(names);
  std::string name;
  while (std::getline(stream, name, ',')) {
    if (name == word) return true;
  }
  return false;
}

// This process's path inside the hierarchy of a controller; empty if unknown. `controller` is empty for cgroup v2.
std::string group_path(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  std::string line;
  while (std::getline(file, line)) {
    const auto first = line.find(':');
    const auto second = line.find(':', first == std::string::npos ? first : first + 1);
    if (second == std::string::npos) continue;
    const std::string names = line.substr(first + 1, second - first - 1);
    if (controller.empty() ? names.empty() : lists(names, controller)) return line.substr(second + 1);
  }
  return {};
}

// Calls visit(directory) for the group and each of its ancestors: the tightest limit on the way up holds.
template <class Visit>
void each_group(const std::string& root, std::string path, Visit visit) {
  while (true) {
    visit(root + path);
    if (path.empty() || path == "/") return;
    path.erase(path.rfind('/'));
  }
}

double cpu_quota() {
  double quota = 1e9;
  each_group("/sys/fs/cgroup", group_path(""), [&](const std::string& directory) {
    std::ifstream file(directory + "/cpu.max");
    std::string limit;
    double period = 0;
    if (file >> limit >> period && limit != "max" && period > 0) quota = std::min(quota, std::stod(limit) / period);
  });
  each_group("/sys/fs/cgroup/cpu", group_path("cpu"), [&](const std::string& directory) {
    std::ifstream limit_file(directory + "/cpu.cfs_quota_us"), period_file(directory + "/cpu.cfs_period_us");
    double limit = 0, period = 0;
    if (limit_file >> limit && period_file >> period && limit > 0 && period > 0) quota = std::min(quota, limit / period);
  });
  return quota;
}

std::uint64_t memory_limit() {
  std::uint64_t bound = UINT64_MAX;
  const auto read = [&](const std::string& path) {
    std::ifstream file(path);
    std::uint64_t value = 0;
    if (file >> value && value > 0) bound = std::min(bound, value);
  };
  each_group("/sys/fs/cgroup", group_path(""), [&](const std::string& d) { read(d + "/memory.max"); });
  each_group("/sys/fs/cgroup/memory", group_path("memory"), [&](const std::string& d) { read(d + "/memory.limit_in_bytes"); });
  return bound;
}

int affinity_cpus() {
  // Machines with more than 1024 CPUs need a larger mask than cpu_set_t: grow until the kernel accepts it.
  for (int capacity = 1024; capacity <= 1 << 18; capacity *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(capacity));
    if (set == nullptr) return 0;
    const std::size_t bytes = CPU_ALLOC_SIZE(static_cast<std::size_t>(capacity));
    const bool ok = sched_getaffinity(0, bytes, set) == 0;
    const int count = ok ? CPU_COUNT_S(bytes, set) : 0;
    CPU_FREE(set);
    if (ok) return count;
  }
  return 0;
}

#endif

}  // namespace

int present_cpus() { return static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN))); }

int granted_cpus() {
  int granted = present_cpus();
#if defined(__linux__)
  if (const int allowed = affinity_cpus(); allowed > 0) granted = allowed;
  // A quota of 1.5 CPUs keeps two threads busy three quarters of the time: round up.
  const double quota = cpu_quota();
  if (quota < granted) granted = static_cast<int>(quota) + (quota > static_cast<int>(quota) ? 1 : 0);
#endif
  return std::max(1, granted);
}

std::uint64_t granted_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  std::uint64_t bytes = pages > 0 && size > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(size) : UINT64_MAX;
#if defined(__linux__)
  bytes = std::min(bytes, memory_limit());
#endif
  return bytes;
}

}  // namespace bittern::engine
