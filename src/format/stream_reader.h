// Nodes that are streams of integers.
#pragma once

#include "format/node_reader.h"

namespace bittern::format {

// Each fills in the node, or adds a problem and returns false. Whether the streams decode is seen when they are decoded.
bool read_packed(NodeReader& reader, const NodeReader::At& at, graph::Encoding& tree);
bool read_trits(NodeReader& reader, const NodeReader::At& at, graph::Encoding& tree);
bool read_separable_signs(NodeReader& reader, const NodeReader::At& at, graph::Encoding& tree);
bool read_seeded(NodeReader& reader, const NodeReader::At& at, graph::Encoding& tree);
bool read_huffman(NodeReader& reader, const NodeReader::At& at, graph::Encoding& tree);

bool read_rans(NodeReader& reader, const NodeReader::At& at, graph::Encoding& tree);

}  // namespace bittern::format
