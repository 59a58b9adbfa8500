// bittern._native: the C++ library for the Python package. No logic here: arrays are borrowed, the GIL is released, and
// errors become the package's exceptions.
#include <bittern/bittern.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

namespace py = pybind11;

namespace {

py::tuple shape_of(const bittern::ValueInfo& info) {
  py::tuple shape(info.shape.size());
  for (std::size_t i = 0; i < info.shape.size(); ++i) {
    const auto& d = info.shape[i];
    shape[i] = d.symbol.empty() ? py::object(py::int_(d.value)) : py::object(py::str(d.symbol));
  }
  return shape;
}

py::tuple describe(const bittern::ValueInfo& info) {
  return py::make_tuple(info.name, info.any_shape ? py::object(py::none()) : py::object(shape_of(info)), bittern::name_of(info.dtype));
}

// NumPy has no bfloat16: its bits are shown.
py::dtype numpy_type(bittern::DType type) {
  constexpr const char* codes[] = {"float32", "float16", "uint16", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"};
  return py::dtype(codes[static_cast<int>(type)]);
}

py::list describe(const std::vector<bittern::ValueInfo>& infos) {
  py::list list;
  for (const auto& info : infos) list.append(describe(info));
  return list;
}

py::dict describe(const bittern::LayerInfo& layer) {
  py::dict d;
  d["name"] = layer.name;
  d["op"] = layer.op;
  d["fused"] = layer.fused;
  d["encoding"] = layer.encoding;
  d["kernel"] = layer.kernel;
  d["isa"] = layer.isa;
  d["reason"] = layer.reason;
  d["layout"] = layer.layout;
  d["encoded_bytes"] = layer.encoded_bytes;
  d["packed_bytes"] = layer.packed_bytes;
  d["macs"] = layer.macs;
  d["density"] = layer.density;
  d["dense_kernel"] = layer.dense_kernel;
  d["sparse_kernel"] = layer.sparse_kernel;
  d["dense_estimate"] = layer.dense_estimate;
  d["sparse_estimate"] = layer.sparse_estimate;
  d["output_shape"] = py::tuple(py::cast(layer.output_shape));
  return d;
}

// Throws Error for types the engine has no name for, so that the message is the library's own.
bittern::DType dtype_of(const py::array& array, const std::string& name) {
  const char kind = array.dtype().kind();
  const auto size = array.dtype().itemsize();
  using bittern::DType;
  if (array.dtype().byteorder() != '>') {
    if (kind == 'f') {
      if (size == 4) return DType::f32;
      if (size == 8) return DType::f64;
      if (size == 2) return DType::f16;
    }
    if (kind == 'b') return DType::boolean;
    if (kind == 'i') return size == 1 ? DType::i8 : size == 2 ? DType::i16 : size == 4 ? DType::i32 : DType::i64;
    if (kind == 'u') return size == 1 ? DType::u8 : size == 2 ? DType::u16 : size == 4 ? DType::u32 : DType::u64;
  }
  throw bittern::Error(bittern::ErrorCode::input, name, "the array has type " + py::str(array.dtype()).cast<std::string>(),
                       "it must be float32, integer or bool in native byte order");
}

template <class AnyView, class Data>
AnyView view_of(const py::array& array, Data* data, const std::string& name) {
  AnyView view;
  view.data = data;
  view.dtype = dtype_of(array, name);
  view.shape.assign(array.shape(), array.shape() + array.ndim());
  view.strides.assign(array.strides(), array.strides() + array.ndim());
  return view;
}

// Throws Error(resource) where the system refuses the memory.
py::array new_array(const bittern::ValueInfo& output, const std::vector<py::ssize_t>& shape) {
  try {
    return py::array(numpy_type(output.dtype), shape);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_MemoryError) && !error.matches(PyExc_ValueError)) throw;
    throw bittern::Error(bittern::ErrorCode::resource, "output " + output.name, "the system refused the memory for it", "use smaller inputs");
  }
}

class NativeModel {
 public:
  NativeModel(bittern::Model model, int threads) : model_(std::move(model)), pool_(model_, {threads}) {}

  static bittern::LoadOptions options(const std::string& isa, const std::string& device, std::uint64_t memory_limit, const std::string& checksum,
                                      std::vector<std::string> kernels, bool winograd) {
    bittern::LoadOptions o;
    o.isa = isa;
    o.device = device;
    o.memory_limit = memory_limit;
    if (checksum == "lazy") {
      o.checksum = bittern::Checksum::lazy;
    } else if (checksum == "skip") {
      o.checksum = bittern::Checksum::skip;
    } else if (checksum != "eager") {
      throw bittern::Error(bittern::ErrorCode::input, "checksum", "unknown value " + checksum, "allowed are eager, lazy, skip");
    }
    o.kernels = std::move(kernels);
    o.winograd = winograd;
    return o;
  }

