// Heap memory on cache-line boundaries.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

namespace bittern::engine {

inline constexpr std::size_t buffer_alignment = 64;

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  // Uninitialised memory; throws std::bad_alloc.
  explicit AlignedBuffer(std::size_t bytes)
      : data_(bytes == 0 ? nullptr : ::operator new(bytes, std::align_val_t{buffer_alignment})), bytes_(bytes) {}
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~AlignedBuffer() { ::operator delete(data_, std::align_val_t{buffer_alignment}); }

  void* data() const noexcept { return data_; }
  template <class T>
  T* as() const noexcept { return static_cast<T*>(data_); }
  std::size_t size() const noexcept { return bytes_; }
  void clear() noexcept {
    if (bytes_ != 0) std::memset(data_, 0, bytes_);
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace bittern::engine
