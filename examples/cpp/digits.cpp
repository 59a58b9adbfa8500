#include <bittern/bittern.h>

#include <cstdio>
#include <vector>

int main() {
  try {
    const bittern::Model model = bittern::Model::load("small.bittern");  // immutable, shared between threads
    bittern::Session session(model, {.threads = 1});                     // scratch memory; one per caller
    const std::vector<float> image(64);
    std::vector<float> scores(10);
    session.run({bittern::view(image.data(), {1, 1, 8, 8})}, {bittern::view(scores.data(), {1, 10})});
    for (const float score : scores) std::printf("%g\n", score);
    return 0;
  } catch (const bittern::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());  // place: problem; remedy
    return 2;
  }
}
