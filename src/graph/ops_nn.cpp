// Operators: nn.
#include "graph/schema.h"

namespace bittern::graph {

void add_nn(Schemas&) {}

}  // namespace bittern::graph
