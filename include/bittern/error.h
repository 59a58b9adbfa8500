// Errors of the library: a kind, and a message that names place, problem and remedy.
#pragma once

#include <stdexcept>
#include <string>

#include <bittern/export.h>

namespace bittern {

enum class ErrorCode {
  format,       // the file is damaged or not a bittern file
  unsupported,  // valid, but this build cannot run it
  input,        // a wrong argument: name, shape, dtype, option
  resource,     // a limit on memory or threads
  io,           // the operating system refused
};

class BITTERN_EXPORT Error : public std::runtime_error {
 public:
  // `place` is a file, layer or argument; `remedy` says what to do and may be empty.
  Error(ErrorCode code, std::string place, std::string problem, std::string remedy = {});
  ~Error() override;

  ErrorCode code() const noexcept { return code_; }
  const std::string& place() const noexcept { return place_; }
  const std::string& problem() const noexcept { return problem_; }
  const std::string& remedy() const noexcept { return remedy_; }

 private:
  ErrorCode code_;
  std::string place_, problem_, remedy_;
};

}  // namespace bittern
