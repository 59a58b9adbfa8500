#include <bittern/session.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iterator>
#include <mutex>
#include <new>

#include <bittern/error.h>

#include "base/cpu_count.h"
#include "base/fp_mode.h"
#include "graph/ops.h"
#include "ops/plain.h"
#include "plan/plain.h"
#include "runtime/model_impl.h"

namespace bittern {
namespace {

using Clock = std::chrono::steady_clock;

std::vector<std::int64_t> contiguous_strides(const Shape& shape, std::size_t size) {
  std::vector<std::int64_t> strides(shape.size(), static_cast<std::int64_t>(size));
  for (std::size_t i = shape.size(); i-- > 1;) strides[i - 1] = strides[i] * std::max<std::int64_t>(1, shape[i]);
  return strides;
}

// C order and aligned: kernels can use the array where it is.
bool usable_in_place(const void* data, DType type, const Shape& shape, const std::vector<std::int64_t>& strides) {
  // Kernels reach elements of 4 bytes at least where they may: odd addresses are copied.
  if (reinterpret_cast<std::uintptr_t>(data) % std::max(alignof(float), size_of(type)) != 0) return false;
  if (strides.empty()) return true;
  auto expected = static_cast<std::int64_t>(size_of(type));
  for (std::size_t i = shape.size(); i-- > 0;) {
    if (shape[i] == 0) return true;
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

// First and last byte that an array may touch.
struct Range {
  std::uintptr_t first = 0, last = 0;
  std::size_t array = 0;
};
template <class AnyView>
Range range_of(const AnyView& view) {
  const auto start = reinterpret_cast<std::uintptr_t>(view.data);
  const auto size = static_cast<std::int64_t>(size_of(view.dtype));
  std::int64_t low = 0, high = size - 1, step = size;
  for (std::size_t i = view.shape.size(); i-- > 0;) {
    const std::int64_t reach = (view.shape[i] - 1) * (view.strides.empty() ? step : view.strides[i]);
    (reach < 0 ? low : high) += reach;
    step *= view.shape[i];
  }
  return {start + static_cast<std::uintptr_t>(low), start + static_cast<std::uintptr_t>(high)};
}

// The ranges of the arrays that have elements, by their first byte. `ranges` has room for all.
template <class AnyView>
void sort_ranges(const std::vector<AnyView>& views, std::vector<Range>& ranges) {
  ranges.clear();
  for (std::size_t i = 0; i < views.size(); ++i) {
    if (graph::element_count(views[i].shape, "array") == 0) continue;
    ranges.push_back(range_of(views[i]));
    ranges.back().array = i;
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) { return a.first < b.first; });
}

// `kind` and `name` say which array it is; they are put together only for a message.
template <class AnyView>
void check_view(const AnyView& view, const char* kind, const std::string& name, DType type, const Shape* wanted) {
  const auto fail = [&](const std::string& problem, const std::string& remedy) {
    throw Error(ErrorCode::input, std::string(kind) + " " + name, problem, remedy);
  };
  if (view.dtype != type) {
    const std::string hint = type == DType::f32 ? ": convert it, for example with x.astype(numpy.float32)" : "";
    fail(std::string("the array is ") + name_of(view.dtype), std::string("it must be ") + name_of(type) + hint);
  }
  for (const std::int64_t d : view.shape) {
    if (d < 0) fail("shape " + graph::to_string(view.shape), "sizes cannot be negative");
  }
  if (wanted != nullptr && view.shape != *wanted) {
    fail("the array has shape " + graph::to_string(view.shape), "it must be " + graph::to_string(*wanted));
  }
  if (!view.strides.empty() && view.strides.size() != view.shape.size()) {
    fail(std::to_string(view.strides.size()) + " strides for " + std::to_string(view.shape.size()) + " dimensions", "give one per dimension, or none for C order");
  }
  const bool empty = std::find(view.shape.begin(), view.shape.end(), 0) != view.shape.end();
  if (view.data == nullptr && !empty) fail("the array has no data", "give its address");
}

}  // namespace

class Session::Impl {
 public:
  Impl(const Model& model, const SessionOptions& options) : model_(model), threads_(options.threads) {
    if (threads_ < 0) throw Error(ErrorCode::input, "threads", std::to_string(threads_), "0 means all CPUs, else a positive number");
    // The pool holds no more than one thread per CPU.
    const int granted = engine::granted_cpus();
    if (threads_ == 0 || threads_ > granted) threads_ = granted;
  }
  ~Impl() { release(); }

