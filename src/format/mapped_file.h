// A file mapped into memory, read only.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace bittern::format {

// The bytes stay valid while the object lives and nobody truncates the file: replace a model by renaming a new
// file over it, never by writing into the old one.
class MappedFile {
 public:
  // Throws Error: io if the file is missing, no regular file, or cannot be read; format if it is empty.
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

  // Lets the system take back the memory of these bytes, if they are many: they are read from the file again when touched.
  void release(const std::byte* first, std::size_t bytes) const noexcept;

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace bittern::format
