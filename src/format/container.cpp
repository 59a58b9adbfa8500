// The container's rules: header, leaves, metadata, checksum.
#include "format/container.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>

#include <bittern/error.h>

#include "base/checked.h"
#include "format/checksum.h"
#include "format/json.h"
#include "format/problems.h"

namespace bittern::format {

namespace {

struct TypeName {
  const char* name;
  DType type;
  std::size_t bytes;
};

constexpr TypeName type_names[] = {
    {"BOOL", DType::boolean, 1}, {"U8", DType::u8, 1},   {"I8", DType::i8, 1},   {"U16", DType::u16, 2},
    {"I16", DType::i16, 2},      {"U32", DType::u32, 4}, {"I32", DType::i32, 4}, {"U64", DType::u64, 8},
    {"I64", DType::i64, 8},      {"F16", DType::f16, 2}, {"BF16", DType::bf16, 2}, {"F32", DType::f32, 4},
    {"F64", DType::f64, 8},
};

[[noreturn]] void damaged(const std::string& place, std::string problem) {
  throw Error(ErrorCode::format, place, std::move(problem), "it is damaged, or no .bittern file: bittern convert makes one of an ONNX file");
}

// Reads the header's entries; `place` is the file.
class HeaderReader {
 public:
  HeaderReader(std::span<const std::byte> data, const std::string& place) : data_(data), place_(place) {}

  graph::Leaf leaf(const std::string& name, const Json& entry) const {
    const std::string where = place_ + ": leaf " + label(name);
    if (name.empty()) damaged(where, "has no name");
    if (entry.object() == nullptr) damaged(where, std::string("is ") + entry.type_name() + ", not an object");
    for (const JsonMember& member : *entry.object()) {
      if (member.name != "data_offsets" && member.name != "dtype" && member.name != "shape") {
        damaged(where, "unknown key " + quote(member.name) + " (allowed: data_offsets, dtype, shape)");
      }
    }
    graph::Leaf leaf;
    leaf.name = name;
    const std::size_t width = read_type(entry, where, leaf);
    read_shape(entry, where, leaf);
    read_offsets(entry, where, leaf);

    const auto elements = engine::checked_product(leaf.shape);
    const auto bytes = elements ? engine::checked_mul(static_cast<std::size_t>(*elements), width) : std::nullopt;
    if (!bytes) damaged(where, "its shape has too many elements");
    if (*bytes != leaf.bytes) {
      damaged(where, "its shape needs " + std::to_string(*bytes) + " bytes, its offsets give " +
                         std::to_string(leaf.bytes));
    }
    return leaf;
  }

  // Metadata holds strings only; keys that are not ours are ignored.
  void metadata(const Json& entry, Container& out) const {
    const std::string where = place_ + ": __metadata__";
    if (entry.object() == nullptr) damaged(where, std::string("is ") + entry.type_name() + ", not an object");
    for (const JsonMember& member : *entry.object()) {
      if (member.value.string() == nullptr) {
        damaged(where, "the value of " + quote(member.name) + " is " + member.value.type_name() + ", not a string");
      }
    }
    if (const std::string& format = text(entry, "format"); format != "bittern") {
      damaged(where, "format is " + quote(format) + ", not 'bittern'");
    }
    if (const std::string& version = text(entry, "version"); version != "0") {
      throw Error(ErrorCode::unsupported, place_, "format version " + quote(version) + " (this build reads '0')",
                  "install a bittern that reads this version, or write the file again with this one");
    }
    out.checksum = parse_checksum(text(entry, "checksum"), where);
    out.graph = text(entry, "graph");
  }

 private:
  const std::string& text(const Json& metadata, const char* key) const {
    const Json* const value = metadata.find(key);
    if (value == nullptr) damaged(place_ + ": __metadata__", std::string("has no key '") + key + "'");
    return *value->string();
  }

  static std::uint32_t parse_checksum(const std::string& text, const std::string& where) {
    constexpr std::string_view prefix = "crc32:";
    std::uint32_t value = 0;
    bool valid = text.size() == prefix.size() + 8 && text.starts_with(prefix);
    for (std::size_t i = prefix.size(); valid && i < text.size(); ++i) {
      const char c = text[i];
      if (c >= '0' && c <= '9') {
        value = value << 4 | static_cast<std::uint32_t>(c - '0');
      } else if (c >= 'a' && c <= 'f') {
        value = value << 4 | static_cast<std::uint32_t>(c - 'a' + 10);
      } else {
        valid = false;
      }
    }
    if (!valid) damaged(where, "checksum is " + quote(text) + ", not 'crc32:' and eight lower-case hex digits");
    return value;
  }

  static std::size_t read_type(const Json& entry, const std::string& where, graph::Leaf& leaf) {
    const Json* const dtype = entry.find("dtype");
    if (dtype == nullptr || dtype->string() == nullptr) damaged(where, "dtype is missing or not a string");
    for (const TypeName& candidate : type_names) {
      if (*dtype->string() == candidate.name) {
        leaf.dtype = candidate.type;
        return candidate.bytes;
      }
    }
    damaged(where, "unknown dtype " + quote(*dtype->string()));
  }

