// Sessions of the C interface.
#include <atomic>
#include <cstddef>
#include <string>
#include <vector>

#include <bittern/session.h>

#include "c_api/error.h"
#include "c_api/values.h"

using bittern::Error;
using bittern::ErrorCode;
using bittern::c_api::guarded;
using bittern::c_api::needed;
using bittern::c_api::read_sizes;

struct bittern_session {
  bittern_session(const bittern::Model& network, const bittern::SessionOptions& options) : model(network), session(network, options) {}

  bittern::Model model;
  bittern::Session session;
  bittern::c_api::Values outputs;  // of the last prepare
  std::atomic<bool> busy{false};

  // Kept, so that a run allocates nothing.
  std::vector<bittern::Shape> shapes;
  std::vector<bittern::ConstView> sources;
  std::vector<bittern::View> targets;
};

namespace {

// Two threads in one session would overwrite each other's intermediate results: the second is told.
class Turn {
 public:
  explicit Turn(std::atomic<bool>& busy) : busy_(busy) {
    if (!busy_.exchange(true, std::memory_order_acquire)) return;
    throw Error(ErrorCode::input, "session", "another thread is using it", "give each thread a session of its own");
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() { busy_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool>& busy_;
};

[[noreturn]] void wrong_count(const char* what, std::size_t given, std::size_t wanted) {
  throw Error(ErrorCode::input, std::string(what) + "s", std::to_string(given) + " given", std::to_string(wanted) + " are needed");
}

template <class Given, class AnyView>
void read_views(const Given* given, std::size_t count, std::size_t wanted, const char* what, std::vector<AnyView>& views) {
  if (count != wanted) wrong_count(what, count, wanted);
  if (count != 0) needed(given, "array of views");
  views.resize(count);
  for (std::size_t i = 0; i < count; ++i) {
    const Given& from = given[i];
    AnyView& to = views[i];
    to.data = from.data;
    read_sizes(from.sizes, from.rank, what, i, to.shape);
    if (bittern_dtype_size(from.dtype) == 0) {
      const std::string place = std::string(what) + " " + std::to_string(i);
      throw Error(ErrorCode::input, place, "unknown dtype " + std::to_string(from.dtype), "use one of BITTERN_F32, ...");
    }
    to.dtype = static_cast<bittern::DType>(from.dtype);
    to.strides.assign(from.strides, from.strides + (from.strides != nullptr ? from.rank : 0));
  }
}

}  // namespace

bittern_code bittern_session_new(const bittern_model* model, const bittern_session_options* options, bittern_session** session,
                                 bittern_error** error) {
  return guarded(error, [&] {
    needed(session, "session") = nullptr;
    const bittern::SessionOptions converted{.threads = bittern::c_api::read_options(options, "session_options").threads};
    *session = new bittern_session(needed(model, "model").model, converted);
  });
}

void bittern_session_free(bittern_session* session) { delete session; }

bittern_code bittern_session_prepare(bittern_session* session, const bittern_shape* inputs, size_t input_count, bittern_error** error) {
  return guarded(error, [&] {
    bittern_session& self = needed(session, "session");
    const Turn turn(self.busy);
    if (input_count != self.model.inputs().size()) wrong_count("input", input_count, self.model.inputs().size());
    if (input_count != 0) needed(inputs, "inputs");
    self.shapes.resize(input_count);
    for (std::size_t i = 0; i < input_count; ++i) read_sizes(inputs[i].sizes, inputs[i].rank, "input", i, self.shapes[i]);
    self.outputs = bittern::c_api::Values(self.session.prepare(self.shapes).outputs);
  });
}

size_t bittern_session_output_count(const bittern_session* session) { return session != nullptr ? session->outputs.size() : 0; }

const bittern_value* bittern_session_output(const bittern_session* session, size_t index) {
  return session != nullptr ? session->outputs.at(index) : nullptr;
}

bittern_code bittern_run(bittern_session* session, const bittern_const_view* inputs, size_t input_count, const bittern_view* outputs,
                         size_t output_count, bittern_error** error) {
  return guarded(error, [&] {
    bittern_session& self = needed(session, "session");
    const Turn turn(self.busy);
    read_views(inputs, input_count, self.model.inputs().size(), "input", self.sources);
    read_views(outputs, output_count, self.model.outputs().size(), "output", self.targets);
    self.session.run(self.sources, self.targets);
  });
}
