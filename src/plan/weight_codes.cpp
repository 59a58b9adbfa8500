#include "plan/weight_codes.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/cpu_count.h"
#include "registry.h"

namespace bittern::plan {
namespace {

using engine::CodeConv;
using engine::CodeGemmKernel;
using engine::GemmKernel;

// As codes a layer may take so much longer, for the memory it saves.
constexpr double worth = 1.15;

// True if every product of the factors is zero or normal, so that it does not matter when it is taken: the engine flushes
// subnormal numbers, decoding does not.
bool all_normal(const std::vector<float>& table, const std::vector<float>& scale, const std::vector<float>& fold) {
  constexpr double least = std::numeric_limits<float>::min();
  double product = 1;
  for (const std::vector<float>* numbers : {&table, &scale, &fold}) {
    double smallest = numbers->empty() ? 1 : std::numeric_limits<double>::infinity();
    for (const float number : *numbers) {
      if (!std::isfinite(number)) return false;
      const double magnitude = std::fabs(static_cast<double>(number));
      if (magnitude != 0) smallest = std::min(smallest, magnitude);
    }
    if (smallest < least || product * smallest < least) return false;
    product *= std::min(smallest, 1e30);
  }
  return true;
}

bool is_consecutive(const std::vector<float>& table) {
  for (std::size_t i = 0; i < table.size(); ++i) {
    if (table[i] != table[0] + static_cast<float>(i) || table[i] != std::nearbyint(table[i])) return false;
  }
  return std::fabs(table[0]) < 65536;
}

const CodeGemmKernel* kernel_for(const GemmKernel& tile, engine::Isa isa, int bits) {
  const auto list = engine::code_gemm_kernels(isa);
  const auto found =
      std::find_if(list.begin(), list.end(), [&](const CodeGemmKernel& k) { return k.bits == bits && k.rows == tile.rows && k.cols == tile.cols; });
  return found == list.end() ? nullptr : &*found;
}

const GemmKernel* tile_of(const CodeGemmKernel& kernel) {
  const auto list = engine::gemm_kernels(kernel.isa);
  const auto found = std::find_if(list.begin(), list.end(), [&](const GemmKernel& k) { return k.rows == kernel.rows && k.cols == kernel.cols; });
  return found == list.end() ? nullptr : &*found;
}

// The kernels for codes that were asked for by name, and whether any was.
const CodeGemmKernel* asked_kernel(const Builder& builder, int bits, bool& any) {
  const CodeGemmKernel* fits = nullptr;
  for (int level = static_cast<int>(builder.source().isa); level >= 0; --level) {
    for (const CodeGemmKernel& kernel : engine::code_gemm_kernels(static_cast<engine::Isa>(level))) {
      if (!preferred(builder, kernel.name)) continue;
      any = true;
      if (fits == nullptr && kernel.bits == bits) fits = &kernel;
    }
  }
  return fits;
}

int bits_for(std::size_t letters) { return letters <= 4 ? 2 : letters <= 16 ? 4 : 8; }
std::size_t room_of(int bits) { return std::size_t{1} << bits; }

CodesPlan refused(const std::string& why) {
  CodesPlan plan;
  plan.reason = "; weights decoded to dense f32 at load: " + why;
  return plan;
}

// Scales of groups of inputs and of taps, [rows][padded channels], from the order of the weight's own axes.
void spread_groups(const format::LookUpForm& form, const engine::ConvShape& shape, bool columns, std::int64_t padded, CodesPlan& plan) {
  const std::int64_t taps = shape.kh * shape.kw, rows = (shape.c + form.group - 1) / form.group * taps;
  plan.scale.assign(static_cast<std::size_t>(rows * padded), 0.0f);
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t o = 0; o < shape.oc; ++o) {
      plan.scale[static_cast<std::size_t>(row * padded + o)] = form.scale[static_cast<std::size_t>(columns ? row * shape.oc + o : o * rows + row)];
    }
  }
  plan.scale_rows = plan.layer->scale_rows(form.group);
  plan.table.scale_step = padded;
}

// Scales of one number are taken into the table where one is read; others stand per channel, padded with zeros.
void spread(const format::LookUpForm& form, const Item& item, std::int64_t channels, std::int64_t padded, CodesPlan& plan) {
  const auto per_channel = [&](const std::vector<float>& numbers) {
    std::vector<float> all(static_cast<std::size_t>(padded), 0.0f);
    for (std::int64_t c = 0; c < channels; ++c) all[static_cast<std::size_t>(c)] = numbers[numbers.size() == 1 ? 0 : static_cast<std::size_t>(c)];
    return all;
  };
  if (!form.scale.empty() && form.group == 0) plan.scale = per_channel(form.scale);
  if (!item.scale.empty()) (plan.scale.empty() ? plan.scale : plan.fold) = per_channel(item.scale);
}

