#include "plan/weights.h"

#include <new>

#include <bittern/error.h>

namespace bittern::plan {
namespace {

[[noreturn]] void refuse(std::uint64_t bytes, std::uint64_t used, std::uint64_t limit, const std::string& what) {
  throw Error(ErrorCode::resource, what, "needs " + std::to_string(bytes) + " bytes besides " + std::to_string(used) + " in use",
              "the limit is " + std::to_string(limit) + " bytes: raise memory_limit or use smaller inputs");
}

}  // namespace

void MemoryBudget::check(std::uint64_t bytes, const std::string& what) const {
  const std::uint64_t used = used_.load(std::memory_order_relaxed);
  if (bytes > limit_ || used > limit_ - bytes) refuse(bytes, used, limit_, what);
}

void MemoryBudget::take(std::uint64_t bytes, const std::string& what) {
  std::uint64_t used = used_.load(std::memory_order_relaxed);
  do {
    if (bytes > limit_ || used > limit_ - bytes) refuse(bytes, used, limit_, what);
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
}

SharedBuffer Weights::get(const std::string& key, std::uint64_t floats, const std::string& what, const std::function<void(float*)>& fill) {
  const std::lock_guard lock(mutex_);
  const auto found = buffers_.find(key);
  if (found != buffers_.end()) return found->second;
  const std::uint64_t bytes = floats * sizeof(float);
  budget_->take(bytes, what);
  try {
    auto buffer = std::make_shared<engine::AlignedBuffer>(bytes);
    fill(buffer->as<float>());
    return buffers_.emplace(key, std::move(buffer)).first->second;
  } catch (const std::bad_alloc&) {
    budget_->give_back(bytes);
    throw Error(ErrorCode::resource, what, "needs " + std::to_string(bytes) + " bytes, which the system refused", "use a smaller network");
  } catch (...) {
    budget_->give_back(bytes);
    throw;
  }
}

}  // namespace bittern::plan