  const bittern::Model& model() const { return model_; }

  // `inputs`: arrays, or none at all for shapes alone.
  py::tuple plan(const std::vector<bittern::Shape>& shapes, const std::vector<py::array>& inputs, const std::vector<std::string>& taps) {
    const auto views = input_views(inputs);
    auto session = pool_.take();
    const bittern::PlanInfo* info = nullptr;
    {
      const py::gil_scoped_release release;
      info = views.empty() ? &session->prepare(shapes, taps) : &session->prepare(views, taps);
    }
    py::list layers;
    for (const auto& layer : info->layers) layers.append(describe(layer));
    return py::make_tuple(layers, describe(info->outputs), info->arena_bytes);
  }

  // `outputs`: one array or None for each output; None is allocated here. Returns all arrays.
  py::list run(const std::vector<py::array>& inputs, const std::vector<py::object>& outputs, const std::vector<std::string>& taps) {
    const auto views = input_views(inputs);
    auto session = pool_.take();
    const bittern::PlanInfo* info = nullptr;
    {
      const py::gil_scoped_release release;
      info = &session->prepare(views, taps);
    }
    py::list results;
    std::vector<bittern::View> targets;
    for (std::size_t i = 0; i < info->outputs.size(); ++i) {
      const auto& output = info->outputs[i];
      py::array array;
      if (i < outputs.size() && !outputs[i].is_none()) {
        array = outputs[i].cast<py::array>();
        if (!array.writeable()) throw bittern::Error(bittern::ErrorCode::input, "output " + output.name, "the array is read-only", "give one that can be written to");
      } else {
        std::vector<py::ssize_t> shape;
        for (const auto& d : output.shape) shape.push_back(static_cast<py::ssize_t>(d.value));
        array = new_array(output, shape);
      }
      targets.push_back(view_of<bittern::View>(array, array.mutable_data(), "output " + output.name));
      results.append(array);
    }
    const py::gil_scoped_release release;
    session->run(views, targets, taps);
    return results;
  }

  std::vector<double> profile(const std::vector<py::array>& inputs, int runs) {
    const auto views = input_views(inputs);
    auto session = pool_.take();
    const py::gil_scoped_release release;
    return session->profile(views, runs);
  }

  py::array constant(const std::string& name) const {
    const auto info = model_.constant_info(name);
    std::vector<py::ssize_t> shape;
    bittern::View view;
    for (const auto& d : info.shape) {
      shape.push_back(static_cast<py::ssize_t>(d.value));
      view.shape.push_back(d.value);
    }
    py::array array(numpy_type(info.dtype), shape);
    view.data = array.mutable_data();
    view.dtype = info.dtype;
    const py::gil_scoped_release release;
    model_.read_constant(name, view);
    return array;
  }

 private:
  std::vector<bittern::ConstView> input_views(const std::vector<py::array>& inputs) const {
    std::vector<bittern::ConstView> views;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      const std::string name = "input " + (i < model_.inputs().size() ? model_.inputs()[i].name : std::to_string(i));
      views.push_back(view_of<bittern::ConstView>(inputs[i], inputs[i].data(), name));
    }
    return views;
  }

  bittern::Model model_;
  bittern::SessionPool pool_;
};

// Messages may hold a path that is not UTF-8.
py::str text(const std::string& bytes) {
  return py::reinterpret_steal<py::str>(PyUnicode_DecodeUTF8(bytes.data(), static_cast<Py_ssize_t>(bytes.size()), "surrogateescape"));
}

