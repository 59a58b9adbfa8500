// What a Model holds: the file, the graph, weights, and plans for the shapes met so far.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <bittern/model.h>

#include "base/aligned_buffer.h"
#include "format/mapped_file.h"
#include "graph/graph.h"
#include "plan/plan.h"
#include "plan/weights.h"

namespace bittern {

class Model::Impl final : public plan::Constants {
 public:
  Impl(std::string place, const LoadOptions& options);

  void open_file(const std::string& path);
  void open_bytes(std::span<const std::byte> bytes);

  bool has(const std::string& name) const override { return graph_.constants.count(name) != 0; }
  std::vector<float> floats(const std::string& name) const override;
  const float* stored(const std::string& name) const override;
  void release(const std::string& name) const override;
  void release(const float* first, std::int64_t count) const override;
  std::vector<std::int64_t> integers(const std::string& name) const override;
  const graph::Encoding& encoding(const std::string& name) const override { return *graph_.constants.at(name); }
  std::optional<format::IntegerForm> integer_form(const std::string& name) const override;
  std::vector<format::IntegerForm> integer_parts(const std::string& name) const override;
  std::vector<std::int16_t> part_values(const std::string& name, std::size_t part) const override;
  std::optional<format::LookUpForm> look_up_form(const std::string& name) const override;
  std::vector<std::uint8_t> look_up_codes(const std::string& name) const override;
  std::optional<format::RowForm> row_form(const std::string& name) const override;
  std::vector<std::uint8_t> row_codes(const std::string& name) const override;
  std::vector<std::int16_t> integer_values(const std::string& name) const override;
  std::vector<std::int64_t> wide_integer_values(const std::string& name) const override;
  std::shared_ptr<const std::vector<std::byte>> bytes(const std::string& name) const override;

  // The plan for these shapes, and elements of inputs that decide shapes; made if it is not among the last ones.
  std::shared_ptr<const plan::Plan> plan_for(const std::vector<Shape>& inputs, const plan::InputValues& values, const std::vector<std::string>& taps);

  const graph::Graph& graph() const noexcept { return graph_; }
  plan::MemoryBudget& budget() noexcept { return budget_; }

  std::vector<ValueInfo> inputs, outputs;
  std::vector<bool> shape_deciding_inputs;
  bool any_decides = false;
  std::string isa_name;

 private:
  struct CachedPlan {
    std::vector<Shape> inputs;
    plan::InputValues values;
    std::vector<std::string> taps;
    std::shared_ptr<const plan::Plan> plan;
  };

  template <class Body>
  auto within_memory(const std::string& name, const Body& body) const;
  void load(std::span<const std::byte> bytes);
  void fold_constants();
  // Computes the one node of `part` and adds its outputs to the constants; false if that takes `work`, the operations of
  // all nodes so far, too far.
  bool fold(graph::Graph& part, double& work);
  void check_constants();
  std::string constant_place(const std::string& name) const { return place_ + ": constant " + name; }

  std::string place_;
  LoadOptions options_;
  engine::Isa isa_;
  std::optional<format::MappedFile> file_;
  engine::AlignedBuffer copy_;
  std::vector<plan::SharedBuffer> folded_;  // what fold_constants() computed
  graph::Graph graph_;
  plan::MemoryBudget budget_;
  plan::Weights weights_;
  std::once_flag checksum_verified_;
  std::span<const std::byte> bytes_;
  std::mutex mutex_;
  std::list<CachedPlan> plans_;  // the last used first
};

}  // namespace bittern
