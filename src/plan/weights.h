// The memory a model takes: decoded and packed weights, made once and shared, under one limit.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "base/aligned_buffer.h"

namespace bittern::plan {

using SharedBuffer = std::shared_ptr<const engine::AlignedBuffer>;

// Counts the bytes of a model and its sessions against a limit.
class MemoryBudget {
 public:
  explicit MemoryBudget(std::uint64_t limit) : limit_(limit) {}
  // Throws Error(resource) naming `what` before anything is taken.
  void take(std::uint64_t bytes, const std::string& what);
  void check(std::uint64_t bytes, const std::string& what) const;
  void give_back(std::uint64_t bytes) noexcept { used_.fetch_sub(bytes, std::memory_order_relaxed); }
  std::uint64_t used() const noexcept { return used_.load(std::memory_order_relaxed); }

 private:
  const std::uint64_t limit_;
  std::atomic<std::uint64_t> used_{0};
};

// Bytes taken from a budget for as long as this lives.
class Charge {
 public:
  explicit Charge(MemoryBudget& budget) : budget_(&budget) {}
  ~Charge() { budget_->give_back(bytes_); }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  void take(std::uint64_t bytes, const std::string& what) {
    budget_->take(bytes, what);
    bytes_ += bytes;
  }

 private:
  MemoryBudget* budget_;
  std::uint64_t bytes_ = 0;
};

class Weights {
 public:
  explicit Weights(MemoryBudget& budget) : budget_(&budget) {}
  // The buffer for `key`, made by fill(float*) at the first request. Keys name constant, folding, kernel and layout.
  SharedBuffer get(const std::string& key, std::uint64_t floats, const std::string& what, const std::function<void(float*)>& fill);

 private:
  MemoryBudget* budget_;
  std::mutex mutex_;
  std::map<std::string, SharedBuffer> buffers_;
};

}  // namespace bittern::plan
