// Random numbers that depend on (seed, index) alone, the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fuzz {

class Rng {
 public:
  Rng(std::uint64_t seed, std::uint64_t index) : state_(seed * 0x9E3779B97F4A7C15u + 0x632BE59BD9B4E019u) {
    next();
    state_ ^= index * 0xD1342543DE82EF95u;
    next();
  }

  std::uint64_t next() {  // splitmix64
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // Below `count`; 0 if there is nothing to choose from.
  std::size_t below(std::size_t count) { return count == 0 ? 0 : static_cast<std::size_t>(next() % count); }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <class T>
  const T& pick(const std::vector<T>& list) { return list[below(list.size())]; }
  template <class T, std::size_t n>
  const T& pick(const T (&list)[n]) { return list[below(n)]; }

 private:
  std::uint64_t state_;
};

}  // namespace fuzz
