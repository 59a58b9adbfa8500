// Changes of leaves: their bytes, types, sizes.
#include <cstring>

#include "surgeon.h"

namespace fuzz {

bool Surgeon::count_of(const Value& shape, std::size_t& count) {
  count = 1;
  for (const Value& size : shape.items) {
    if (!size.is_number() || size.raw[0] == '-' || size.raw.size() > 7) return false;
    count *= std::strtoull(size.raw.c_str(), nullptr, 10);
    if (count > largest_file) return false;
  }
  return true;
}

void Surgeon::resize() {
  std::vector<std::string> sizes;
  std::vector<Value*> shapes;
  for (Value* const value : all_of(parts_.graph)) {
    for (std::size_t i = 0; i < value->keys.size(); ++i) {
      if (value->keys[i] == "shape" && value->items[i].kind == Kind::array) shapes.push_back(&value->items[i]);
    }
  }
  for (Leaf& leaf : parts_.leaves) shapes.push_back(&leaf.shape);
  for (const Value* shape : shapes) {
    for (const Value& size : shape->items) {
      if (size.is_number()) sizes.push_back(size.raw);
    }
  }
  if (sizes.empty()) return;
  static constexpr const char* news[] = {"1", "2", "3", "4", "5", "7", "8", "9", "15", "16", "17", "24", "31", "32", "33", "48", "64", "0"};
  const std::string from = rng_.pick(sizes), to = rng_.pick(news);
  for (Value* const shape : shapes) {
    for (Value& size : shape->items) {
      if (size.is_number() && size.raw == from) size.raw = to;
    }
  }
  for (Leaf& leaf : parts_.leaves) fit(leaf);
}

// As many bytes as the shape says, if that is not much.
void Surgeon::fit(Leaf& leaf) {
  std::size_t count = 0;
  const std::size_t width = width_of(leaf.dtype);
  if (!count_of(leaf.shape, count) || count * width > largest_file || leaf.bytes.size() == count * width) return;
  const std::string old = leaf.bytes;
  leaf.bytes.resize(count * width);
  if (old.empty()) return;
  for (std::size_t i = old.size(); i < leaf.bytes.size(); ++i) leaf.bytes[i] = old[i % old.size()];
}

void Surgeon::reshape_leaf() {
  Leaf* const leaf = a_leaf();
  std::size_t count = 0;
  if (leaf == nullptr) return;
  if (rng_.chance(40) || !count_of(leaf->shape, count)) {
    std::vector<Value>& sizes = leaf->shape.items;
    if (sizes.empty() || rng_.chance(30)) {
      sizes.push_back(Value::atom(rng_.chance(60) ? "1" : number(rng_)));
    } else {
      sizes[rng_.below(sizes.size())] = Value::atom(rng_.chance(60) ? std::to_string(rng_.below(40)) : number(rng_));
    }
    if (rng_.chance(70)) fit(*leaf);
    return;
  }
  // The same elements in another shape.
  std::vector<Value> sizes;
  while (count > 1 && sizes.size() < 9) {
    std::size_t factor = 2;
    while (count % factor != 0) ++factor;
    if (rng_.chance(50)) factor = count;
    sizes.push_back(Value::atom(std::to_string(factor)));
    count /= factor;
  }
  if (rng_.chance(20)) sizes.insert(sizes.begin(), Value::atom("1"));
  leaf->shape = Value::array(std::move(sizes));
}

void Surgeon::change_dtype() {
  Leaf* const leaf = a_leaf();
  if (leaf == nullptr) return;
  if (rng_.chance(30)) {
    Value* const value = choose([](const Value& v) { return v.kind == Kind::object && v.find("dtype") != nullptr; });
    if (value != nullptr) (*value)["dtype"] = Value::text(rng_.pick(graph_dtypes));
    return;
  }
  leaf->dtype = rng_.pick(dtypes);
  if (rng_.chance(80)) fit(*leaf);
}

void Surgeon::change_bytes() {
  Leaf* const leaf = a_leaf();
  if (leaf == nullptr || leaf->bytes.empty()) return;
  std::string& bytes = leaf->bytes;
  const std::size_t width = std::max<std::size_t>(1, width_of(leaf->dtype));
  switch (rng_.below(6)) {
    case 0:
      for (std::size_t n = rng_.below(8) + 1; n > 0; --n) {
        char& byte = bytes[rng_.below(bytes.size())];
        byte = static_cast<char>(static_cast<unsigned char>(byte) ^ (1u << rng_.below(8)));
      }
      return;
    case 1:
      for (std::size_t n = rng_.below(8) + 1; n > 0; --n) bytes[rng_.below(bytes.size())] = static_cast<char>(rng_.below(256));
      return;
    case 2: {  // an extreme element: the least and largest numbers of any type, NaN, infinities, subnormals
      static constexpr std::uint64_t extremes[] = {0, 1, 0xFFFFFFFFFFFFFFFFu, 0x8000000080008080u, 0x7FFFFFFFFFFFFFFFu, 0x7F8000007F800000u,
                                                   0xFF800000FF800000u,
                                                   0x7FC000007FC00000u, 0x0000000100000001u, 0x7C007C007C007C00u, 0x7F7FFFFF7F7FFFFFu,
                                                   0x0101010101010101u,
                                                   0x4B8000004B800000u};
      const std::uint64_t word = rng_.pick(extremes);
      for (std::size_t n = rng_.below(4) + 1; n > 0; --n) {
        const std::size_t at = rng_.below(bytes.size() / width + 1) * width;
        if (at + width <= bytes.size()) std::memcpy(bytes.data() + at, &word, std::min<std::size_t>(width, 8));
      }
      return;
    }
    case 3: {
      const auto byte = static_cast<char>(rng_.chance(50) ? 0 : rng_.below(256));
      std::fill(bytes.begin(), bytes.end(), byte);
      return;
    }
    case 4: {  // fewer or more bytes; often the shape follows
      const auto padding = static_cast<char>(rng_.below(256));
      const bool less = rng_.chance(50);
      bytes.resize(less ? rng_.below(bytes.size()) : std::min(largest_file, bytes.size() + rng_.below(2 * bytes.size() + 8)), padding);
      if (rng_.chance(70) && leaf->shape.items.size() == 1) leaf->shape.items[0] = Value::atom(std::to_string(bytes.size() / width));
      return;
    }
    default:
      for (char& byte : bytes) byte = static_cast<char>(rng_.below(256));
  }
}

}  // namespace fuzz
