// Problems found while reading, collected so that the user sees them together.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bittern::format {

// Text from a file, fit for a message: quoted, control bytes escaped, shortened if long.
std::string quote(std::string_view text);

// The same without quotes where nothing needs them: for "node conv1", which stands where a place stands.
std::string label(std::string_view text);

class Problems {
 public:
  explicit Problems(std::string place) : place_(std::move(place)) {}

  // `where` names the part of the file, e.g. "node conv1"; may be empty.
  void add(std::string where, std::string problem);
  bool empty() const noexcept { return count_ == 0; }
  std::size_t count() const noexcept { return count_; }

  // Throws Error (format) that lists the first problems, if there are any.
  void throw_if_any() const;

 private:
  struct Entry {
    std::string where, problem;
  };
  std::string place_;
  std::vector<Entry> entries_;  // the first few
  std::size_t count_ = 0;
};

}  // namespace bittern::format
