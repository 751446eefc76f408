// What the layers of this library share: how they take Caffe's place, and oneDNN on Caffe's memory.
//
// A layer here is a subclass of Caffe's own. It computes the same values from the same parameters into the same
// blobs, and calls its base class for every shape or setting that it does not do. Nothing in Caffe is changed: the
// creators in its layer registry are replaced when the library is loaded, for float alone.
#pragma once

#include <string>
#include <vector>

#include <oneapi/dnnl/dnnl.hpp>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/layer_factory.hpp"
#include "caffe/solver_factory.hpp"

namespace fast {

using caffe::Blob;
using caffe::Layer;
using caffe::LayerParameter;
using Blobs = std::vector<Blob<float>*>;

using Creator = caffe::LayerRegistry<float>::Creator;

// Puts `creator` in the place of Caffe's own for layers of `type`; see registry.cpp.
void take_over(const std::string& type, Creator creator);

// The same for solvers of `type`.
void take_over_solver(const std::string& type, caffe::SolverRegistry<float>::Creator creator);

// Lets handlers of signals do no harm to the memory of this process; see signals.cpp. To be called by the thread that
// computes, before it does.
void keep_signals_off_the_heap();

// One for each layer class of this library, made when it is loaded.
template <typename L>
struct Registration {
  explicit Registration(const std::string& type) { take_over(type, create); }
  static boost::shared_ptr<Layer<float>> create(const LayerParameter& param) {
    return boost::shared_ptr<Layer<float>>(new L(param));
  }
};

inline dnnl::engine& engine() {
  static dnnl::engine one(dnnl::engine::kind::cpu, 0);
  return one;
}

inline dnnl::stream& stream() {
  static thread_local dnnl::stream one(engine());
  return one;
}

// Memory that one primitive needs while it runs, by purpose. All layers of a thread share it: it is as large as the
// largest layer needs, where a buffer in each layer would double the memory of a net.
enum Purpose { SOURCE, DESTINATION, WEIGHTS, FILTER_DIFF, BIAS, SCRATCHPAD, PURPOSES };
float* scratch(Purpose purpose, size_t bytes);

// `plain` in the layout that a primitive wants: itself if that is the layout it has, else reordered into scratch.
dnnl::memory in_layout(const dnnl::memory& plain, const dnnl::memory::desc& wanted, Purpose purpose);

// Where a primitive that writes the layout `written` may write, so that `deliver` brings it to `plain`.
dnnl::memory room_for(const dnnl::memory& plain, const dnnl::memory::desc& written, Purpose purpose);
void deliver(const dnnl::memory& written, const dnnl::memory& plain);

// c = a * b + keep * c, rows one after another in memory; a turned matrix is stored transposed. a is m x k, b k x n.
inline void multiply(bool a_turned, bool b_turned, int m, int n, int k, const float* a, const float* b, float keep,
                     float* c) {
  const auto status = dnnl_sgemm(a_turned ? 'T' : 'N', b_turned ? 'T' : 'N', m, n, k, 1.f, a, a_turned ? m : k, b,
                                 b_turned ? k : n, keep, c, n);
  CHECK_EQ(status, dnnl_success) << "oneDNN's matrix product failed";
}

}  // namespace fast
