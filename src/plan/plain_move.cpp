// Plain operators: move.
#include "plan/plain.h"

namespace bittern::plan {

void add_plain_move(PlainOperators&) {}

}  // namespace bittern::plan
