// libFuzzer: a file as far as it goes, with the checksum left out. Half of the mutations know the format.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "exercise.h"
#include "mutator.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t seed = size;
  for (std::size_t i = 0; i < size; i += 97) seed = seed * 31 + data[i];
  fuzz::Rng rng(seed, 0);
  fuzz::exercise(std::as_bytes(std::span(data, size)), false, rng, [](fuzz::Phase) {});
  return 0;
}

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t room);

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t room, unsigned seed) {
  fuzz::Rng rng(seed, size);
  fuzz::Corpus corpus;  // of this file alone
  if (rng.chance(50) && corpus.add("", std::string(reinterpret_cast<const char*>(data), size))) {
    corpus.finish();
    const std::string changed = fuzz::mutate_structure(corpus, corpus.seeds.front().parts, rng);
    if (changed.size() <= room) {
      std::memcpy(data, changed.data(), changed.size());
      return changed.size();
    }
  }
  return LLVMFuzzerMutate(data, size, room);
}
