// Inputs and outputs, and the caller's options, as C sees them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <bittern/c_api.h>
#include <bittern/error.h>
#include <bittern/model.h>

namespace bittern::c_api {

// A list of values that C can read, and the memory behind it.
class Values {
 public:
  Values() = default;
  explicit Values(const std::vector<ValueInfo>& infos);
  // Moves keep every address; a copy would point into the original.
  Values(Values&&) noexcept = default;
  Values& operator=(Values&&) noexcept = default;

  std::size_t size() const noexcept { return list_.size(); }
  const bittern_value* at(std::size_t index) const noexcept { return index < list_.size() ? &list_[index] : nullptr; }

 private:
  std::vector<ValueInfo> infos_;
  std::vector<Shape> sizes_;
  std::vector<std::vector<const char*>> symbols_;
  std::vector<bittern_value> list_;
};

// The sizes that an array or shape of the caller has. `what` and `index` name it in messages.
void read_sizes(const std::int64_t* sizes, std::int32_t rank, const char* what, std::size_t index, Shape& to);

// A copy of the caller's options. Fields that the caller's version lacks are zero; fields that this version lacks must be.
template <class Options>
Options read_options(const Options* given, const char* name) {
  constexpr std::size_t smallest = sizeof(Options), largest = 4096;  // of the first version; more is no size but garbage
  Options options{};
  if (given == nullptr) return options;
  if (given->size < smallest || given->size > largest) {
    throw Error(ErrorCode::input, name, "the field size is " + std::to_string(given->size), std::string("set it to sizeof(bittern_") + name + ")");
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = sizeof(Options); i < given->size; ++i) {
    if (bytes[i] != 0) throw Error(ErrorCode::input, name, "sets an option that this version of the library does not know", "use a newer library");
  }
  std::memcpy(&options, given, sizeof(Options));
  return options;
}

}  // namespace bittern::c_api

struct bittern_model {
  bittern::Model model;
  bittern::c_api::Values inputs, outputs;
};
