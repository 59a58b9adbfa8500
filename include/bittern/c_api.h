// The library for C, and for every language that can call C. docs/embedding.md shows it at work.
//
// * A function that can fail returns a code, BITTERN_OK if all went well, and takes `error` last. Unless that is NULL, *error
//   becomes NULL at success and an object to free with bittern_error_free at failure.
// * NULL where an object is needed, wrong sizes and unknown numbers are errors (BITTERN_ERROR_INPUT). Where no code is
//   returned they give NULL, 0 or "". Freeing NULL does nothing.
// * Strings are UTF-8 and end with a zero. What a function returns belongs to the object it was asked of.
// * A model may be used by many threads at once, a session by one at a time: make one per thread. Two objects never
//   disturb each other. No C++ exception leaves the library.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <bittern/export.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bittern_model bittern_model;      // a loaded network: immutable
typedef struct bittern_session bittern_session;  // what it takes to run one: plans and scratch memory
typedef struct bittern_error bittern_error;      // why a call failed

typedef int32_t bittern_code;
enum {
  BITTERN_OK = 0,
  BITTERN_ERROR_FORMAT = 1,       // the file is damaged or not a bittern file
  BITTERN_ERROR_UNSUPPORTED = 2,  // valid, but this build cannot run it
  BITTERN_ERROR_INPUT = 3,        // a wrong argument: name, shape, dtype, option
  BITTERN_ERROR_RESOURCE = 4,     // a limit on memory or threads
  BITTERN_ERROR_IO = 5,           // the operating system refused
  BITTERN_ERROR_INTERNAL = 6      // a mistake of the library
};

typedef int32_t bittern_dtype;
enum {
  BITTERN_F32 = 0,
  BITTERN_F16 = 1,
  BITTERN_BF16 = 2,
  BITTERN_F64 = 3,
  BITTERN_I8 = 4,
  BITTERN_U8 = 5,
  BITTERN_I16 = 6,
  BITTERN_U16 = 7,
  BITTERN_I32 = 8,
  BITTERN_U32 = 9,
  BITTERN_I64 = 10,
  BITTERN_U64 = 11,
  BITTERN_BOOL = 12  // one byte, 0 or 1
};

typedef int32_t bittern_checksum;
enum {
  BITTERN_CHECKSUM_EAGER = 0,  // verified at load
  BITTERN_CHECKSUM_LAZY = 1,   // when the first plan is made
  BITTERN_CHECKSUM_SKIP = 2    // never
};

// Options: set `size`, leave what you do not care about zero, and later versions may add fields at the end:
//   bittern_load_options options = {.size = sizeof options, .memory_limit = 64 << 20};
typedef struct bittern_load_options {
  size_t size;                // sizeof(bittern_load_options)
  const char* isa;            // highest instruction-set level to use; NULL: that of BITTERN_ISA, else the best here
  const char* device;         // NULL: "cpu"
  uint64_t memory_limit;      // bytes for weights and scratch; 0: what the machine grants
  bittern_checksum checksum;  // when to verify the file's checksum
  int32_t no_winograd;        // not 0: no Winograd convolution, which is faster and rounds more
} bittern_load_options;

typedef struct bittern_session_options {
  size_t size;      // sizeof(bittern_session_options)
  int32_t threads;  // at most so many, the caller's included; 0: all CPUs granted to the process
} bittern_session_options;

typedef struct bittern_shape {
  const int64_t* sizes;
  int32_t rank;  // of them
} bittern_shape;

// An input or output of a network.
typedef struct bittern_value {
  const char* name;
  bittern_dtype dtype;
  int32_t rank;
  const int64_t* sizes;        // `rank` of them; -1 where the size is free, as a batch often is
  const char* const* symbols;  // one per size: the symbol that stands for a free size, NULL for a known one
} bittern_value;

// An array to read from. It is never written to, and not kept after the call.
typedef struct bittern_const_view {
  const void* data;
  const int64_t* sizes;    // `rank` of them
  const int64_t* strides;  // in bytes, `rank` of them, may be zero or negative; NULL: C order
  int32_t rank;
  bittern_dtype dtype;
} bittern_const_view;

// An array to write to.
typedef struct bittern_view {
  void* data;
  const int64_t* sizes;
  const int64_t* strides;
  int32_t rank;
  bittern_dtype dtype;
} bittern_view;

