// How many bytes this process holds through operator new, and held at most. Linking memory_meter.cpp replaces the operator.
#pragma once

#include <cstddef>

namespace fuzz::memory {

std::size_t held() noexcept;         // now
std::size_t peak() noexcept;         // since the last reset_peak()
std::size_t allocations() noexcept;  // so far
void reset_peak() noexcept;
// Allocations that would pass this many bytes held fail with std::bad_alloc.
void set_ceiling(std::size_t bytes) noexcept;

}  // namespace fuzz::memory
