// Arithmetic on single elements that is defined for every operand: integers wrap, division by zero gives 0.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

namespace bittern::engine {

// Unsigned, and not narrower than int: products of std::uint16_t would be ints, which must not overflow.
template <class T, bool = std::is_floating_point_v<T>>
struct ModularType {
  using type = T;
};
template <class T>
struct ModularType<T, false> {
  using type = std::conditional_t<(sizeof(T) < 8), std::uint32_t, std::uint64_t>;
};
template <class T>
using Modular = typename ModularType<T>::type;  // the type to add and multiply in: T itself for floating point

template <class T>
constexpr Modular<T> modular(T x) noexcept {
  return static_cast<Modular<T>>(x);
}

template <class T>
constexpr bool is_nan([[maybe_unused]] T x) noexcept {
  if constexpr (std::is_floating_point_v<T>) {
    return x != x;
  } else {
    return false;
  }
}

// Towards zero; what does not fit becomes the nearest number that does, NaN becomes 0.
template <class To, class From>
constexpr To saturated(From x) noexcept {
  using Limits = std::numeric_limits<To>;
  constexpr From low = static_cast<From>(Limits::min()), beyond = static_cast<From>(Limits::max() / 2 + 1) * 2;
  if (is_nan(x)) return 0;
  if (x <= low) return Limits::min();
  if (x >= beyond) return Limits::max();
  return static_cast<To>(x);
}

// Between types of numbers: integers keep their low bits.
template <class To, class From>
constexpr To converted(From x) noexcept {
  if constexpr (std::is_floating_point_v<From> && !std::is_floating_point_v<To>) {
    return saturated<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

struct Plus {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    return static_cast<T>(modular(a) + modular(b));
  }
};

struct Minus {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    return static_cast<T>(modular(a) - modular(b));
  }
};

struct Times {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    return static_cast<T>(modular(a) * modular(b));
  }
};

template <class T>
constexpr T negative(T x) noexcept {
  if constexpr (std::is_floating_point_v<T>) {
    return -x;
  } else {
    return static_cast<T>(Modular<T>{0} - modular(x));
  }
}

template <class T>
constexpr T magnitude(T x) noexcept {
  if constexpr (std::is_floating_point_v<T>) {
    return std::fabs(x);
  } else if constexpr (std::is_signed_v<T>) {
    return x < 0 ? negative(x) : x;
  } else {
    return x;
  }
}

struct Quotient {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    if constexpr (std::is_floating_point_v<T>) {
      return a / b;
    } else {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return negative(a);
      }
      return static_cast<T>(a / b);
    }
  }
};

// With the sign of the dividend, as in C; fmod for floating point.
struct Remainder {
  template <class T>
  T operator()(T a, T b) const noexcept {
    if constexpr (std::is_floating_point_v<T>) {
      return std::fmod(a, b);
    } else {
      if (b == 0) return 0;
      if constexpr (std::is_signed_v<T>) {
        if (b == -1) return 0;
      }
      return static_cast<T>(a % b);
    }
  }
};

// With the sign of the divisor, as in Python.
struct Modulo {
  template <class T>
  T operator()(T a, T b) const noexcept {
    const T rest = Remainder{}(a, b);
    if constexpr (std::is_floating_point_v<T>) {
      if (rest == T{0}) return std::copysign(rest, b);
    }
    if constexpr (std::is_signed_v<T>) {
      if (rest != 0 && (rest < 0) != (b < 0)) return static_cast<T>(rest + b);
    }
    return rest;
  }
};

// NaN wins, as in NumPy.
struct Lesser {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    return b < a || is_nan(b) ? b : a;
  }
};

struct Larger {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    return b > a || is_nan(b) ? b : a;
  }
};

struct IsEqual {
  template <class T>
  constexpr std::uint8_t operator()(T a, T b) const noexcept {
    return a == b ? 1 : 0;
  }
};

struct IsLess {
  template <class T>
  constexpr std::uint8_t operator()(T a, T b) const noexcept {
    return a < b ? 1 : 0;
  }
};

struct IsLessOrEqual {
  template <class T>
  constexpr std::uint8_t operator()(T a, T b) const noexcept {
    return a <= b ? 1 : 0;
  }
};

struct BitAnd {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    return static_cast<T>(a & b);
  }
};

struct BitOr {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    return static_cast<T>(a | b);
  }
};

struct BitXor {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    return static_cast<T>(a ^ b);
  }
};

// A negative amount, and one of all bits or more, shifts everything out; as in NumPy.
template <class T>
constexpr bool shifts_all(T amount) noexcept {
  return static_cast<std::make_unsigned_t<T>>(amount) >= sizeof(T) * 8;
}

struct ShiftLeft {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    return shifts_all(b) ? T{0} : static_cast<T>(modular(a) << modular(b));
  }
};

struct ShiftRight {
  template <class T>
  constexpr T operator()(T a, T b) const noexcept {
    if (shifts_all(b)) return static_cast<T>(a < T{0} ? -1 : 0);
    return static_cast<T>(a >> modular(b));
  }
};

// x where it is not negative, else slope * x.
struct Sloped {
  template <class T>
  constexpr T operator()(T x, T slope) const noexcept {
    return x < T{0} ? Times{}(x, slope) : x;
  }
};

// The result has the type of the base. Integers to integers are exact, modulo 2^bits; a negative exponent gives what the
// exact fraction is when truncated, and 0 for a base of 0.
struct Power {
  template <class T, class E>
  T operator()(T base, E exponent) const noexcept {
    if constexpr (std::is_floating_point_v<T>) {
      return static_cast<T>(std::pow(base, static_cast<T>(exponent)));
    } else if constexpr (std::is_floating_point_v<E>) {
      return saturated<T>(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
    } else {
      if constexpr (std::is_signed_v<E>) {
        if (exponent < 0) {
          if (base == 1) return 1;
          if constexpr (std::is_signed_v<T>) {
            if (base == -1) return exponent % 2 == 0 ? T{1} : T{-1};
          }
          return 0;
        }
      }
      T result = 1;
      for (auto left = static_cast<std::uint64_t>(exponent); left != 0; left >>= 1) {
        if ((left & 1) != 0) result = Times{}(result, base);
        base = Times{}(base, base);
      }
      return result;
    }
  }
};

}  // namespace bittern::engine
