#include "runtime/options.h"

#include <cstdlib>

#include <bittern/error.h>

#include "base/cpu_features.h"

namespace bittern::runtime {

engine::Isa choose_isa(const std::string& asked) {
  std::string name = asked, place = "isa";
  if (name.empty()) {
    if (const char* forced = std::getenv("BITTERN_ISA"); forced != nullptr && *forced != '\0') {
      name = forced;
      place = "BITTERN_ISA";
    }
  }
  if (name.empty()) return engine::best_isa();
  std::string usable;
  for (int level = 0; level < engine::isa_count; ++level) {
    if (!engine::isa_usable(static_cast<engine::Isa>(level))) continue;
    usable += (usable.empty() ? "" : ", ") + std::string(engine::name_of(static_cast<engine::Isa>(level)));
  }
  engine::Isa isa{};
  if (!engine::parse_isa(name, isa)) throw Error(ErrorCode::input, place, "unknown level " + name, "usable here: " + usable);
  if (!engine::isa_usable(isa)) {
    throw Error(ErrorCode::input, place, name + (engine::isa_built(isa) ? " is not supported by this machine" : " is not part of this build"),
                "usable here: " + usable);
  }
  return isa;
}

}  // namespace bittern::runtime
