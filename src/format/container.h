// The container: from the bytes of a file to named leaves and the text of the graph.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "graph/encoding.h"

namespace bittern::format {

inline constexpr std::size_t max_header_bytes = std::size_t{16} << 20;

struct Container {
  std::string graph;                // JSON text
  std::uint32_t checksum = 0;       // as the file states it
  std::vector<graph::Leaf> leaves;  // by name, in code-point order; they point into the bytes
  std::span<const std::byte> data;  // the data section
};

// Checks everything but the checksum. Throws Error: format for damage, unsupported for another version.
Container read_container(std::span<const std::byte> file, const std::string& place);

// Throws Error (format) if graph, leaves or data differ from what was written.
void verify_checksum(const Container& container, const std::string& place);

// "F32" and so on: the container's names of element types.
const char* container_name_of(DType type) noexcept;

}  // namespace bittern::format
