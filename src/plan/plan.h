// A plan: the steps that compute a network for given input shapes, and the scratch memory they share.
#pragma once

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
  std::int64_t offset = 0;            // floats from its start
  const float* constant = nullptr;
};

// What a step needs at run time.
struct RunContext {
  float* arena = nullptr;
  const std::int64_t* buffer_offsets = nullptr;  // floats from the arena's start
  const void* const* inputs = nullptr;
  void* const* outputs = nullptr;
  engine::Team* team = nullptr;

  const float* read(const Place& place) const {
    switch (place.kind) {
      case Place::Kind::arena:
        return arena + buffer_offsets[place.index] + place.offset;
      case Place::Kind::input:
        return static_cast<const float*>(inputs[place.index]) + place.offset;
      case Place::Kind::output:
        return static_cast<const float*>(outputs[place.index]) + place.offset;
      default:
        return place.constant + place.offset;
    }
  }
  float* write(const Place& place) const {
    return place.kind == Place::Kind::output ? static_cast<float*>(outputs[place.index]) + place.offset
                                             : arena + buffer_offsets[place.index] + place.offset;
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
