// ReLU and Clip (ReLU6) in loops that the compiler turns into vector code: Caffe's are built for any processor.
#include <algorithm>

#include "caffe/layers/clip_layer.hpp"
#include "caffe/layers/relu_layer.hpp"
#include "fast.hpp"

namespace fast {
namespace {

class ReLU : public caffe::ReLULayer<float> {
 public:
  explicit ReLU(const LayerParameter& param) : ReLULayer(param) {}

 protected:
  void Forward_cpu(const Blobs& bottom, const Blobs& top) override {
    const float* input = bottom[0]->cpu_data();
    float* output = top[0]->mutable_cpu_data();
    const float slope = layer_param_.relu_param().negative_slope();
    const int count = bottom[0]->count();
#pragma omp parallel for simd
    for (int i = 0; i < count; ++i) {
      output[i] = input[i] > 0 ? input[i] : slope * input[i];
    }
  }

  void Backward_cpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) override {
    if (!propagate_down[0]) return;
    const float* input = bottom[0]->cpu_data();
    const float* output_diff = top[0]->cpu_diff();
    float* input_diff = bottom[0]->mutable_cpu_diff();
    const float slope = layer_param_.relu_param().negative_slope();
    const int count = bottom[0]->count();
#pragma omp parallel for simd
    for (int i = 0; i < count; ++i) {
      input_diff[i] = output_diff[i] * (input[i] > 0 ? 1.f : slope);
    }
  }
};

class Clip : public caffe::ClipLayer<float> {
 public:
  explicit Clip(const LayerParameter& param) : ClipLayer(param) {}

 protected:
  void Forward_cpu(const Blobs& bottom, const Blobs& top) override {
    const float* input = bottom[0]->cpu_data();
    float* output = top[0]->mutable_cpu_data();
    const float low = layer_param_.clip_param().min(), high = layer_param_.clip_param().max();
    const int count = bottom[0]->count();
#pragma omp parallel for simd
    for (int i = 0; i < count; ++i) {
      output[i] = std::max(low, std::min(input[i], high));
    }
  }

  void Backward_cpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) override {
    if (!propagate_down[0]) return;
    const float* input = bottom[0]->cpu_data();
    const float* output_diff = top[0]->cpu_diff();
    float* input_diff = bottom[0]->mutable_cpu_diff();
    const float low = layer_param_.clip_param().min(), high = layer_param_.clip_param().max();
    const int count = bottom[0]->count();
#pragma omp parallel for simd
    for (int i = 0; i < count; ++i) {
      input_diff[i] = (input[i] >= low) & (input[i] <= high) ? output_diff[i] : 0.f;
    }
  }
};

const Registration<ReLU> registered_relu("ReLU");
const Registration<Clip> registered_clip("Clip");

}  // namespace
}  // namespace fast