  static void read_shape(const Json& entry, const std::string& where, graph::Leaf& leaf) {
    const Json* const shape = entry.find("shape");
    if (shape == nullptr || shape->array() == nullptr) damaged(where, "shape is missing or not a list");
    leaf.shape.reserve(shape->array()->size());
    for (const Json& size : *shape->array()) {
      if (size.integer() == nullptr || *size.integer() < 0) damaged(where, "a size that is no non-negative integer");
      leaf.shape.push_back(*size.integer());
    }
  }

  void read_offsets(const Json& entry, const std::string& where, graph::Leaf& leaf) const {
    const Json* const offsets = entry.find("data_offsets");
    if (offsets == nullptr || offsets->array() == nullptr || offsets->array()->size() != 2 ||
        (*offsets->array())[0].integer() == nullptr || (*offsets->array())[1].integer() == nullptr) {
      damaged(where, "data_offsets is missing or not a list of two integers");
    }
    const std::int64_t begin = *(*offsets->array())[0].integer();
    const std::int64_t end = *(*offsets->array())[1].integer();
    if (begin < 0 || end < begin || static_cast<std::uint64_t>(end) > data_.size()) {
      damaged(where, "data_offsets [" + std::to_string(begin) + ", " + std::to_string(end) +
                         "] leave the data section of " + std::to_string(data_.size()) + " bytes");
    }
    leaf.data = data_.data() + begin;
    leaf.bytes = static_cast<std::size_t>(end - begin);
  }

  std::span<const std::byte> data_;
  const std::string& place_;
};

// The leaves stand one after the other, without gap or overlap, and fill the data section.
void check_coverage(const Container& container, const std::string& place) {
  std::vector<const graph::Leaf*> order;
  order.reserve(container.leaves.size());
  for (const graph::Leaf& leaf : container.leaves) order.push_back(&leaf);
  std::sort(order.begin(), order.end(), [](const graph::Leaf* a, const graph::Leaf* b) {
    return a->data != b->data ? a->data < b->data : a->bytes < b->bytes;  // empty leaves first
  });
  const std::byte* end = container.data.data();
  for (const graph::Leaf* leaf : order) {
    if (leaf->data != end) {
      damaged(place + ": leaf " + label(leaf->name), leaf->data < end ? "overlaps another leaf"
                                                                        : "is not contiguous with the leaf before it");
    }
    end += leaf->bytes;
  }
  const auto trailing = container.data.data() + container.data.size() - end;
  if (trailing != 0) damaged(place, std::to_string(trailing) + " bytes after the last leaf");
}

}  // namespace

const char* container_name_of(DType type) noexcept {
  for (const TypeName& candidate : type_names) {
    if (candidate.type == type) return candidate.name;
  }
  return "?";
}

Container read_container(std::span<const std::byte> file, const std::string& place) {
  if (file.size() < 8) damaged(place, "only " + std::to_string(file.size()) + " bytes long, too short for any header");
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8; ++i) length |= std::to_integer<std::uint64_t>(file[i]) << (8 * i);
  if (length > max_header_bytes) {
    damaged(place, "the header's length is " + std::to_string(length) + " bytes (at most " +
                       std::to_string(max_header_bytes) + ")");
  }
  if (length > file.size() - 8) {
    damaged(place, "the header's length is " + std::to_string(length) + " bytes, the file has " +
                       std::to_string(file.size() - 8) + " left");
  }
  const auto header_bytes = file.subspan(8, length);
  const std::string_view header_text(reinterpret_cast<const char*>(header_bytes.data()), header_bytes.size());
  if (!header_text.starts_with('{')) damaged(place, "the header is no JSON object");
  // Padding is spaces; whatever else stands behind the object is damage that a lenient parser would pass over.
  const std::size_t end = header_text.find_last_not_of(' ');
  if (end == std::string_view::npos || header_text[end] != '}') damaged(place, "its header does not end with the JSON object");
  const Json header = parse_json(header_text, place + ": header");

  Container container;
  container.data = file.subspan(8 + header_bytes.size());
  const HeaderReader reader(container.data, place);
  // Metadata first: a file of another kind or version should be told apart from a damaged one.
  const Json* const metadata = header.find("__metadata__");
  if (metadata == nullptr) damaged(place, "has no __metadata__, so it is no bittern file");
  reader.metadata(*metadata, container);
  container.leaves.reserve(header.object()->size() - 1);
  for (const JsonMember& member : *header.object()) {
    if (member.name != "__metadata__") container.leaves.push_back(reader.leaf(member.name, member.value));
  }
  std::sort(container.leaves.begin(), container.leaves.end(),
            [](const graph::Leaf& a, const graph::Leaf& b) { return a.name < b.name; });
  check_coverage(container, place);
  return container;
}

void verify_checksum(const Container& container, const std::string& place) {
  Crc32 crc;
  crc.update(container.graph);
  for (const graph::Leaf& leaf : container.leaves) {
    const auto begin = leaf.data - container.data.data();
    std::string line = leaf.name + ' ' + container_name_of(leaf.dtype) + " [";
    for (std::size_t i = 0; i < leaf.shape.size(); ++i) {
      if (i != 0) line += ',';
      line += std::to_string(leaf.shape[i]);
    }
    line += "] " + std::to_string(begin) + ' ' + std::to_string(begin + static_cast<std::ptrdiff_t>(leaf.bytes)) + '\n';
    crc.update(line);
  }
  crc.update(container.data);
  if (crc.value() != container.checksum) damaged(place, "its checksum does not match: some bytes have changed");
}

}  // namespace bittern::format
