// The floating-point mode of the engine, whatever the caller's is: results must not depend on it, nor may it change.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <cstdint>

namespace bittern::engine {

// Sets this thread's mode and restores the caller's at the end of the scope: rounding to nearest, no traps, and subnormals
// kept (standard) or taken for zero (flush).
class FloatMode {
 public:
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

 protected:
#if defined(__x86_64__)
  explicit FloatMode(bool flush) : saved_(_mm_getcsr()) { _mm_setcsr(flush ? 0x9FC0u : 0x1F80u); }
  ~FloatMode() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  explicit FloatMode(bool flush) {
    __asm__ volatile("mrs %0, fpcr" : "=r"(saved_));
    __asm__ volatile("msr fpcr, %0" : : "r"(std::uint64_t{flush ? 1u : 0u} << 24));
  }
  ~FloatMode() { __asm__ volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  std::uint64_t saved_ = 0;
#else
  explicit FloatMode(bool) {}
  ~FloatMode() {}
#endif
};

// While the engine computes: subnormals would slow kernels down a hundredfold.
class FlushToZero : FloatMode {
 public:
  FlushToZero() : FloatMode(true) {}
};

// While weights are decoded and packed: every number of the file keeps its value.
class StandardMode : FloatMode {
 public:
  StandardMode() : FloatMode(false) {}
};

}  // namespace bittern::engine