  const plan::Plan& prepare(const std::vector<Shape>& shapes, const std::vector<ConstView>* inputs, const std::vector<std::string>& taps) {
    if (plan_ == nullptr || shapes != shapes_ || taps != taps_ || (impl().any_decides && (inputs == nullptr || !same_values(*inputs)))) {
      if (shapes.size() != impl().inputs.size()) {
        throw Error(ErrorCode::input, "inputs", std::to_string(shapes.size()) + " given", std::to_string(impl().inputs.size()) + " are needed");
      }
      plan::InputValues values;
      if (inputs != nullptr && impl().any_decides) values = values_of(*inputs);
      auto plan = impl().plan_for(shapes, values, taps);
      reserve(plan->info.arena_bytes);
      plan_ = std::move(plan);
      shapes_ = shapes;
      values_ = std::move(values);
      taps_ = taps;
      output_shapes_.clear();
      for (const ValueInfo& info : plan_->info.outputs) {
        Shape shape;
        for (const Dimension& d : info.shape) shape.push_back(d.value);
        output_shapes_.push_back(std::move(shape));
      }
      sources_.resize(shapes_.size());
      targets_.resize(output_shapes_.size());
      input_ranges_.reserve(shapes_.size());
      output_ranges_.reserve(output_shapes_.size());
      // Never fewer than before: their bytes are on the model's account until the session ends.
      staged_inputs_.resize(std::max(staged_inputs_.size(), shapes_.size()));
      staged_outputs_.resize(std::max(staged_outputs_.size(), output_shapes_.size()));
    }
    return *plan_;
  }

  const plan::Plan& prepare(const std::vector<ConstView>& inputs, const std::vector<std::string>& taps) {
    static const std::string none = "beyond the last";
    given_.resize(inputs.size());
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const ValueInfo* info = i < impl().inputs.size() ? &impl().inputs[i] : nullptr;
      check_view(inputs[i], "input", info != nullptr ? info->name : none, info != nullptr ? info->dtype : inputs[i].dtype, nullptr);
      given_[i].assign(inputs[i].shape.begin(), inputs[i].shape.end());
    }
    return prepare(given_, &inputs, taps);
  }

  void run(const std::vector<ConstView>& inputs, const std::vector<View>& outputs, const std::vector<std::string>& taps, std::vector<double>* times) {
    const plan::Plan& plan = prepare(inputs, taps);
    if (outputs.size() != output_shapes_.size()) {
      throw Error(ErrorCode::input, "outputs", std::to_string(outputs.size()) + " given", std::to_string(output_shapes_.size()) + " are needed");
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      check_view(outputs[i], "output", plan.info.outputs[i].name, plan.info.outputs[i].dtype, &output_shapes_[i]);
    }
    stage(inputs, outputs);

    const engine::FlushToZero mode;
    engine::Team team(threads_);
    const plan::RunContext context{arena_.as<std::byte>(), plan.buffer_offsets.data(), sources_.data(), targets_.data(), &team};
    if (times == nullptr) {
      for (const plan::Step& step : plan.steps) step.run(context);
    } else {
      times->assign(plan.info.layers.size(), 0.0);
      for (const plan::Step& step : plan.steps) {
        const auto start = Clock::now();
        step.run(context);
        (*times)[step.layer] += std::chrono::duration<double, std::milli>(Clock::now() - start).count();
      }
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (targets_[i] == outputs[i].data || graph::element_count(outputs[i].shape, "output") == 0) continue;
      const std::size_t size = size_of(outputs[i].dtype);
      const auto from = contiguous_strides(outputs[i].shape, size);
      engine::strided_copy(outputs[i].shape, static_cast<int>(size), targets_[i], from, outputs[i].data, outputs[i].strides.empty() ? from : outputs[i].strides);
    }
  }

 private:
  Model::Impl& impl() const { return *model_.impl(); }

  void release() {
    impl().budget().give_back(arena_.size() + staged_bytes_);
    arena_ = {};
  }

  void reserve(std::uint64_t bytes) {
    if (bytes <= arena_.size()) return;
    plan_ = nullptr;
    impl().budget().give_back(arena_.size());
    arena_ = {};
    take(arena_, bytes);
  }

