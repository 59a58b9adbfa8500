// A plan: the steps that compute a network for given input shapes, and the scratch memory they share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <bittern/model.h>

#include "base/isa.h"
#include "base/thread_pool.h"
#include "graph/graph.h"
#include "plan/fuse.h"
#include "plan/weights.h"

namespace bittern::plan {

// Where a tensor starts when the plan runs.
struct Place {
  enum class Kind : std::uint8_t { arena, input, output, constant } kind = Kind::arena;
  int index = -1;                     // of the buffer, input or output
  std::int64_t offset = 0;            // bytes from its start
  const void* constant = nullptr;
};

// What a step needs at run time.
struct RunContext {
  std::byte* arena = nullptr;
  const std::int64_t* buffer_offsets = nullptr;  // bytes from the arena's start
  const void* const* inputs = nullptr;
  void* const* outputs = nullptr;
  engine::Team* team = nullptr;

  template <class T = float>
  const T* read(const Place& place) const {
    const void* start = place.kind == Place::Kind::arena    ? arena + buffer_offsets[place.index]
                        : place.kind == Place::Kind::input  ? inputs[place.index]
                        : place.kind == Place::Kind::output ? outputs[place.index]
                                                            : place.constant;
    return reinterpret_cast<const T*>(static_cast<const std::byte*>(start) + place.offset);
  }
  template <class T = float>
  T* write(const Place& place) const {
    std::byte* start = place.kind == Place::Kind::output ? static_cast<std::byte*>(outputs[place.index]) : arena + buffer_offsets[place.index];
    return reinterpret_cast<T*>(start + place.offset);
  }
};

struct Step {
  std::function<void(const RunContext&)> run;
  std::size_t layer = 0;  // row of info.layers
};

struct Plan {
  PlanInfo info;
  std::vector<Step> steps;
  std::vector<std::int64_t> buffer_offsets;
  std::vector<SharedBuffer> weights;  // keeps what steps point to
  std::vector<std::shared_ptr<Charge>> charges;  // for tables that steps hold
};

// What planning needs of a model.
struct Source {
  const graph::Graph* graph = nullptr;
  const Constants* constants = nullptr;
  Weights* weights = nullptr;
  MemoryBudget* budget = nullptr;
  engine::Isa isa = engine::Isa::scalar;
  const std::vector<std::string>* preferred = nullptr;  // kernels
  bool winograd = true;
  std::string place;                                    // for messages
};

// The elements of inputs that decide shapes; null for other inputs.
using InputValues = std::vector<std::shared_ptr<const std::vector<std::byte>>>;

// Types of all values for these inputs. Throws Error(input) where shapes do not fit.
Types infer_types(const graph::Graph& graph, const Constants& constants, const std::vector<Shape>& inputs, const InputValues& values);

// For each input of the network, whether its elements decide shapes.
std::vector<bool> shape_deciding_inputs(const graph::Graph& graph);

// Throws Error: input, unsupported, resource, format.
Plan make_plan(const Source& source, const std::vector<Shape>& inputs, const InputValues& values, const std::vector<std::string>& taps);

}  // namespace bittern::plan
