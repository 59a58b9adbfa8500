// The parts of the elementwise family, one per file.
#pragma once

#include "plan/plain.h"

namespace bittern::plan {

void add_plain_unary(PlainOperators& operators);
void add_plain_binary(PlainOperators& operators);
void add_plain_cast(PlainOperators& operators);
void add_plain_reduce(PlainOperators& operators);
void add_plain_along_axis(PlainOperators& operators);

}  // namespace bittern::plan
