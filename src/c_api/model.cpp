// Models of the C interface.
#include <cstddef>
#include <iterator>
#include <span>
#include <utility>

#include <bittern/system.h>

#include "c_api/error.h"
#include "c_api/values.h"

using bittern::DType;
using bittern::Error;
using bittern::ErrorCode;
using bittern::c_api::guarded;
using bittern::c_api::needed;

namespace {

template <class Enum>
constexpr bool same(Enum ours, std::int32_t number) { return static_cast<std::int32_t>(ours) == number; }

static_assert(same(DType::f32, BITTERN_F32) && same(DType::f16, BITTERN_F16) && same(DType::bf16, BITTERN_BF16) && same(DType::f64, BITTERN_F64));
static_assert(same(DType::i8, BITTERN_I8) && same(DType::u8, BITTERN_U8) && same(DType::i16, BITTERN_I16) && same(DType::u16, BITTERN_U16));
static_assert(same(DType::i32, BITTERN_I32) && same(DType::u32, BITTERN_U32) && same(DType::i64, BITTERN_I64) && same(DType::u64, BITTERN_U64));
static_assert(same(DType::boolean, BITTERN_BOOL));
static_assert(same(bittern::Checksum::eager, BITTERN_CHECKSUM_EAGER) && same(bittern::Checksum::lazy, BITTERN_CHECKSUM_LAZY));
static_assert(same(bittern::Checksum::skip, BITTERN_CHECKSUM_SKIP));

}  // namespace

namespace bittern::c_api {

Values::Values(const std::vector<ValueInfo>& infos) : infos_(infos) {
  for (const ValueInfo& info : infos_) {
    Shape& sizes = sizes_.emplace_back();
    std::vector<const char*>& symbols = symbols_.emplace_back();
    for (const Dimension& dimension : info.shape) {
      sizes.push_back(dimension.value);
      symbols.push_back(dimension.symbol.empty() ? nullptr : dimension.symbol.c_str());
    }
    const auto dtype = static_cast<bittern_dtype>(info.dtype);
    list_.push_back({info.name.c_str(), dtype, static_cast<std::int32_t>(sizes.size()), sizes.data(), symbols.data()});
  }
}

void read_sizes(const std::int64_t* sizes, std::int32_t rank, const char* what, std::size_t index, Shape& to) {
  constexpr std::int32_t largest = 64;  // more than any network has: the field was not set
  const auto fail = [&](const std::string& problem, const char* remedy) {
    throw Error(ErrorCode::input, std::string(what) + " " + std::to_string(index), problem, remedy);
  };
  if (rank < 0 || rank > largest) fail("its rank is " + std::to_string(rank), "it must be 0..64");
  if (rank > 0 && sizes == nullptr) fail("its sizes are NULL", "give as many as its rank");
  to.assign(sizes, sizes + rank);
}

namespace {

LoadOptions load_options(const bittern_load_options* given) {
  const bittern_load_options options = read_options(given, "load_options");
  LoadOptions result;
  if (options.isa != nullptr) result.isa = options.isa;
  if (options.device != nullptr) result.device = options.device;
  result.memory_limit = options.memory_limit;
  if (options.checksum < BITTERN_CHECKSUM_EAGER || options.checksum > BITTERN_CHECKSUM_SKIP) {
    throw Error(ErrorCode::input, "checksum", "unknown value " + std::to_string(options.checksum), "use one of BITTERN_CHECKSUM_...");
  }
  result.checksum = static_cast<Checksum>(options.checksum);
  result.winograd = options.no_winograd == 0;
  return result;
}

bittern_model* make(Model model) {
  Values inputs(model.inputs()), outputs(model.outputs());
  return new bittern_model{std::move(model), std::move(inputs), std::move(outputs)};
}

}  // namespace
}  // namespace bittern::c_api

const char* bittern_version(void) { return bittern::version(); }

size_t bittern_dtype_size(bittern_dtype dtype) {
  return dtype >= BITTERN_F32 && dtype <= BITTERN_BOOL ? bittern::size_of(static_cast<DType>(dtype)) : 0;
}

const char* bittern_dtype_name(bittern_dtype dtype) {
  return dtype >= BITTERN_F32 && dtype <= BITTERN_BOOL ? bittern::name_of(static_cast<DType>(dtype)) : "unknown";
}

bittern_code bittern_load(const char* path, const bittern_load_options* options, bittern_model** model, bittern_error** error) {
  return guarded(error, [&] {
    needed(model, "model") = nullptr;
    *model = bittern::c_api::make(bittern::Model::load(&needed(path, "path"), bittern::c_api::load_options(options)));
  });
}

bittern_code bittern_load_bytes(const void* bytes, size_t size, const char* place, const bittern_load_options* options, bittern_model** model,
                                bittern_error** error) {
  return guarded(error, [&] {
    needed(model, "model") = nullptr;
    const auto* first = static_cast<const std::byte*>(bytes);
    if (size != 0) needed(first, "bytes");
    const bittern::LoadOptions converted = bittern::c_api::load_options(options);
    *model = bittern::c_api::make(bittern::Model::from_bytes({first, size}, place != nullptr ? place : "<bytes>", converted));
  });
}

void bittern_model_free(bittern_model* model) { delete model; }

const char* bittern_model_name(const bittern_model* model) { return model != nullptr ? model->model.name().c_str() : ""; }
const char* bittern_model_isa(const bittern_model* model) { return model != nullptr ? model->model.isa().c_str() : ""; }
uint64_t bittern_model_bytes(const bittern_model* model) { return model != nullptr ? model->model.weight_bytes() : 0; }

const char* bittern_model_metadata(const bittern_model* model, const char* key) {
  if (model == nullptr || key == nullptr) return nullptr;
  for (const auto& [name, value] : model->model.metadata()) {  // find() would make a string, which may fail
    if (name == key) return value.c_str();
  }
  return nullptr;
}

const char* bittern_model_metadata_key(const bittern_model* model, size_t index) {
  if (model == nullptr || index >= model->model.metadata().size()) return nullptr;
  return std::next(model->model.metadata().begin(), static_cast<std::ptrdiff_t>(index))->first.c_str();
}

size_t bittern_model_input_count(const bittern_model* model) { return model != nullptr ? model->inputs.size() : 0; }
size_t bittern_model_output_count(const bittern_model* model) { return model != nullptr ? model->outputs.size() : 0; }
const bittern_value* bittern_model_input(const bittern_model* model, size_t index) { return model != nullptr ? model->inputs.at(index) : nullptr; }
const bittern_value* bittern_model_output(const bittern_model* model, size_t index) { return model != nullptr ? model->outputs.at(index) : nullptr; }