// Table, scales and the code of zero. False if there is no such code where one is needed.
bool arrange(format::LookUpForm form, const Item& item, const engine::ConvShape& shape, int output_axis, int bits, CodesPlan& plan) {
  const CodeConv& layer = *plan.layer;
  const std::int64_t channels = shape.oc;
  const bool consecutive = bits == 8 && !form.many_tables() && is_consecutive(form.table);
  if (form.scale.size() == 1 && form.group == 0 && !consecutive) {
    for (float& entry : form.table) entry *= form.scale[0];
    form.scale.clear();
  }
  if (form.group != 0) spread_groups(form, shape, output_axis == 1, layer.padded_channels(), plan);
  spread(form, item, channels, layer.padded_channels(), plan);
  plan.table.consecutive = consecutive;
  plan.table.first = form.table[0];
  const auto letters = static_cast<std::int64_t>(form.entries), all = static_cast<std::int64_t>(form.table.size());
  if (form.many_tables()) {
    // Every channel's table ends with a zero where there is room; tables of spare channels are zero as a whole.
    const bool room = form.entries < room_of(bits);
    if (!room && layer.foreign()) return false;
    plan.table.stride = letters + (room ? 1 : 0);
    plan.table.count = plan.table.stride;
    plan.pad = static_cast<std::uint8_t>(room ? letters : 0);
    plan.entries.assign(static_cast<std::size_t>(layer.padded_channels() * plan.table.stride), 0.0f);
    for (std::int64_t c = 0; c < all / letters; ++c) {
      std::copy_n(form.table.begin() + static_cast<std::ptrdiff_t>(c * letters), letters,
                  plan.entries.begin() + static_cast<std::ptrdiff_t>(c * plan.table.stride));
    }
    return true;
  }
  const auto zero = std::find(form.table.begin(), form.table.end(), 0.0f);
  plan.pad = static_cast<std::uint8_t>(zero - form.table.begin());
  if (zero == form.table.end()) {
    if (form.entries < room_of(bits) && !consecutive) {
      form.table.push_back(0.0f);
    } else {
      if (layer.foreign()) return false;
      plan.pad = 0;
      // Spare channels are zero by their scale.
      if (plan.scale.empty() && layer.padded_channels() != channels) {
        plan.scale.assign(static_cast<std::size_t>(layer.padded_channels()), 0.0f);
        std::fill_n(plan.scale.begin(), channels, 1.0f);
      }
    }
  }
  plan.table.count = static_cast<std::int64_t>(form.table.size());
  if (!consecutive) {
    plan.entries.resize(static_cast<std::size_t>(engine::table_room(bits, plan.table.count)));
    engine::fill_table(bits, form.table, plan.entries.data());
  }
  return true;
}

// Pointers into the buffer [entries, scale, fold, rows of scales]; any buffer serves for an estimate.
void point(CodesPlan& plan, const float* buffer) {
  plan.table.entries = buffer;
  buffer += plan.entries.size();
  plan.table.scale = plan.scale.empty() ? nullptr : buffer;
  buffer += plan.scale.size();
  plan.table.fold = plan.fold.empty() ? nullptr : buffer;
  buffer += plan.fold.size();
  plan.table.scale_rows = plan.scale_rows.empty() ? nullptr : reinterpret_cast<const std::int32_t*>(buffer);
}

}  // namespace

std::int64_t CodesPlan::tables() const noexcept { return static_cast<std::int64_t>(entries.size() + scale.size() + fold.size() + scale_rows.size()); }

std::int64_t CodesPlan::bytes() const noexcept { return layer->packed_bytes() + tables() * static_cast<std::int64_t>(sizeof(float)); }

