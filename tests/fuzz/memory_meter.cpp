#include "memory_meter.h"

#include <malloc.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace fuzz::memory {
namespace {

std::atomic<std::size_t> held_bytes{0}, peak_bytes{0}, count{0}, ceiling{SIZE_MAX};

void* take(std::size_t bytes, std::size_t alignment) noexcept {
  const std::size_t before = held_bytes.load(std::memory_order_relaxed);
  if (bytes > ceiling.load(std::memory_order_relaxed) || before > ceiling.load(std::memory_order_relaxed) - bytes) return nullptr;
  void* memory = nullptr;
  if (alignment <= alignof(std::max_align_t)) {
    memory = std::malloc(bytes == 0 ? 1 : bytes);
  } else if (posix_memalign(&memory, alignment, bytes) != 0) {
    memory = nullptr;
  }
  if (memory == nullptr) return nullptr;
  count.fetch_add(1, std::memory_order_relaxed);
  const std::size_t now = held_bytes.fetch_add(malloc_usable_size(memory), std::memory_order_relaxed) + malloc_usable_size(memory);
  std::size_t most = peak_bytes.load(std::memory_order_relaxed);
  while (now > most && !peak_bytes.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
  }
  return memory;
}

void give_back(void* memory) noexcept {
  if (memory == nullptr) return;
  held_bytes.fetch_sub(malloc_usable_size(memory), std::memory_order_relaxed);
  std::free(memory);
}

void* take_or_throw(std::size_t bytes, std::size_t alignment) {
  void* const memory = take(bytes, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace

std::size_t held() noexcept { return held_bytes.load(std::memory_order_relaxed); }
std::size_t peak() noexcept { return peak_bytes.load(std::memory_order_relaxed); }
std::size_t allocations() noexcept { return count.load(std::memory_order_relaxed); }
void reset_peak() noexcept { peak_bytes.store(held(), std::memory_order_relaxed); }
void set_ceiling(std::size_t bytes) noexcept { ceiling.store(bytes, std::memory_order_relaxed); }

}  // namespace fuzz::memory

using fuzz::memory::give_back;
using fuzz::memory::take;
using fuzz::memory::take_or_throw;

void* operator new(std::size_t bytes) { return take_or_throw(bytes, 1); }
void* operator new[](std::size_t bytes) { return take_or_throw(bytes, 1); }
void* operator new(std::size_t bytes, std::align_val_t alignment) { return take_or_throw(bytes, static_cast<std::size_t>(alignment)); }
void* operator new[](std::size_t bytes, std::align_val_t alignment) { return take_or_throw(bytes, static_cast<std::size_t>(alignment)); }
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept { return take(bytes, 1); }
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept { return take(bytes, 1); }
void operator delete(void* memory) noexcept { give_back(memory); }
void operator delete[](void* memory) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::align_val_t) noexcept { give_back(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept { give_back(memory); }
void operator delete(void* memory, const std::nothrow_t&) noexcept { give_back(memory); }
void operator delete[](void* memory, const std::nothrow_t&) noexcept { give_back(memory); }
