// A small JSON value, and the parser that refuses what our files must not contain.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace bittern::format {

struct JsonMember;

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<JsonMember>;  // in the order of the text, names unique
  using Value = std::variant<std::monostate, bool, std::int64_t, double, std::string, Array, Object>;

  // The content if it has this type, else nullptr. Numbers with a point or an exponent are `real`, others `integer`.
  const bool* boolean() const noexcept { return std::get_if<bool>(&value_); }
  const std::int64_t* integer() const noexcept { return std::get_if<std::int64_t>(&value_); }
  const double* real() const noexcept { return std::get_if<double>(&value_); }
  const std::string* string() const noexcept { return std::get_if<std::string>(&value_); }
  const Array* array() const noexcept { return std::get_if<Array>(&value_); }
  const Object* object() const noexcept { return std::get_if<Object>(&value_); }

  // A member of an object; nullptr if this is no object or has no such member.
  const Json* find(std::string_view name) const noexcept;

  // "null", "a boolean", "an integer", "a number", "a string", "a list", "an object".
  const char* type_name() const noexcept;

  Value& value() noexcept { return value_; }

 private:
  Value value_;
};

struct JsonMember {
  std::string name;
  Json value;
};

inline constexpr int max_json_depth = 64;
inline constexpr std::size_t max_json_values = std::size_t{1} << 19;  // bounds the memory of a hostile text

// Parses a whole text. Throws Error (format) with `place` on: invalid JSON or UTF-8, a duplicate key, nesting deeper
// than max_json_depth, more than max_json_values values, an integer outside int64, a number outside double.
Json parse_json(std::string_view text, const std::string& place);

}  // namespace bittern::format
