// Plain operators: nn.
#include "plan/plain.h"

namespace bittern::plan {

void add_plain_nn(PlainOperators&) {}

}  // namespace bittern::plan
