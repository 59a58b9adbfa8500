// Damaged and strange files made from good ones. What comes out depends on the corpus, the seed and the index alone.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "container.h"
#include "rng.h"

namespace fuzz {

struct Corpus {
  struct Seed {
    std::string name, bytes;
    Parts parts;
  };
  std::vector<Seed> seeds;
  // Gathered from the graphs, so that operators which the corpus learns are learnt here too.
  std::vector<std::string> operators, attributes, strings, keys;

  // False if the file cannot be taken apart.
  bool add(std::string name, std::string bytes);
  void finish();  // after the last add()
};

struct Mutant {
  std::string bytes;
  std::string story;    // the seed's name and what was done to it
  bool sealed = false;  // the checksum fits
};

Mutant mutate(const Corpus& corpus, std::uint64_t seed, std::uint64_t index);

// One to three structural changes, for other fuzzers. The result is always sealed.
std::string mutate_structure(const Corpus& corpus, const Parts& parts, Rng& rng);

}  // namespace fuzz