void translate(const bittern::Error& error) {
  constexpr const char* names[] = {"FormatError", "UnsupportedError", "InputError", "ResourceError", "InputError"};
  const py::object type = py::module_::import("bittern.errors").attr(names[static_cast<int>(error.code())]);
  const py::object value = type(text(error.place()), text(error.problem()), text(error.remedy()));
  PyErr_SetObject(type.ptr(), value.ptr());
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "The C++ engine. Use it through the package bittern.";
  py::register_local_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const bittern::Error& error) {
      translate(error);
    }
  });

  py::class_<NativeModel>(m, "Model")
      .def_static("load", [](const std::string& path, int threads, const std::string& isa, const std::string& device, std::uint64_t memory_limit,
                             const std::string& checksum, std::vector<std::string> kernels, bool winograd) {
        const auto options = NativeModel::options(isa, device, memory_limit, checksum, std::move(kernels), winograd);
        const py::gil_scoped_release release;
        return new NativeModel(bittern::Model::load(path, options), threads);
      }, py::arg("path"), py::arg("threads"), py::arg("isa"), py::arg("device"), py::arg("memory_limit"), py::arg("checksum"), py::arg("kernels"), py::arg("winograd"))
      .def_static("from_bytes", [](const py::bytes& data, const std::string& place, int threads, const std::string& isa, const std::string& device,
                                   std::uint64_t memory_limit, const std::string& checksum, std::vector<std::string> kernels, bool winograd) {
        const auto options = NativeModel::options(isa, device, memory_limit, checksum, std::move(kernels), winograd);
        char* bytes = nullptr;
        Py_ssize_t size = 0;
        PyBytes_AsStringAndSize(data.ptr(), &bytes, &size);
        const py::gil_scoped_release release;
        return new NativeModel(bittern::Model::from_bytes({reinterpret_cast<const std::byte*>(bytes), static_cast<std::size_t>(size)}, place, options), threads);
      }, py::arg("data"), py::arg("place"), py::arg("threads"), py::arg("isa"), py::arg("device"), py::arg("memory_limit"), py::arg("checksum"), py::arg("kernels"), py::arg("winograd"))
      .def_property_readonly("inputs", [](const NativeModel& self) { return describe(self.model().inputs()); })
      .def_property_readonly("shape_deciding_inputs", [](const NativeModel& self) { return self.model().shape_deciding_inputs(); })
      .def_property_readonly("outputs", [](const NativeModel& self) { return describe(self.model().outputs()); })
      .def_property_readonly("metadata", [](const NativeModel& self) { return self.model().metadata(); })
      .def_property_readonly("name", [](const NativeModel& self) { return self.model().name(); })
      .def_property_readonly("isa", [](const NativeModel& self) { return self.model().isa(); })
      .def_property_readonly("values", [](const NativeModel& self) { return self.model().values(); })
      .def_property_readonly("constants", [](const NativeModel& self) { return self.model().constants(); })
      .def_property_readonly("weight_bytes", [](const NativeModel& self) { return self.model().weight_bytes(); })
      .def("constant", &NativeModel::constant, py::arg("name"))
      .def("plan", &NativeModel::plan, py::arg("shapes"), py::arg("inputs"), py::arg("taps"))
      .def("run", &NativeModel::run, py::arg("inputs"), py::arg("outputs"), py::arg("taps"))
      .def("profile", &NativeModel::profile, py::arg("inputs"), py::arg("runs"));

  m.def("kernels", [] {
    py::list list;
    for (const auto& k : bittern::kernels()) list.append(py::make_tuple(k.name, k.loop, k.isa, k.usable, k.rows, k.cols, k.description));
    return list;
  });
  m.def("cpu", [] {
    const auto info = bittern::cpu();
    py::dict d;
    d["name"] = info.name;
    d["features"] = info.features;
    d["isa_levels_built"] = info.isa_built;
    d["isa_levels_usable"] = info.isa_usable;
    d["isa"] = info.isa;
    d["cpus_granted"] = info.cpus_granted;
    d["cpus_present"] = info.cpus_present;
    d["memory_granted"] = info.memory_granted;
    return d;
  });
  m.def("limits", [](const std::string& isa, int threads) {
    bittern::LimitInfo info;
    {
      const py::gil_scoped_release release;
      info = bittern::limits(isa, threads);
    }
    py::list caches;
    for (const auto& cache : info.caches) caches.append(py::make_tuple(cache.level, cache.bytes, cache.load_gbs));
    py::dict d;
    d["isa"] = info.isa;
    d["threads"] = info.threads;
    d["fma_gflops"] = info.fma_gflops;
    d["int8_gops"] = info.int8_gops;
    d["caches"] = caches;
    d["memory_load_gbs"] = info.memory_load_gbs;
    d["memory_copy_gbs"] = info.memory_copy_gbs;
    d["bit_gops"] = info.bit_gops;
    return d;
  }, py::arg("isa"), py::arg("threads"));
  m.def("panel_limit", &bittern::panel_limit, py::arg("vectors"), py::arg("entries"), py::arg("isa"), py::arg("threads"),
        py::call_guard<py::gil_scoped_release>());
  m.def("version", &bittern::version);
  m.def("compiler", &bittern::compiler);
}
