// Holds `run` to its promises on real kernels: no allocation, no byte outside the caller's arrays, the caller's
// floating-point mode neither changed nor of influence, memory below the limit.
//
//   promises FILE...              every level and 1 and 2 threads, batches of 1 and 3
//   promises --limit BYTES FILE   loads and runs once; prints `ok PEAK` or `refused PEAK`, the most bytes of heap held
//
// Exit code 0: all promises were kept. Not for sanitizer builds: it counts malloc itself.
#include <bittern/bittern.h>

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <string_view>

#include "arrays.h"

namespace {

std::atomic<std::size_t> allocations{0}, held{0}, peak{0};

void* counted(void* memory) {
  if (memory == nullptr) return memory;
  allocations.fetch_add(1, std::memory_order_relaxed);
  const std::size_t now = held.fetch_add(malloc_usable_size(memory), std::memory_order_relaxed) + malloc_usable_size(memory);
  std::size_t most = peak.load(std::memory_order_relaxed);
  while (now > most && !peak.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
  }
  return memory;
}
void* uncounted(void* memory) {
  if (memory != nullptr) held.fetch_sub(malloc_usable_size(memory), std::memory_order_relaxed);
  return memory;
}

}  // namespace

// In front of the C library's: operator new comes by here as well.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t bytes) { return counted(__libc_malloc(bytes)); }
void* calloc(std::size_t count, std::size_t bytes) { return counted(__libc_calloc(count, bytes)); }
void* realloc(void* memory, std::size_t bytes) {
  uncounted(memory);
  return counted(__libc_realloc(memory, bytes));
}
void* memalign(std::size_t alignment, std::size_t bytes) { return counted(__libc_memalign(alignment, bytes)); }
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return counted(__libc_memalign(alignment, bytes)); }
int posix_memalign(void** out, std::size_t alignment, std::size_t bytes) {
  *out = counted(__libc_memalign(alignment, bytes));
  return *out == nullptr ? 12 : 0;
}
void free(void* memory) { __libc_free(uncounted(memory)); }
}

