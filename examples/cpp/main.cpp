// Classify a picture: classify MODEL.bittern IMAGE.ppm [LABELS.txt]
//
// The picture is a binary PPM, or a PGM for a network with one channel, of exactly the network's size: nothing is resized
// here. Its pixels become numbers as the file's `preprocess` metadata says. LABELS.txt has one name per line.
#include <bittern/bittern.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct Picture {
  std::int64_t width = 0, height = 0, channels = 0;
  std::vector<unsigned char> pixels;  // rows from the top, channels together
};

// The next number of a PPM header; a comment runs from # to the end of its line.
std::int64_t header_number(std::istream& file) {
  std::int64_t number = 0;
  while ((file >> std::ws).peek() == '#') file.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  file >> number;
  return number;
}

Picture read_picture(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be read");
  std::string kind;
  file >> kind;
  Picture picture;
  picture.channels = kind == "P5" ? 1 : 3;
  picture.width = header_number(file);
  picture.height = header_number(file);
  const std::int64_t maximum = header_number(file), largest = 1 << 14;
  const auto sensible = [&](std::int64_t side) { return side >= 1 && side <= largest; };
  if (!file || (kind != "P5" && kind != "P6") || maximum != 255 || !sensible(picture.width) || !sensible(picture.height)) {
    throw std::runtime_error(path + ": is no binary PPM or PGM with 8 bits per channel");
  }
  file.get();  // the one white space after the header
  picture.pixels.resize(static_cast<std::size_t>(picture.width * picture.height * picture.channels));
  file.read(reinterpret_cast<char*>(picture.pixels.data()), static_cast<std::streamsize>(picture.pixels.size()));
  if (!file) throw std::runtime_error(path + ": ends too early");
  return picture;
}

// A setting of `preprocess`, such as "mean":[104,117,123], one number per channel. The object holds nothing but such
// settings, so a search is enough; a program that has a JSON library would use that.
std::vector<float> setting(const std::string& preprocess, const std::string& key, std::int64_t channels, float otherwise) {
  std::vector<float> numbers;
  if (const std::size_t found = preprocess.find('"' + key + '"'); found != std::string::npos) {
    const char* next = preprocess.c_str() + preprocess.find_first_not_of(": [", found + key.size() + 2);
    for (char* end = nullptr;; next = end + (*end == ',' ? 1 : 0)) {
      const double number = std::strtod(next, &end);
      if (end == next) break;
      numbers.push_back(static_cast<float>(number));
    }
  }
  numbers.resize(static_cast<std::size_t>(channels), numbers.empty() ? otherwise : numbers.back());
  return numbers;
}

// One number per channel and pixel, channel by channel: (pixel * scale - mean) / std.
std::vector<float> network_input(const Picture& picture, const std::string& preprocess) {
  const auto scale = setting(preprocess, "scale", picture.channels, 1), mean = setting(preprocess, "mean", picture.channels, 0);
  const auto deviation = setting(preprocess, "std", picture.channels, 1);
  const bool reversed = preprocess.find("\"BGR\"") != std::string::npos;
  const auto channels = static_cast<std::size_t>(picture.channels);
  std::vector<float> input;
  for (std::size_t channel = 0; channel < channels; ++channel) {
    const std::size_t first = reversed ? channels - 1 - channel : channel;
    for (std::size_t i = first; i < picture.pixels.size(); i += channels) {
      input.push_back((static_cast<float>(picture.pixels[i]) * scale[channel] - mean[channel]) / deviation[channel]);
    }
  }
  return input;
}

// Scores as shares of 1. Many networks do this themselves; then nothing is left to do.
std::vector<double> probabilities(const std::vector<float>& scores) {
  std::vector<double> shares(scores.begin(), scores.end());
  const double largest = *std::max_element(shares.begin(), shares.end()), smallest = *std::min_element(shares.begin(), shares.end());
  if (smallest >= 0 && std::abs(std::accumulate(shares.begin(), shares.end(), 0.0) - 1) < 1e-3) return shares;
  double sum = 0;
  for (double& share : shares) sum += share = std::exp(share - largest);
  for (double& share : shares) share /= sum;
  return shares;
}

void classify(const std::string& network, const std::string& image, const std::string& names) {
  const bittern::Model model = bittern::Model::load(network);
  const Picture picture = read_picture(image);
  const bittern::Shape shape{1, picture.channels, picture.height, picture.width};
  const auto entry = model.metadata().find("preprocess");
  const std::string preprocess = entry != model.metadata().end() ? entry->second : "";
  if (preprocess.find("\"NHWC\"") != std::string::npos) throw std::runtime_error(network + ": wants channels last, which this example cannot do");

  bittern::Session session(model);
  const bittern::ValueInfo output = session.prepare({shape}).outputs.at(0);  // a picture of the wrong size is refused here
  bittern::Shape output_shape;
  for (const bittern::Dimension& dimension : output.shape) output_shape.push_back(dimension.value);
  std::size_t classes = 1;
  for (const std::int64_t size : output_shape) classes *= static_cast<std::size_t>(size);
  if (classes == 0) throw std::runtime_error(network + ": gives no classes");

  const std::vector<float> input = network_input(picture, preprocess);
  std::vector<float> scores(classes);
  session.run({bittern::view(input.data(), shape)}, {bittern::view(scores.data(), output_shape)});

  std::vector<std::string> labels;
  std::ifstream file(names);
  for (std::string line; std::getline(file, line);) labels.push_back(line);
  std::vector<std::size_t> order(classes);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  const std::vector<double> shares = probabilities(scores);
  for (std::size_t i = 0; i < std::min<std::size_t>(5, classes); ++i) {
    const std::size_t best = order[i];
    const char* label = best < labels.size() ? labels[best].c_str() : "";
    std::printf("%8.4f %%  %.9g  %zu  %s\n", 100 * shares[best], static_cast<double>(scores[best]), best, label);
  }
}

}  // namespace

int main(int count, char** words) {
  if (count != 3 && count != 4) {
    std::fprintf(stderr, "usage: classify MODEL.bittern IMAGE.ppm [LABELS.txt]\n");
    return 2;
  }
  try {
    classify(words[1], words[2], count == 4 ? words[3] : "");
    return 0;
  } catch (const std::exception& error) {  // bittern::Error tells place, problem and remedy
    std::fprintf(stderr, "classify: %s\n", error.what());
    return 2;
  }
}
