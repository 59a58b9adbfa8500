// JSON parsing: the one place that sees the JSON library.
#include "format/json.h"

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include <bittern/error.h>

#include "format/problems.h"

namespace bittern::format {

namespace {

// Builds the value from the parser's events; refuses by returning false, with the reason in `problem`.
class Builder {
 public:
  using Library = nlohmann::json;

  bool null() { return place() != nullptr; }
  bool boolean(bool value) { return add<bool>(value); }
  bool number_integer(Library::number_integer_t value) { return add<std::int64_t>(value); }
  bool number_unsigned(Library::number_unsigned_t value) {
    if (value > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return refuse_integer();
    return add<std::int64_t>(static_cast<std::int64_t>(value));
  }
  bool number_float(Library::number_float_t value, const std::string& token) {
    // The library turns integers that are too long into floats.
    if (token.find_first_of(".eE") == std::string::npos) return refuse_integer();
    return add<double>(value);
  }
  bool string(std::string& value) { return add<std::string>(std::move(value)); }
  bool binary(Library::binary_t&) { return refuse("binary data"); }
  bool start_object(std::size_t) { return open<Json::Object>(); }
  bool start_array(std::size_t) { return open<Json::Array>(); }
  bool key(std::string& name) {
    std::get<Json::Object>(open_.back()->value()).emplace_back().name = std::move(name);
    return true;
  }
  bool end_array() {
    open_.pop_back();
    return true;
  }
  bool end_object() {
    const auto& members = std::get<Json::Object>(open_.back()->value());
    open_.pop_back();
    const std::string* twice = duplicate(members);
    return twice == nullptr || refuse("the key " + quote(*twice) + " appears twice in one object");
  }
  bool parse_error(std::size_t byte, const std::string&, const Library::exception&) {
    return refuse("not valid JSON at byte " + std::to_string(byte));
  }

  std::string problem;
  Json root;

 private:
  bool refuse(std::string reason) {
    problem = std::move(reason);
    return false;
  }
  bool refuse_integer() { return refuse("an integer that does not fit in 64 bits with sign"); }

  // Where the next value goes. Only the innermost open container grows, so pointers to the open ones stay valid.
  Json* place() {
    if (++count_ > max_json_values) {
      refuse("more than " + std::to_string(max_json_values) + " values");
      return nullptr;
    }
    if (open_.empty()) return &root;
    Json::Value& parent = open_.back()->value();
    if (auto* const array = std::get_if<Json::Array>(&parent)) return &array->emplace_back();
    return &std::get<Json::Object>(parent).back().value;
  }
  template <class T, class... Content>
  bool add(Content&&... content) {
    Json* const placed = place();
    if (placed == nullptr) return false;
    placed->value().emplace<T>(std::forward<Content>(content)...);
    return true;
  }
  template <class T>
  bool open() {
    if (open_.size() >= static_cast<std::size_t>(max_json_depth)) {
      return refuse("nested deeper than " + std::to_string(max_json_depth) + " levels");
    }
    Json* const placed = place();
    if (placed == nullptr) return false;
    placed->value().emplace<T>();
    open_.push_back(placed);
    return true;
  }

  static const std::string* duplicate(const Json::Object& members) {
    if (members.size() < 2) return nullptr;
    std::vector<const std::string*> names;
    names.reserve(members.size());
    for (const JsonMember& member : members) names.push_back(&member.name);
    std::sort(names.begin(), names.end(), [](const auto* a, const auto* b) { return *a < *b; });
    const auto twice =
        std::adjacent_find(names.begin(), names.end(), [](const auto* a, const auto* b) { return *a == *b; });
    return twice == names.end() ? nullptr : *twice;
  }

  std::vector<Json*> open_;
  std::size_t count_ = 0;
};

}  // namespace

const Json* Json::find(std::string_view name) const noexcept {
  if (const Object* const members = object()) {
    for (const JsonMember& member : *members) {
      if (member.name == name) return &member.value;
    }
  }
  return nullptr;
}

const char* Json::type_name() const noexcept {
  constexpr const char* names[] = {"null", "a boolean", "an integer", "a number", "a string", "a list", "an object"};
  return names[value_.index()];
}

Json parse_json(std::string_view text, const std::string& place) {
  Builder builder;
  std::string problem;
  try {
    if (Builder::Library::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder.root);
    problem = builder.problem;
  } catch (const Builder::Library::exception&) {  // the library reports through parse_error; this is for certainty
    problem = "not valid JSON";
  }
  throw Error(ErrorCode::format, place, std::move(problem), "write the file again with bittern");
}

}  // namespace bittern::format
