#include "plan/builder.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <map>
#include <set>

#include <bittern/error.h>

#include "bgemm/bit_maps.h"
#include "ops/plain.h"
#include "plan/plain.h"
#include "registry.h"

namespace bittern::plan {

using engine::make_map;
using engine::Map;

namespace {

Map planar_map(const Shape& any) {
  const Shape shape = graph::map_shape(any);
  return shape.size() == 4 ? make_map(shape[0], shape[1], shape[2], shape[3], 1) : Map{};
}

// Memory is counted in floats whatever the type.
std::uint64_t floats_of(const graph::ValueType& type) { return (static_cast<std::uint64_t>(bytes_of(type)) + sizeof(float) - 1) / sizeof(float); }

std::int64_t rows_of(const Shape& shape) {
  std::int64_t rows = 1;
  for (std::size_t d = 0; d + 1 < shape.size(); ++d) rows *= shape[d];
  return rows;
}

// Integers in their own type; the host is little endian.
void narrow(const std::vector<std::int64_t>& values, DType type, std::byte* out) {
  const std::size_t size = size_of(type);
  for (const std::int64_t value : values) {
    std::memcpy(out, &value, size);
    out += size;
  }
}

}  // namespace

std::string layout_name(const Map& map) {
  std::string name = map.block == 1 ? "planar" : "c" + std::to_string(map.block);
  if (map.has_halo()) {
    name += " halo " + std::to_string(map.top) + "," + std::to_string(map.left) + "," + std::to_string(map.bottom) + "," + std::to_string(map.right);
  }
  return name;
}

Builder::Builder(const Source& source, const Types& types, const std::vector<std::string>& outputs) : source_(source), types_(types) {
  for (std::size_t i = 0; i < source.graph->inputs.size(); ++i) {
    const graph::ValueInfo& input = source.graph->inputs[i];
    values_[input.name].planar = Storage{{Place::Kind::input, static_cast<int>(i), 0, nullptr}, planar_map(shape(input.name))};
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) output_index_.emplace(outputs[i], static_cast<int>(i));
}

std::int64_t Builder::count(const std::string& value) const { return graph::element_count(shape(value), value); }

void Builder::ask_halo(const std::string& value, const graph::Window& window) {
  const auto part = in_place_.find(value);
  Value& v = values_[part != in_place_.end() ? part->second.whole : value];
  v.top = std::max(v.top, window.pad_top);
  v.left = std::max(v.left, window.pad_left);
  v.bottom = std::max(v.bottom, window.pad_bottom);
  v.right = std::max(v.right, window.pad_right);
}

void Builder::concatenate_in_place(const std::string& part, const std::string& whole, std::int64_t first_channel) {
  in_place_[part] = {whole, first_channel};
}

bool Builder::has_blocked(const std::string& value) const {
  const auto found = values_.find(value);
  return found != values_.end() && found->second.blocked.has_value();
}

bool Builder::has_planar(const std::string& value) const {
  const auto found = values_.find(value);
  return found != values_.end() && found->second.planar.has_value();
}

Storage Builder::planar(const std::string& value) {
  Value& v = values_[value];
  if (!v.planar) {
    if (v.codes) {
      separate(value);
    } else if (v.blocked) {
      const Storage from = *v.blocked;
      begin_reorder(value);
      emit_reorder(from, make_planar(value));
    } else {
      const float* data = type(value).known != nullptr && !source_.constants->has(value) ? known(value) : constant(value);
      v.planar = Storage{{Place::Kind::constant, 0, 0, data}, planar_map(shape(value))};
    }
  }
  return *v.planar;
}

// Decoded once, shared by all plans.
const float* Builder::constant(const std::string& value) {
  const graph::ValueType& t = type(value);
  return weights("constant" + key_part(value), static_cast<std::int64_t>(floats_of(t)), source_.place + ": constant " + value, [&](float* out) {
    if (t.dtype == DType::f32) {
      const auto floats = source_.constants->floats(value);
      std::copy(floats.begin(), floats.end(), out);
    } else {
      narrow(source_.constants->integers(value), t.dtype, reinterpret_cast<std::byte*>(out));
    }
  });
}

// Follows from shapes: belongs to this plan.
const float* Builder::known(const std::string& value) {
  const std::vector<std::byte>& bytes = *type(value).known;
  auto buffer = std::make_shared<engine::AlignedBuffer>(std::max<std::size_t>(1, bytes.size()));
  std::copy(bytes.begin(), bytes.end(), buffer->as<std::byte>());
  plan_.weights.push_back(std::move(buffer));
  return plan_.weights.back()->as<float>();
}

Storage Builder::blocked(const std::string& value) {
  if (!has_blocked(value)) {
    const Storage from = planar(value);
    begin_reorder(value);
    emit_reorder(from, make_blocked(value));
  }
  return *values_[value].blocked;
}

Storage Builder::planar_with_halo(const std::string& value, const graph::Window& win) {
  const Shape s = map_shape(value);
  const Storage from = planar(value);
  begin_reorder(value);
  check_map(s, win.pad_top + win.pad_bottom, win.pad_left + win.pad_right);
  const Storage to = allocate_map(make_map(s[0], s[1], s[2], s[3], 1, win.pad_top, win.pad_left, win.pad_bottom, win.pad_right));
  emit_reorder(from, to);
  return to;
}

Storage Builder::make_planar(const std::string& value) {
  Storage storage;
  storage.map = planar_map(shape(value));
  if (const auto out = output_index_.find(value); out != output_index_.end()) {
    storage.place = {Place::Kind::output, out->second, 0, nullptr};
  } else {
    storage.place = new_buffer(floats_of(type(value)));
  }
  values_[value].planar = storage;
  return storage;
}

Storage Builder::make_blocked(const std::string& value) {
  const Shape s = map_shape(value);
  if (const auto part = in_place_.find(value); part != in_place_.end()) {
    // Lives inside the concatenation, which is allocated when its first part is.
    const std::string& whole = part->second.whole;
    Storage storage = has_blocked(whole) ? *values_[whole].blocked : make_blocked(whole);
    storage.map.c = s[1];
    storage.place.offset += part->second.first_channel / 16 * storage.map.plane * static_cast<std::int64_t>(sizeof(float));
    values_[value].blocked = storage;
    return storage;
  }
  const Value& v = values_[value];
  check_map(s, v.top + v.bottom, v.left + v.right);
  const Storage storage = allocate_map(make_map(s[0], s[1], s[2], s[3], 16, v.top, v.left, v.bottom, v.right));
  values_[value].blocked = storage;
  return storage;
}

void Builder::view(const std::string& value, const std::string& of) {
  Storage storage = planar(of);
  storage.map = planar_map(shape(value));
  values_[value].planar = storage;
}

bool Builder::has_codes(const std::string& value) const {
  const auto found = values_.find(value);
  return found != values_.end() && found->second.codes.has_value();
}

const SparseLayer* Builder::sparse(const std::string& output) const {
  const auto found = sparse_.find(output);
  return found == sparse_.end() ? nullptr : found->second.get();
}

bool Builder::wants_codes(const std::string& value) const {
  const auto found = values_.find(value);
  return found != values_.end() && found->second.wants_codes;
}

const engine::CodeKernels& Builder::code_kernels() const { return engine::code_kernels(source_.isa); }

bool Builder::has_rows(const std::string& value) const {
  const auto found = values_.find(value);
  return shape(value).size() == 2 || (found != values_.end() && found->second.rows);
}

Map Builder::code_map(const std::string& value) const {
  if (has_rows(value)) {
    const std::int64_t columns = shape(value).back();
    return make_map(1, columns, 1, rows_of(shape(value)), (columns + 15) / 16 * 16);
  }
  const Shape s = map_shape(value);
  const auto found = values_.find(value);
  const Value none;
  const Value& v = found == values_.end() ? none : found->second;
  check_map(s, v.top + v.bottom, v.left + v.right);
  return make_map(s[0], s[1], s[2], s[3], s[1] <= 4 ? 4 : 16, v.top, v.left, v.bottom, v.right);
}

Storage Builder::make_codes(const std::string& value, std::int32_t zero) {
  if (const auto part = in_place_.find(value); part != in_place_.end()) {
    // Lives inside the concatenation, which is allocated when its first part is.
    const std::string& whole = part->second.whole;
    Storage storage = has_codes(whole) ? *values_[whole].codes : make_codes(whole, zero);
    storage.map.c = map_shape(value)[1];
    storage.place.offset += part->second.first_channel / 16 * storage.map.plane;
    values_[value].codes = storage;
    return storage;
  }
  Storage storage;
  storage.map = code_map(value);
  // A quad that begins in the last pixel's block may reach beyond it.
  storage.place = new_buffer((static_cast<std::uint64_t>(storage.map.elements()) + 16 + sizeof(float) - 1) / sizeof(float));
  storage.place.offset = storage.map.origin();
  if (storage.map.has_halo()) {
    emit([map = storage.map, place = storage.place, zero](const RunContext& run) {
      engine::fill_code_halo(map, static_cast<std::uint8_t>(zero), run.write<std::uint8_t>(place), *run.team);
    }, {storage.place});
  }
  values_[value].codes = storage;
  return storage;
}

Storage Builder::codes(const std::string& value, std::int32_t zero) {
  if (has_codes(value)) return *values_[value].codes;
  const Storage from = planar(value);
  begin_conversion("Reorder", value, "reorder_codes__scalar", "the next layer needs this layout");
  const Storage to = make_codes(value, zero);
  current().layout = "planar -> " + layout_name(to.map);
  const std::uint8_t flip = type(value).dtype == DType::i8 ? 128 : 0;
  if (has_rows(value)) {
    emit([=, rows = rows_of(shape(value)), k = shape(value).back()](const RunContext& run) {
      engine::pack_code_rows(rows, k, run.read<std::uint8_t>(from.place), flip, to.map.block, run.write<std::uint8_t>(to.place));
    }, {from.place, to.place});
  } else {
    emit([=](const RunContext& run) {
      engine::interleave_codes(from.map, run.read<std::uint8_t>(from.place), flip, to.map, run.write<std::uint8_t>(to.place), *run.team);
    }, {from.place, to.place});
  }
  return to;
}

// Codes as the plain tensor that callers and plain operators see.
void Builder::separate(const std::string& value) {
  const Storage from = *values_[value].codes;
  begin_conversion("Reorder", value, "reorder_codes__scalar", "the next layer needs this layout");
  const Storage to = make_planar(value);
  current().layout = layout_name(from.map) + " -> planar";
  const std::uint8_t flip = type(value).dtype == DType::i8 ? 128 : 0;
  if (has_rows(value)) {
    emit([=, rows = rows_of(shape(value)), k = shape(value).back()](const RunContext& run) {
      engine::unpack_code_rows(rows, k, from.map.block, run.read<std::uint8_t>(from.place), flip, run.write<std::uint8_t>(to.place));
    }, {from.place, to.place});
  } else {
    emit([=](const RunContext& run) {
      engine::separate_codes(from.map, run.read<std::uint8_t>(from.place), flip, to.map, run.write<std::uint8_t>(to.place), *run.team);
    }, {from.place, to.place});
  }
}

bool Builder::view_codes(const std::string& value, const std::string& of) {
  if (!has_codes(of) || in_place_.count(of) != 0) return false;  // images of a part stand apart
  const Shape &from = shape(of), &to = shape(value);
  const bool pixels = from.size() == 4 && !has_rows(of) && from[2] * from[3] == 1 && from[1] > 4;
  if (has_rows(of) && has_rows(value) && from.back() == to.back()) {
    values_[value].codes = Storage{values_[of].codes->place, code_map(value)};
    return true;
  }
  if (!(pixels && to.size() == 2 && to[0] == from[0] && !values_[of].codes->map.has_halo())) return false;
  Storage storage = *values_[of].codes;
  storage.map = code_map(value);
  values_[value].codes = storage;
  return true;
}

void Builder::ask_bit_halo(const std::string& value, const engine::ConvShape& shape) {
  Value& v = values_[value];
  v.bit_top = std::max(v.bit_top, shape.pad_top);
  v.bit_left = std::max(v.bit_left, shape.pad_left);
  v.bit_bottom = std::max(v.bit_bottom, shape.pad_bottom);
  v.bit_right = std::max(v.bit_right, shape.pad_right);
}

BitStorage Builder::make_bits(const std::string& value, std::int64_t planes, std::int64_t code) {
  const Shape& given = shape(value);
  Value& v = values_[value];
  BitStorage storage;
  if (given.size() == 2) {
    storage.map = engine::make_bit_map(1, given[1], 1, given[0], planes);
  } else {
    const Shape s = map_shape(value);
    check_map({s[0], s[1] * planes, s[2], s[3]}, v.bit_top + v.bit_bottom, v.bit_left + v.bit_right);
    storage.map = engine::make_bit_map(s[0], s[1], s[2], s[3], planes, v.bit_top, v.bit_left, v.bit_bottom, v.bit_right);
  }
  storage.place = new_buffer(static_cast<std::uint64_t>(storage.map.elements()));
  storage.place.offset = storage.map.origin() * static_cast<std::int64_t>(sizeof(std::uint32_t));
  if (storage.map.has_halo()) {
    emit([map = storage.map, place = storage.place, code](const RunContext& run) {
      engine::fill_bit_halo(map, code, run.write<std::uint32_t>(place));
    }, {storage.place});
  }
  v.bits = storage;
  return storage;
}

// Before strides are multiplied out: sizes come from a file and from the caller.
void Builder::check_map(const Shape& s, std::int64_t rows, std::int64_t columns) const {
  graph::element_count({s[0], s[1] + 15, s[2] + rows, s[3] + columns}, source_.place);
}

Storage Builder::allocate_map(const Map& map) {
  const auto floats = static_cast<std::uint64_t>(map.elements());
  Storage storage;
  storage.map = map;
  storage.place = new_buffer(floats);
  storage.place.offset = map.origin() * static_cast<std::int64_t>(sizeof(float));
  if (map.has_halo()) {
    emit([map, place = storage.place](const RunContext& run) { engine::clear_halo(map, run.write(place), *run.team); }, {storage.place});
  }
  return storage;
}

Place Builder::new_buffer(std::uint64_t floats) {
  buffers_.push_back({floats, plan_.steps.size(), plan_.steps.size()});
  return {Place::Kind::arena, static_cast<int>(buffers_.size()) - 1, 0, nullptr};
}

const float* Builder::weights(const std::string& key, std::int64_t floats, const std::string& what, const std::function<void(float*)>& fill) {
  plan_.weights.push_back(source_.weights->get(key, static_cast<std::uint64_t>(floats), what, fill));
  return plan_.weights.back()->as<float>();
}

LayerInfo& Builder::layer(const Item& item) {
  LayerInfo info;
  info.name = item.name;
  info.op = item.op;
  info.fused = item.fused;
  info.output_shape = shape(item.output);
  plan_.info.layers.push_back(std::move(info));
  return plan_.info.layers.back();
}

void Builder::emit(std::function<void(const RunContext&)> run, std::span<const Place> uses) {
  for (const Place& place : uses) {
    if (place.kind == Place::Kind::arena && place.index >= 0) buffers_[static_cast<std::size_t>(place.index)].last = plan_.steps.size();
  }
  plan_.steps.push_back({std::move(run), plan_.info.layers.size() - 1});
}

void Builder::begin_conversion(const char* op, const std::string& value, const char* kernel, const char* reason) {
  LayerInfo info;
  info.name = value;
  info.op = op;
  info.kernel = kernel;
  info.isa = "scalar";
  info.reason = reason;
  info.output_shape = shape(value);
  plan_.info.layers.push_back(std::move(info));
}

void Builder::emit_reorder(const Storage& from, const Storage& to) {
  current().layout = layout_name(from.map) + " -> " + layout_name(to.map);
  emit([from, to](const RunContext& run) { engine::reorder(from.map, run.read(from.place), to.map, run.write(to.place), *run.team); },
       {from.place, to.place});
}

Plan Builder::finish(const std::vector<std::string>& outputs) {
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const Storage from = planar(outputs[i]);
    if (from.place.kind == Place::Kind::output && from.place.index == static_cast<int>(i)) continue;
    const Place to{Place::Kind::output, static_cast<int>(i), 0, nullptr};
    begin_conversion("Copy", outputs[i], "strided_copy_f32__scalar", "the output is a view of another value");
    current().layout = "planar -> planar";
    const auto bytes = static_cast<std::size_t>(bytes_of(type(outputs[i])));
    emit([=](const RunContext& run) {
      if (bytes != 0) std::memcpy(run.write(to), run.read(from.place), bytes);
    }, {from.place, to});
  }
  assign_offsets();
  return std::move(plan_);
}