  void take(engine::AlignedBuffer& buffer, std::uint64_t bytes) {
    impl().budget().take(bytes, "scratch memory");
    try {
      buffer = engine::AlignedBuffer(bytes);
    } catch (const std::bad_alloc&) {
      impl().budget().give_back(bytes);
      throw Error(ErrorCode::resource, "scratch memory", "needs " + std::to_string(bytes) + " bytes, which the system refused", "use smaller inputs");
    }
  }

  // The elements of inputs that decide shapes, in C order; null for the others.
  plan::InputValues values_of(const std::vector<ConstView>& inputs) const {
    plan::InputValues values(inputs.size());
    for (std::size_t i = 0; i < inputs.size() && i < impl().inputs.size(); ++i) {
      if (!impl().shape_deciding_inputs[i]) continue;
      const std::size_t rank = impl().inputs[i].shape.size();  // at most 8, which copying counts on
      if (inputs[i].shape.size() != rank) {
        throw Error(ErrorCode::input, "input " + impl().inputs[i].name,
                    "shape " + graph::to_string(inputs[i].shape) + " has rank " + std::to_string(inputs[i].shape.size()), "rank " + std::to_string(rank) + " is needed");
      }
      const std::size_t size = size_of(inputs[i].dtype);
      const auto count = static_cast<std::size_t>(graph::element_count(inputs[i].shape, "input " + impl().inputs[i].name));
      if (count * size > static_cast<std::size_t>(plan::most_known_bytes)) {
        throw Error(ErrorCode::unsupported, "input " + impl().inputs[i].name, "its elements decide shapes, and there are " + std::to_string(count),
                    "at most " + std::to_string(plan::most_known_bytes) + " bytes are supported");
      }
      auto bytes = std::make_shared<std::vector<std::byte>>(count * size);
      const auto to = contiguous_strides(inputs[i].shape, size);
      if (count != 0) {
        engine::strided_copy(inputs[i].shape, static_cast<int>(size), inputs[i].data, inputs[i].strides.empty() ? to : inputs[i].strides, bytes->data(), to);
      }
      values[i] = std::move(bytes);
    }
    return values;
  }

  // Only for networks that have such inputs: comparing copies them.
  bool same_values(const std::vector<ConstView>& inputs) const {
    const plan::InputValues values = values_of(inputs);
    return std::equal(values.begin(), values.end(), values_.begin(), values_.end(),
                      [](const auto& a, const auto& b) { return a == b || (a != nullptr && b != nullptr && *a == *b); });
  }

  void* staging(engine::AlignedBuffer& buffer, DType type, const Shape& shape) {
    const std::uint64_t bytes = static_cast<std::uint64_t>(graph::element_count(shape, "array")) * size_of(type);
    if (buffer.size() < bytes) {
      engine::AlignedBuffer larger;
      take(larger, bytes);
      staged_bytes_ += bytes - buffer.size();
      impl().budget().give_back(buffer.size());
      buffer = std::move(larger);
    }
    return buffer.data();
  }

  // Arrays that kernels cannot use in place are copied; so are outputs that share memory with an input.
  void stage(const std::vector<ConstView>& inputs, const std::vector<View>& outputs) {
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const ConstView& view = inputs[i];
      sources_[i] = view.data;
      if (usable_in_place(view.data, view.dtype, view.shape, view.strides)) continue;
      void* copy = staging(staged_inputs_[i], view.dtype, view.shape);
      const std::size_t size = size_of(view.dtype);
      const auto to = contiguous_strides(view.shape, size);
      engine::strided_copy(view.shape, static_cast<int>(size), view.data, view.strides.empty() ? to : view.strides, copy, to);
      sources_[i] = copy;
    }
    sort_ranges(outputs, output_ranges_);
    for (std::size_t i = 1; i < output_ranges_.size(); ++i) {  // where any two overlap, so do two neighbours
      const Range &before = output_ranges_[i - 1], &range = output_ranges_[i];
      if (before.last < range.first) continue;
      const auto [one, other] = std::minmax(before.array, range.array);
      throw Error(ErrorCode::input, "output " + plan_->info.outputs[one].name, "shares memory with output " + plan_->info.outputs[other].name,
                  "give each its own array");
    }
    sort_ranges(inputs, input_ranges_);
    for (std::size_t i = 1; i < input_ranges_.size(); ++i)  // inputs may overlap: the last byte of any so far
      input_ranges_[i].last = std::max(input_ranges_[i].last, input_ranges_[i - 1].last);
    for (std::size_t i = 0; i < outputs.size(); ++i) targets_[i] = outputs[i].data;
    for (const Range& range : output_ranges_) {
      const View& view = outputs[range.array];
      const auto behind = std::upper_bound(input_ranges_.begin(), input_ranges_.end(), range.last,
                                           [](std::uintptr_t last, const Range& input) { return last < input.first; });
      const bool shared = behind != input_ranges_.begin() && std::prev(behind)->last >= range.first;
      if (shared || !usable_in_place(view.data, view.dtype, view.shape, view.strides))
        targets_[range.array] = staging(staged_outputs_[range.array], view.dtype, view.shape);
    }
  }

