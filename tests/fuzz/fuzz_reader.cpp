// libFuzzer: the reader alone, container and graph, with the checksum left out.
#include <cstddef>
#include <cstdint>
#include <span>

#include <bittern/error.h>

#include "format/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    bittern::format::read_graph(std::as_bytes(std::span(data, size)), "<bytes>", false);
  } catch (const bittern::Error&) {
    return 0;
  }
  return 0;
}
