// Heap memory on cache-line boundaries; large pieces on huge pages where the system grants them.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bittern::engine {

inline constexpr std::size_t buffer_alignment = 64;

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Uninitialised memory; throws std::bad_alloc.
  explicit AlignedBuffer(std::size_t bytes) : data_(bytes == 0 ? nullptr : ::operator new(bytes, alignment(bytes))), bytes_(bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    // Weights are streamed: with small pages every 4 KiB costs an address translation and stops the prefetchers.
    if (bytes >= large) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
  }
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~AlignedBuffer() { ::operator delete(data_, alignment(bytes_)); }

  void* data() const noexcept { return data_; }
  template <class T>
  T* as() const noexcept { return static_cast<T*>(data_); }
  std::size_t size() const noexcept { return bytes_; }

 private:
  static constexpr std::size_t huge_page = std::size_t{1} << 21, large = 2 * huge_page;
  static std::align_val_t alignment(std::size_t bytes) noexcept { return std::align_val_t{bytes >= large ? huge_page : buffer_alignment}; }

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace bittern::engine
