// Plain operators: elementwise.
#include "plan/plain.h"

namespace bittern::plan {

void add_plain_elementwise(PlainOperators&) {}

}  // namespace bittern::plan