namespace {

int failures = 0;

void fail(const std::string& where, const std::string& problem) {
  std::printf("%s: %s\n", where.c_str(), problem.c_str());
  ++failures;
}

// Pages for an array, with pages around them that may not be touched.
class Guarded {
 public:
  // The array ends where the pages end, or starts where they start.
  Guarded(std::size_t bytes, bool at_end) : bytes_(bytes) {
    inner_ = (bytes + page - 1) / page * page;
    if (inner_ == 0) inner_ = page;
    base_ = static_cast<std::byte*>(mmap(nullptr, inner_ + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    if (base_ == MAP_FAILED || mprotect(base_ + page, inner_, PROT_READ | PROT_WRITE) != 0) std::abort();
    std::memset(base_ + page, 0x5A, inner_);
    data_ = base_ + page + (at_end ? inner_ - bytes : 0);
  }
  ~Guarded() { munmap(base_, inner_ + 2 * page); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  std::byte* data() const { return data_; }
  void forbid_writing() { mprotect(base_ + page, inner_, PROT_READ); }
  // The rest of the array's own pages is as it was.
  bool rest_is_whole() const {
    for (std::size_t i = 0; i < inner_; ++i) {
      const std::byte* const at = base_ + page + i;
      if ((at < data_ || at >= data_ + bytes_) && *at != std::byte{0x5A}) return false;
    }
    return true;
  }

 private:
  static constexpr std::size_t page = 4096;
  std::size_t bytes_, inner_ = 0;
  std::byte *base_ = nullptr, *data_ = nullptr;
};

void check_allocations(const std::string& where, const bittern::Model& model, bittern::Session& session, std::int64_t batch,
                       const tools::Arrays& inputs) {
  tools::Arrays outputs;
  const auto sources = tools::views(model, batch, inputs);
  const auto targets = tools::views(std::vector<bittern::ValueInfo>(session.prepare(tools::input_shapes(model, batch)).outputs), outputs);
  session.run(sources, targets);
  const std::size_t before = allocations.load();
  for (int i = 0; i < 3; ++i) session.run(sources, targets);
  if (const std::size_t after = allocations.load(); after != before) fail(where, std::to_string(after - before) + " allocations in three runs");
}

void check_borders(const std::string& where, const bittern::Model& model, bittern::Session& session, std::int64_t batch, const tools::Arrays& inputs,
                   const tools::Arrays& expected, bool at_end) {
  std::vector<std::unique_ptr<Guarded>> guards;
  std::vector<bittern::ConstView> sources = tools::views(model, batch, inputs);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    guards.push_back(std::make_unique<Guarded>(inputs[i].size(), at_end));
    if (!inputs[i].empty()) std::memcpy(guards.back()->data(), inputs[i].data(), inputs[i].size());
    guards.back()->forbid_writing();
    sources[i].data = guards.back()->data();
  }
  std::vector<bittern::View> targets;
  const std::vector<bittern::ValueInfo> infos = session.prepare(tools::input_shapes(model, batch)).outputs;
  for (const bittern::ValueInfo& info : infos) {
    const bittern::Shape shape = tools::shape_of(info, 0);
    guards.push_back(std::make_unique<Guarded>(tools::bytes_of(shape, info.dtype), at_end));
    targets.push_back({guards.back()->data(), info.dtype, shape, {}});
  }
  session.run(sources, targets);  // a kernel that leaves an array ends here
  for (std::size_t i = 0; i < targets.size(); ++i) {
    const std::size_t bytes = expected[i].size();
    if (bytes != 0 && std::memcmp(targets[i].data, expected[i].data(), bytes) != 0) fail(where, "other results between guard pages");
    if (!guards[sources.size() + i]->rest_is_whole()) fail(where, "wrote beside an output");
  }
}

#if defined(__x86_64__)
// Whatever the caller has set: the same bits come out, and his mode stays.
void check_mode(const std::string& where, const std::string& path, const bittern::LoadOptions& options, int threads, std::int64_t batch,
                const tools::Arrays& inputs, const tools::Arrays& expected) {
  constexpr unsigned standard = 0x1F80u;
  constexpr unsigned modes[] = {standard | 0x8040u, standard | 0x2000u, standard | 0x4000u, standard | 0x6000u,
                                standard & ~0x0280u, standard | 0x003Fu};
  for (const unsigned mode : modes) {
    _mm_setcsr(mode);
    const bittern::Model model = bittern::Model::load(path, options);
    const unsigned after_load = _mm_getcsr();
    bittern::Session session(model, {.threads = threads});
    const tools::Arrays outputs = tools::run(model, session, batch, inputs);
    const unsigned after_run = _mm_getcsr();
    _mm_setcsr(standard);
    constexpr unsigned flags = 0x3Fu;  // what an operation leaves behind; all else is the caller's setting
    if (((after_load ^ mode) & ~flags) != 0 || ((after_run ^ mode) & ~flags) != 0) fail(where, "the caller's floating-point mode was changed");
    if (outputs != expected) fail(where, "other results under the caller's floating-point mode " + std::to_string(mode));
  }
}
#endif

void check(const std::string& path) {
  for (const std::string& isa : bittern::cpu().isa_usable) {
    bittern::LoadOptions options;
    options.isa = isa;
    const bittern::Model model = bittern::Model::load(path, options);
    for (const std::int64_t batch : {1, 3}) {
      const tools::Arrays inputs = tools::inputs_of(model, batch, 7);
      tools::Arrays first;
      for (const int threads : {1, 2}) {
        const std::string where = path + " " + isa + " batch " + std::to_string(batch) + " threads " + std::to_string(threads);
        bittern::Session session(model, {.threads = threads});
        const tools::Arrays outputs = tools::run(model, session, batch, inputs);
        if (threads == 1) first = outputs;
        if (outputs != first) fail(where, "other results than with one thread");
        check_allocations(where, model, session, batch, inputs);
        for (const bool at_end : {true, false}) check_borders(where, model, session, batch, inputs, first, at_end);
#if defined(__x86_64__)
        if (batch == 3) check_mode(where, path, options, threads, batch, inputs, first);
#endif
      }
    }
  }
}

int check_limit(const char* bytes, const char* path) {
  bittern::LoadOptions options;
  options.memory_limit = std::strtoull(bytes, nullptr, 10);
  const std::size_t before = held.load();
  peak.store(before);
  bool refused = false;
  try {
    const bittern::Model model = bittern::Model::load(path, options);
    const tools::Arrays inputs = tools::inputs_of(model, 1, 7);
    bittern::Session session(model, {.threads = 1});
    tools::run(model, session, 1, inputs);
  } catch (const bittern::Error& error) {
    if (error.code() != bittern::ErrorCode::resource) throw;
    refused = true;
  }
  std::printf("%s %zu\n", refused ? "refused" : "ok", peak.load() - before);
  return 0;
}

}  // namespace

int main(int count, char** words) {
  try {
    if (count == 4 && std::string_view(words[1]) == "--limit") return check_limit(words[2], words[3]);
    for (int i = 1; i < count; ++i) check(words[i]);
  } catch (const std::exception& error) {
    std::printf("%s\n", error.what());
    return 2;
  }
  std::printf("%d files, %d failures\n", count - 1, failures);
  return failures == 0 ? 0 : 1;
}
