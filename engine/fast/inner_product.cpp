// InnerProduct on oneDNN's matrix product.
#include "caffe/layers/inner_product_layer.hpp"
#include "fast.hpp"

namespace fast {
namespace {

class InnerProduct : public caffe::InnerProductLayer<float> {
 public:
  explicit InnerProduct(const LayerParameter& param) : InnerProductLayer(param) {}

 protected:
  void Forward_cpu(const Blobs& bottom, const Blobs& top) override {
    float* output = top[0]->mutable_cpu_data();
    multiply(false, !transpose_, M_, N_, K_, bottom[0]->cpu_data(), blobs_[0]->cpu_data(), 0.f, output);
    if (!bias_term_) return;
    const float* bias = blobs_[1]->cpu_data();
    for (int row = 0; row < M_; ++row) {
#pragma omp simd
      for (int i = 0; i < N_; ++i) output[size_t(row) * N_ + i] += bias[i];
    }
  }

  void Backward_cpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) override {
    const float* output_diff = top[0]->cpu_diff();
    if (param_propagate_down_[0]) {
      const float* input = bottom[0]->cpu_data();
      float* weight_diff = blobs_[0]->mutable_cpu_diff();
      if (transpose_) {
        multiply(true, false, K_, N_, M_, input, output_diff, 1.f, weight_diff);
      } else {
        multiply(true, false, N_, K_, M_, output_diff, input, 1.f, weight_diff);
      }
    }
    if (bias_term_ && param_propagate_down_[1]) {
      float* bias_diff = blobs_[1]->mutable_cpu_diff();
      for (int row = 0; row < M_; ++row) {
#pragma omp simd
        for (int i = 0; i < N_; ++i) bias_diff[i] += output_diff[size_t(row) * N_ + i];
      }
    }
    if (propagate_down[0]) {
      multiply(false, transpose_, M_, K_, N_, output_diff, blobs_[0]->cpu_data(), 0.f, bottom[0]->mutable_cpu_diff());
    }
  }
};

const Registration<InnerProduct> registered("InnerProduct");

}  // namespace
}  // namespace fast
