// Running a model: a session owns scratch memory and plans. One session serves one caller at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <bittern/model.h>

namespace bittern {

struct SessionOptions {
  int threads = 0;  // at most this many, the caller's included; 0: all CPUs granted to the process
};

class BITTERN_EXPORT Session {
 public:
  explicit Session(const Model& model, const SessionOptions& options = {});
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // The plan for these input shapes, in the order of model.inputs(). `taps` are names of further values to return after
  // the model's outputs: intermediate values of the unfused network. Plans are cached; the reference holds until the
  // next call on this session. Throws Error: input (also where an input decides shapes by its elements), unsupported, resource,
  // format (damaged weights).
  const PlanInfo& prepare(const std::vector<Shape>& input_shapes, const std::vector<std::string>& taps = {});
  // The same for these inputs: the elements of those that decide shapes are part of what a plan is made for.
  const PlanInfo& prepare(const std::vector<ConstView>& inputs, const std::vector<std::string>& taps = {});

  // Inputs in the order of model.inputs(), outputs in the order of prepare().outputs. Arrays may be strided; inputs are
  // never written to. Allocates nothing after the first run at a shape if arrays are contiguous. Throws like prepare.
  void run(const std::vector<ConstView>& inputs, const std::vector<View>& outputs, const std::vector<std::string>& taps = {});

  // Milliseconds that each layer of the plan takes: the median of `runs` runs.
  std::vector<double> profile(const std::vector<ConstView>& inputs, int runs);

 private:
  class BITTERN_HIDDEN Impl;
  std::unique_ptr<Impl> impl_;
};

// Sessions for callers that come at once: keeps some for reuse. Safe to use from many threads.
class BITTERN_EXPORT SessionPool {
 public:
  explicit SessionPool(const Model& model, const SessionOptions& options = {}, std::size_t keep = 8);
  ~SessionPool();

  // A session for this scope; it goes back to the pool at the end.
  class BITTERN_EXPORT Lease {
   public:
    Lease(Lease&&) noexcept;
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    Session& operator*() const noexcept { return *session_; }
    Session* operator->() const noexcept { return session_.get(); }

   private:
    friend class SessionPool;
    struct BITTERN_HIDDEN State;
    Lease(std::shared_ptr<State> state, std::unique_ptr<Session> session);
    std::shared_ptr<State> state_;
    std::unique_ptr<Session> session_;
  };
  Lease take();

 private:
  std::shared_ptr<Lease::State> state_;
};

}  // namespace bittern