// Largest first, each at the lowest offset that no buffer alive at the same time overlaps.
void Builder::assign_offsets() {
  constexpr std::uint64_t line = engine::buffer_alignment / sizeof(float);
  constexpr std::size_t most_compared = 4096;  // each with each
  if (buffers_.size() > most_compared) return assign_in_order(line);
  std::vector<std::size_t> order(buffers_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return buffers_[a].floats > buffers_[b].floats; });
  plan_.buffer_offsets.assign(buffers_.size(), 0);
  std::uint64_t total = 0;
  std::vector<std::size_t> placed;
  for (const std::size_t i : order) {
    const Buffer& buffer = buffers_[i];
    std::vector<std::pair<std::uint64_t, std::uint64_t>> taken;
    for (const std::size_t other : placed) {
      if (buffers_[other].first <= buffer.last && buffer.first <= buffers_[other].last) {
        const auto start = static_cast<std::uint64_t>(plan_.buffer_offsets[other]) / sizeof(float);
        taken.emplace_back(start, start + buffers_[other].floats);
      }
    }
    std::sort(taken.begin(), taken.end());
    std::uint64_t offset = 0;
    for (const auto& [start, end] : taken) {
      if (offset + buffer.floats <= start) break;
      offset = std::max(offset, (end + line - 1) / line * line);
    }
    plan_.buffer_offsets[i] = static_cast<std::int64_t>(offset * sizeof(float));
    total = std::max(total, offset + buffer.floats);
    placed.push_back(i);
  }
  plan_.info.arena_bytes = total * sizeof(float);
}