// The library's version, such as "0.1.0".
BITTERN_EXPORT const char* bittern_version(void);

// Bytes of one element, 0 for an unknown dtype; and its name: "f32", ..., "bool", or "unknown".
BITTERN_EXPORT size_t bittern_dtype_size(bittern_dtype dtype);
BITTERN_EXPORT const char* bittern_dtype_name(bittern_dtype dtype);

// The kind of failure; BITTERN_OK for NULL.
BITTERN_EXPORT bittern_code bittern_error_code(const bittern_error* error);
// "place: problem; remedy" in one line.
BITTERN_EXPORT const char* bittern_error_message(const bittern_error* error);
// The three parts: a file, layer or argument; what was found and what is allowed; what to do, or "".
BITTERN_EXPORT const char* bittern_error_place(const bittern_error* error);
BITTERN_EXPORT const char* bittern_error_problem(const bittern_error* error);
BITTERN_EXPORT const char* bittern_error_remedy(const bittern_error* error);
BITTERN_EXPORT void bittern_error_free(bittern_error* error);

// Load a file. `options` may be NULL. *model is NULL after a failure; free it with bittern_model_free.
BITTERN_EXPORT bittern_code bittern_load(const char* path, const bittern_load_options* options, bittern_model** model, bittern_error** error);
// Load a file that is in memory already; the bytes are copied. `place` names them in messages and may be NULL.
BITTERN_EXPORT bittern_code bittern_load_bytes(const void* bytes, size_t size, const char* place, const bittern_load_options* options,
                                               bittern_model** model, bittern_error** error);
// Sessions of the model may outlive it: they keep what they need.
BITTERN_EXPORT void bittern_model_free(bittern_model* model);

// The network's name; the instruction-set level it runs on here; bytes that it and its sessions take in memory so far.
BITTERN_EXPORT const char* bittern_model_name(const bittern_model* model);
BITTERN_EXPORT const char* bittern_model_isa(const bittern_model* model);
BITTERN_EXPORT uint64_t bittern_model_bytes(const bittern_model* model);
// What the file says about itself. The value of a key, or NULL; the keys, sorted, and NULL after the last.
BITTERN_EXPORT const char* bittern_model_metadata(const bittern_model* model, const char* key);
BITTERN_EXPORT const char* bittern_model_metadata_key(const bittern_model* model, size_t index);
// Inputs and outputs in the network's order; NULL after the last.
BITTERN_EXPORT size_t bittern_model_input_count(const bittern_model* model);
BITTERN_EXPORT size_t bittern_model_output_count(const bittern_model* model);
BITTERN_EXPORT const bittern_value* bittern_model_input(const bittern_model* model, size_t index);
BITTERN_EXPORT const bittern_value* bittern_model_output(const bittern_model* model, size_t index);

// A session of the model. `options` may be NULL. *session is NULL after a failure; free it with bittern_session_free.
BITTERN_EXPORT bittern_code bittern_session_new(const bittern_model* model, const bittern_session_options* options, bittern_session** session,
                                                bittern_error** error);
BITTERN_EXPORT void bittern_session_free(bittern_session* session);

// Make the plan for inputs of these shapes, one per input of the model; afterwards bittern_session_output tells the sizes
// of the outputs. Not needed before bittern_run, which does it by itself. A network whose output sizes depend on the *values*
// of integer inputs cannot be prepared so: bittern_run plans for it.
BITTERN_EXPORT bittern_code bittern_session_prepare(bittern_session* session, const bittern_shape* inputs, size_t input_count, bittern_error** error);
// Outputs as the last successful bittern_session_prepare found them, sizes all known; NULL after the last. They hold until
// the next bittern_session_prepare.
BITTERN_EXPORT size_t bittern_session_output_count(const bittern_session* session);
BITTERN_EXPORT const bittern_value* bittern_session_output(const bittern_session* session, size_t index);

// Run the network: inputs in the order of the model's, outputs likewise, each of the shape and dtype that the network
// gives it. Allocates nothing after the first run with inputs of the same shapes, if arrays are in C order.
BITTERN_EXPORT bittern_code bittern_run(bittern_session* session, const bittern_const_view* inputs, size_t input_count, const bittern_view* outputs,
                                        size_t output_count, bittern_error** error);

#ifdef __cplusplus
}
#endif