  Model model_;
  int threads_;
  std::shared_ptr<const plan::Plan> plan_;
  std::vector<Shape> shapes_, given_, output_shapes_;
  plan::InputValues values_;
  std::vector<std::string> taps_;
  engine::AlignedBuffer arena_;
  std::vector<engine::AlignedBuffer> staged_inputs_, staged_outputs_;
  std::uint64_t staged_bytes_ = 0;
  std::vector<const void*> sources_;
  std::vector<void*> targets_;
  std::vector<Range> input_ranges_, output_ranges_;  // here so that a run allocates nothing
};

Session::Session(const Model& model, const SessionOptions& options) : impl_(std::make_unique<Impl>(model, options)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

const PlanInfo& Session::prepare(const std::vector<Shape>& input_shapes, const std::vector<std::string>& taps) {
  return impl_->prepare(input_shapes, nullptr, taps).info;
}

const PlanInfo& Session::prepare(const std::vector<ConstView>& inputs, const std::vector<std::string>& taps) { return impl_->prepare(inputs, taps).info; }

void Session::run(const std::vector<ConstView>& inputs, const std::vector<View>& outputs, const std::vector<std::string>& taps) {
  impl_->run(inputs, outputs, taps, nullptr);
}

std::vector<double> Session::profile(const std::vector<ConstView>& inputs, int runs) {
  if (runs < 1) throw Error(ErrorCode::input, "runs", std::to_string(runs), "at least 1 is needed");
  const PlanInfo& info = impl_->prepare(inputs, {}).info;
  std::vector<engine::AlignedBuffer> buffers;
  std::vector<View> outputs;
  for (const ValueInfo& output : info.outputs) {
    Shape shape;
    for (const Dimension& d : output.shape) shape.push_back(d.value);
    buffers.emplace_back(static_cast<std::size_t>(graph::element_count(shape, "output")) * size_of(output.dtype));
    outputs.push_back({buffers.back().data(), output.dtype, shape, {}});
  }
  std::vector<std::vector<double>> samples(info.layers.size());
  std::vector<double> times;
  for (int run = 0; run < runs; ++run) {
    impl_->run(inputs, outputs, {}, &times);
    for (std::size_t i = 0; i < times.size(); ++i) samples[i].push_back(times[i]);
  }
  for (std::size_t i = 0; i < times.size(); ++i) {
    std::sort(samples[i].begin(), samples[i].end());
    times[i] = samples[i][samples[i].size() / 2];
  }
  return times;
}

struct SessionPool::Lease::State {
  Model model;
  SessionOptions options;
  std::size_t keep;
  std::mutex mutex;
  std::vector<std::unique_ptr<Session>> idle;
};

SessionPool::SessionPool(const Model& model, const SessionOptions& options, std::size_t keep)
    : state_(new Lease::State{model, options, keep, {}, {}}) {
  state_->idle.push_back(std::make_unique<Session>(model, options));  // wrong options show here
}
SessionPool::~SessionPool() = default;

SessionPool::Lease SessionPool::take() {
  std::unique_ptr<Session> session;
  {
    const std::lock_guard lock(state_->mutex);
    if (!state_->idle.empty()) {
      session = std::move(state_->idle.back());
      state_->idle.pop_back();
    }
  }
  if (session == nullptr) session = std::make_unique<Session>(state_->model, state_->options);
  return Lease(state_, std::move(session));
}

SessionPool::Lease::Lease(std::shared_ptr<State> state, std::unique_ptr<Session> session) : state_(std::move(state)), session_(std::move(session)) {}
SessionPool::Lease::Lease(Lease&&) noexcept = default;
SessionPool::Lease::~Lease() {
  if (session_ == nullptr) return;
  const std::lock_guard lock(state_->mutex);
  if (state_->idle.size() >= state_->keep) return;
  try {
    state_->idle.push_back(std::move(session_));
  } catch (const std::bad_alloc&) {  // then this one is not kept
  }
}

}  // namespace bittern