// For very many buffers: in the order of their first use, each in the smallest hole that holds it.
void Builder::assign_in_order(std::uint64_t line) {
  std::map<std::uint64_t, std::uint64_t> holes;               // offset -> size
  std::set<std::pair<std::uint64_t, std::uint64_t>> by_size;  // size, offset
  const auto add_hole = [&](std::uint64_t offset, std::uint64_t size) {
    if (size == 0) return;
    auto next = holes.lower_bound(offset);
    if (next != holes.end() && next->first == offset + size) {
      size += next->second;
      by_size.erase({next->second, next->first});
      next = holes.erase(next);
    }
    if (next != holes.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == offset) {
        offset = before->first;
        size += before->second;
        by_size.erase({before->second, before->first});
        holes.erase(before);
      }
    }
    holes[offset] = size;
    by_size.emplace(size, offset);
  };
  std::vector<std::size_t> order(buffers_.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return buffers_[a].first < buffers_[b].first; });
  plan_.buffer_offsets.assign(buffers_.size(), 0);
  std::multimap<std::size_t, std::size_t> alive;  // last step -> buffer
  const auto rounded = [&](std::size_t i) { return (buffers_[i].floats + line - 1) / line * line; };
  std::uint64_t total = 0;
  for (const std::size_t i : order) {
    while (!alive.empty() && alive.begin()->first < buffers_[i].first) {
      const std::size_t gone = alive.begin()->second;
      add_hole(static_cast<std::uint64_t>(plan_.buffer_offsets[gone]), rounded(gone));
      alive.erase(alive.begin());
    }
    const std::uint64_t size = rounded(i);
    std::uint64_t offset = total;
    if (const auto hole = by_size.lower_bound({size, 0}); hole != by_size.end() && size != 0) {
      const std::uint64_t rest = hole->first - size;
      offset = hole->second;
      holes.erase(offset);
      by_size.erase(hole);
      add_hole(offset + size, rest);
    } else {
      total += size;
    }
    plan_.buffer_offsets[i] = static_cast<std::int64_t>(offset);
    alive.emplace(buffers_[i].last, i);
  }
  plan_.info.arena_bytes = total * sizeof(float);
}

}  // namespace bittern::plan