CodesPlan plan_codes(Builder& builder, const Item& item, const engine::ConvShape& shape, const engine::Map& in, const engine::Map& out,
                     const engine::Map& residual, const GemmKernel& dense, double dense_cost, bool dense_asked, int output_axis) {
  const graph::Encoding& encoding = builder.source().constants->encoding(item.inputs[1]);
  if (encoding.kind == graph::EncodingKind::dense) return {};
  if (dense_asked) return refused("the kernel was asked for");
  const auto form = builder.source().constants->look_up_form(item.inputs[1]);
  if (!form || form->entries == 0) return refused("they are no codes into a table of at most 256 numbers");
  if (form->group != 0) {
    if (form->axis != 1 - output_axis || shape.groups != 1) return refused("their scales are those of groups along another axis than the inputs");
  } else if (form->axis >= 0 && form->axis != output_axis) {
    return refused("their tables or scales are not those of output channels");
  }
  if (!all_normal(form->table, form->scale, item.scale)) return refused("their products may be subnormal or infinite");
  const bool flat = engine::ConvLoop::flat(shape, in, out);
  CodesPlan plan;
  // Where groups need a zero that has no room among the codes, wider codes have it.
  for (int bits = bits_for(form->entries); bits <= 8; bits = bits == 2 ? 4 : bits * 2) {
    plan = {};
    bool any_asked = false;
    const CodeGemmKernel* kernel = asked_kernel(builder, bits, any_asked);
    plan.asked = kernel != nullptr;
    if (kernel == nullptr) kernel = kernel_for(dense, dense.isa, bits);
    const GemmKernel* tile = kernel == nullptr ? nullptr : tile_of(*kernel);
    if (tile == nullptr) return refused("no kernel expands their codes");
    const auto layer = std::make_shared<const CodeConv>(*kernel, *tile, shape, in, out, residual, engine::granted_cpus());
    plan.layer = layer;
    if (!arrange(*form, item, shape, output_axis, bits, plan)) continue;
    plan.kernel = kernel;
    break;
  }
  if (plan.kernel == nullptr) return refused("groups that share a panel need a zero, which is not among their 256 numbers");
  point(plan, plan.entries.data());
  plan.cost = plan.layer->cost(plan.table, in.block, flat);
  const std::string against = percent(plan.cost / std::max(1.0, dense_cost));
  if (plan.asked || plan.cost <= worth * dense_cost) {
    plan.reason = "; weights stay " + std::to_string(plan.kernel->bits) + "-bit codes, expanded panel by panel: estimated " +
                  against + " against dense f32";
    return plan;
  }
  return refused("as " + std::to_string(plan.kernel->bits) + "-bit codes estimated " + against);
}

void emit_codes(Builder& builder, const Item& item, const CodesPlan& codes, std::int64_t out_step, std::int64_t in_step, const Storage& in,
                const Storage& out, const Storage& residual, const std::function<std::vector<float>()>* bias) {
  LayerInfo& info = builder.current();
  info.kernel = codes.kernel->name;
  info.isa = engine::name_of(codes.kernel->isa);
  const std::shared_ptr<const CodeConv> layer = codes.layer;
  const std::int64_t tables = codes.tables();
  const std::int64_t codes_at = tables + (bias != nullptr ? layer->padded_channels() : 0);
  const std::int64_t floats = codes_at + (layer->packed_bytes() + 3) / 4;
  const std::string how = info.kernel + " block " + std::to_string(in.map.block);
  const float* packed = builder.weights(weights_key(item, how), floats, builder.source().place + ": " + place_of(item), [&](float* target) {
    std::fill(target, target + codes_at, 0.0f);
    float* at = target;
    for (const std::vector<float>* numbers : {&codes.entries, &codes.scale, &codes.fold}) at = std::copy(numbers->begin(), numbers->end(), at);
    if (!codes.scale_rows.empty()) std::memcpy(at, codes.scale_rows.data(), codes.scale_rows.size() * sizeof(float));
    at = target + tables;
    if (bias != nullptr) {
      const std::vector<float> values = (*bias)();
      std::copy(values.begin(), values.end(), at);
    }
    const std::vector<std::uint8_t> stored = builder.source().constants->look_up_codes(item.inputs[1]);
    layer->pack({stored.data(), out_step, in_step}, codes.pad, reinterpret_cast<std::uint8_t*>(target + codes_at));
    builder.source().constants->release(item.inputs[1]);
  });
  info.packed_bytes = static_cast<std::uint64_t>(floats) * sizeof(float);
  CodesPlan plan = codes;
  point(plan, packed);
  engine::Epilogue epilogue{bias != nullptr ? packed + tables : nullptr, nullptr, item.lo, item.hi};
  const Place scratch = builder.scratch(layer->scratch_elements());
  const bool added = !item.residual.empty();
  builder.emit([=, table = plan.table](const RunContext& run) {
    engine::Epilogue e = epilogue;
    if (added) e.residual = run.read(residual.place);
    layer->run(run.read(in.place), reinterpret_cast<const std::uint8_t*>(packed + codes_at), table, e, run.write(out.place), run.write(scratch),
               *run.team);
  }, {in.place, out.place, scratch, added ? residual.place : in.place});
}

}  // namespace bittern::plan
