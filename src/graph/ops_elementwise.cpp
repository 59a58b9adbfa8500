// Operators: elementwise.
#include "graph/schema.h"

namespace bittern::graph {

void add_elementwise(Schemas&) {}

}  // namespace bittern::graph
