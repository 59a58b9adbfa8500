// Mapping of files through POSIX.
#include "format/mapped_file.h"

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bittern/error.h>

namespace bittern::format {

namespace {

// Closes the descriptor; the mapping does not need it.
class Descriptor {
 public:
  explicit Descriptor(int number) noexcept : number_(number) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const noexcept { return number_; }

 private:
  int number_;
};

[[noreturn]] void refuse(const std::string& path, const char* action, int error) {
  throw Error(ErrorCode::io, path, std::string(action) + ": " + std::generic_category().message(error),
              "check the path and its permissions");
}

int open_readable(const std::string& path) {
  int number = -1;
  do {
    // Without O_NONBLOCK, opening a pipe would wait for a writer.
    number = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  } while (number < 0 && errno == EINTR);
  return number;
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  if (path.empty()) throw Error(ErrorCode::io, "path", "is empty", "give the path of a .bittern file");
  if (path.find('\0') != std::string::npos) {
    throw Error(ErrorCode::io, "path", "contains a zero byte", "give the path of a .bittern file");
  }
  const Descriptor file(open_readable(path));
  if (file.number() < 0) refuse(path, "cannot be opened", errno);
  struct stat status {};
  if (::fstat(file.number(), &status) != 0) refuse(path, "cannot be examined", errno);
  if (S_ISDIR(status.st_mode)) throw Error(ErrorCode::io, path, "is a directory", "give the path of a .bittern file");
  if (!S_ISREG(status.st_mode)) {
    throw Error(ErrorCode::io, path, "is not a regular file", "give the path of a .bittern file");
  }
  if (status.st_size <= 0) throw Error(ErrorCode::format, path, "is empty", "write the file again with bittern");

  const auto size = static_cast<std::size_t>(status.st_size);
  void* const address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.number(), 0);
  if (address == MAP_FAILED) refuse(path, "cannot be mapped into memory", errno);
  data_ = static_cast<const std::byte*>(address);
  size_ = size;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  // munmap takes a pointer to mutable memory though it changes none.
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

void MappedFile::release(const std::byte* first, std::size_t bytes) const noexcept {
  constexpr std::size_t page = 4096, worthwhile = std::size_t{1} << 20;
  if (bytes < worthwhile || first < data_ || first > data_ + size_) return;
  // Whole pages inside the range only: its neighbours share the first and the last.
  const std::size_t from = (static_cast<std::size_t>(first - data_) + page - 1) / page * page;
  const std::size_t to = (static_cast<std::size_t>(first - data_) + bytes) / page * page;
  if (from < to) madvise(const_cast<std::byte*>(data_) + from, to - from, MADV_DONTNEED);
}

}  // namespace bittern::format
