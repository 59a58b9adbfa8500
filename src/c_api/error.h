// From C++ exceptions to what C functions return.
#pragma once

#include <bittern/c_api.h>
#include <bittern/error.h>

namespace bittern::c_api {

// The exception being handled, as a code and as an object for the caller. Call it in a catch block.
bittern_code report(bittern_error** error) noexcept;

// Runs the body of a C function that can fail.
template <class Body>
bittern_code guarded(bittern_error** error, Body&& body) noexcept {
  if (error != nullptr) *error = nullptr;
  try {
    body();
    return BITTERN_OK;
  } catch (...) {
    return report(error);
  }
}

// Throws Error(input) naming the argument if it is NULL.
template <class Object>
Object& needed(Object* object, const char* name) {
  if (object == nullptr) throw Error(ErrorCode::input, name, "is NULL", "give its address");
  return *object;
}

}  // namespace bittern::c_api
