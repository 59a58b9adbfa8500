// A JSON value that may hold anything, right or wrong: tokens are kept as text, so that mutation can write what no library would.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fuzz {

struct Value {
  enum class Kind { atom, text, array, object };

  Kind kind = Kind::atom;
  std::string raw = "null";        // atom: the token; text: what stands between the quotes
  std::vector<std::string> keys;   // object: what stands between the quotes of each key
  std::vector<Value> items;        // array, object

  static Value atom(std::string token) { return {Kind::atom, std::move(token), {}, {}}; }
  static Value text(std::string content) { return {Kind::text, std::move(content), {}, {}}; }
  static Value array(std::vector<Value> items = {}) { return {Kind::array, {}, {}, std::move(items)}; }
  static Value object() { return {Kind::object, {}, {}, {}}; }

  bool is_number() const { return kind == Kind::atom && !raw.empty() && (raw[0] == '-' || (raw[0] >= '0' && raw[0] <= '9')); }
  bool is_container() const { return kind == Kind::array || kind == Kind::object; }

  Value* find(std::string_view key);
  const Value* find(std::string_view key) const { return const_cast<Value*>(this)->find(key); }
  // The member of this name, made if there is none. Only for objects.
  Value& operator[](std::string_view key);
};

// Reads a text without faults; false if it has one.
bool parse(std::string_view text, Value& out);
void write(const Value& value, std::string& out);

std::string escaped(std::string_view bytes);
std::string unescaped(std::string_view raw);

// This value and all below it, in the order of the text.
std::vector<Value*> all_of(Value& root);

}  // namespace fuzz
