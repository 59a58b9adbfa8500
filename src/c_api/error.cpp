// Error objects of the C interface.
#include "c_api/error.h"

#include <exception>
#include <new>
#include <string>

// What the caller sees; `message` and the others point into an Owned, or to constants.
struct bittern_error {
  bittern_code code;
  const char *message, *place, *problem, *remedy;
};

namespace {

struct Owned : bittern_error {
  Owned(bittern_code number, const bittern::Error& error) : bittern_error{number, "", "", "", ""}, cause(error) {
    message = cause.what();
    place = cause.place().c_str();
    problem = cause.problem().c_str();
    remedy = cause.remedy().c_str();
  }
  bittern::Error cause;
};

constexpr bittern_code code_of(bittern::ErrorCode code) { return static_cast<bittern_code>(code) + 1; }
static_assert(code_of(bittern::ErrorCode::format) == BITTERN_ERROR_FORMAT);
static_assert(code_of(bittern::ErrorCode::unsupported) == BITTERN_ERROR_UNSUPPORTED);
static_assert(code_of(bittern::ErrorCode::input) == BITTERN_ERROR_INPUT);
static_assert(code_of(bittern::ErrorCode::resource) == BITTERN_ERROR_RESOURCE);
static_assert(code_of(bittern::ErrorCode::io) == BITTERN_ERROR_IO);

// Told when there is no memory to tell anything else: exists from the start and is never freed.
constinit bittern_error no_memory{BITTERN_ERROR_RESOURCE, "memory: not enough; use smaller inputs or free some", "memory", "not enough",
                                  "use smaller inputs or free some"};

bittern_code give(bittern_error** error, bittern_code code, const bittern::Error& cause) {
  if (error != nullptr) *error = new Owned(code, cause);
  return code;
}

bittern::Error internal(const char* what) {
  return {bittern::ErrorCode::unsupported, "bittern", std::string("unexpected: ") + what, "this is a mistake of the library, please report it"};
}

}  // namespace

namespace bittern::c_api {

bittern_code report(bittern_error** error) noexcept {
  try {
    try {
      throw;
    } catch (const Error& cause) {
      return give(error, code_of(cause.code()), cause);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& cause) {
      return give(error, BITTERN_ERROR_INTERNAL, internal(cause.what()));
    } catch (...) {
      return give(error, BITTERN_ERROR_INTERNAL, internal("an unknown exception"));
    }
  } catch (...) {  // no memory, perhaps not even for the message
    if (error != nullptr) *error = &no_memory;
    return BITTERN_ERROR_RESOURCE;
  }
}

}  // namespace bittern::c_api

bittern_code bittern_error_code(const bittern_error* error) { return error != nullptr ? error->code : BITTERN_OK; }
const char* bittern_error_message(const bittern_error* error) { return error != nullptr ? error->message : ""; }
const char* bittern_error_place(const bittern_error* error) { return error != nullptr ? error->place : ""; }
const char* bittern_error_problem(const bittern_error* error) { return error != nullptr ? error->problem : ""; }
const char* bittern_error_remedy(const bittern_error* error) { return error != nullptr ? error->remedy : ""; }
void bittern_error_free(bittern_error* error) {
  if (error != &no_memory) delete static_cast<Owned*>(error);
}
