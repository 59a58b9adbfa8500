#include "container.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

namespace fuzz {
namespace {

struct Crc32 {
  std::uint32_t state = 0xFFFFFFFFu;

  void update(std::string_view bytes) {
    static const std::array<std::uint32_t, 256> table = [] {
      std::array<std::uint32_t, 256> made{};
      for (std::uint32_t byte = 0; byte < 256; ++byte) {
        std::uint32_t remainder = byte;
        for (int bit = 0; bit < 8; ++bit) remainder = (remainder >> 1) ^ ((remainder & 1u) != 0 ? 0xEDB88320u : 0u);
        made[byte] = remainder;
      }
      return made;
    }();
    for (const char c : bytes) state = (state >> 8) ^ table[(state ^ static_cast<unsigned char>(c)) & 0xFFu];
  }
  std::string text() const {
    constexpr char digits[] = "0123456789abcdef";
    const std::uint32_t value = ~state;
    std::string out = "crc32:";
    for (int shift = 28; shift >= 0; shift -= 4) out += digits[value >> shift & 15u];
    return out;
  }
};

std::string joined(const Value* list, char separator) {
  std::string out;
  if (list == nullptr) return out;
  for (std::size_t i = 0; i < list->items.size(); ++i) {
    if (i != 0) out += separator;
    write(list->items[i], out);
  }
  return out;
}

std::string checksum(const Draft& draft) {
  Crc32 crc;
  crc.update(draft.graph);
  std::vector<std::pair<std::string, const Value*>> entries;
  for (std::size_t i = 0; i < draft.header.keys.size(); ++i) {
    if (draft.header.keys[i] != "__metadata__") entries.emplace_back(unescaped(draft.header.keys[i]), &draft.header.items[i]);
  }
  std::sort(entries.begin(), entries.end());
  for (const auto& [name, entry] : entries) {
    const Value* const dtype = entry->find("dtype");
    crc.update(name + ' ' + (dtype == nullptr ? "" : dtype->raw) + " [" + joined(entry->find("shape"), ',') + "] " +
               joined(entry->find("data_offsets"), ' ') + '\n');
  }
  crc.update(draft.data);
  return crc.text();
}

}  // namespace

std::size_t width_of(std::string_view dtype) {
  constexpr std::pair<std::string_view, std::size_t> widths[] = {{"BOOL", 1}, {"U8", 1},  {"I8", 1},   {"U16", 2}, {"I16", 2}, {"U32", 4}, {"I32", 4},
                                                                 {"U64", 8},  {"I64", 8}, {"F16", 2},  {"BF16", 2}, {"F32", 4}, {"F64", 8}};
  for (const auto& [name, width] : widths) {
    if (name == dtype) return width;
  }
  return 0;
}

bool split(std::string_view file, Parts& out) {
  if (file.size() < 8) return false;
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  if (length > file.size() - 8) return false;
  Value header;
  if (!parse(file.substr(8, length), header) || header.kind != Value::Kind::object) return false;
  const std::string_view data = file.substr(8 + length);
  const Value* const metadata = header.find("__metadata__");
  const Value* const graph = metadata == nullptr ? nullptr : metadata->find("graph");
  if (graph == nullptr || !parse(unescaped(graph->raw), out.graph)) return false;
  out.metadata = Value::object();
  for (std::size_t i = 0; i < metadata->keys.size(); ++i) {
    if (metadata->keys[i] != "graph" && metadata->keys[i] != "checksum") out.metadata[metadata->keys[i]] = metadata->items[i];
  }
  for (std::size_t i = 0; i < header.keys.size(); ++i) {
    if (header.keys[i] == "__metadata__") continue;
    const Value& entry = header.items[i];
    const Value *const dtype = entry.find("dtype"), *const shape = entry.find("shape"), *const offsets = entry.find("data_offsets");
    if (dtype == nullptr || shape == nullptr || offsets == nullptr || offsets->items.size() != 2) return false;
    const std::size_t begin = std::strtoull(offsets->items[0].raw.c_str(), nullptr, 10);
    const std::size_t end = std::strtoull(offsets->items[1].raw.c_str(), nullptr, 10);
    if (begin > end || end > data.size()) return false;
    out.leaves.push_back({header.keys[i], dtype->raw, *shape, std::string(data.substr(begin, end - begin))});
  }
  return true;
}

Draft draft(const Parts& parts) {
  Draft result;
  write(parts.graph, result.graph);
  result.header = Value::object();
  result.header["__metadata__"] = parts.metadata;
  for (const Leaf& leaf : parts.leaves) {
    Value entry = Value::object();
    const std::size_t begin = result.data.size();
    result.data += leaf.bytes;
    entry["data_offsets"] = Value::array({Value::atom(std::to_string(begin)), Value::atom(std::to_string(result.data.size()))});
    entry["dtype"] = Value::text(leaf.dtype);
    entry["shape"] = leaf.shape;
    result.header.keys.push_back(leaf.name);
    result.header.items.push_back(std::move(entry));
  }
  return result;
}

std::string assemble(Draft draft, bool seal) {
  if (Value* const metadata = draft.header.find("__metadata__"); metadata != nullptr && metadata->kind == Value::Kind::object) {
    if (metadata->find("graph") == nullptr) (*metadata)["graph"] = Value::text(escaped(draft.graph));
    if (seal) (*metadata)["checksum"] = Value::text(checksum(draft));
  }
  std::string header;
  write(draft.header, header);
  header.append((64 - (8 + header.size()) % 64) % 64, ' ');
  const std::uint64_t length = header.size();
  std::string file(sizeof length, '\0');
  std::memcpy(file.data(), &length, sizeof length);
  return file + header + draft.data;
}

}  // namespace fuzz
