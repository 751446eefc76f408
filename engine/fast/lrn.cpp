// Local response normalisation across channels, for the beta of AlexNet, CaffeNet and GoogLeNet.
#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/layers/lrn_layer.hpp"
#include "fast.hpp"

namespace fast {
namespace {

// scale ** -0.75, without the general power that takes most of Caffe's time here.
inline float to_minus_three_quarters(float scale) {
  const float root = 1.f / std::sqrt(scale);
  return root * std::sqrt(root);
}

class LRN : public caffe::LRNLayer<float> {
 public:
  explicit LRN(const LayerParameter& param) : LRNLayer(param) {}

 protected:
  void CrossChannelForward_cpu(const Blobs& bottom, const Blobs& top) override {
    if (beta_ != 0.75f) return LRNLayer::CrossChannelForward_cpu(bottom, top);
    const float* input = bottom[0]->cpu_data();
    float *scale = scale_.mutable_cpu_data(), *output = top[0]->mutable_cpu_data();
    const int plane = height_ * width_, around = (size_ - 1) / 2, channels = channels_;
    const float weight = alpha_ / size_, k = k_;
#pragma omp parallel for
    for (int row = 0; row < num_ * channels; ++row) {
      const int channel = row % channels;
      const int low = std::max(0, channel - around), high = std::min(channels, channel + around + 1);
      const float* image = input + size_t(row - channel) * plane;
      float* s = scale + size_t(row) * plane;
      std::fill_n(s, plane, 0.f);
      for (int other = low; other < high; ++other) {
        const float* x = image + size_t(other) * plane;
#pragma omp simd
        for (int i = 0; i < plane; ++i) s[i] += x[i] * x[i];
      }
      const float* x = input + size_t(row) * plane;
      float* y = output + size_t(row) * plane;
#pragma omp simd
      for (int i = 0; i < plane; ++i) {
        s[i] = k + weight * s[i];
        y[i] = x[i] * to_minus_three_quarters(s[i]);
      }
    }
  }

  // With s the scale and y the output, for each channel c:
  //   dx[c] = dy[c] s[c]^-beta - 2 alpha beta / size * x[c] * sum over the channels j around c of dy[j] y[j] / s[j]
  void CrossChannelBackward_cpu(const Blobs& top, const std::vector<bool>& propagate_down,
                                const Blobs& bottom) override {
    if (beta_ != 0.75f) return LRNLayer::CrossChannelBackward_cpu(top, propagate_down, bottom);
    const float *input = bottom[0]->cpu_data(), *scale = scale_.cpu_data();
    const float *output = top[0]->cpu_data(), *output_diff = top[0]->cpu_diff();
    float* input_diff = bottom[0]->mutable_cpu_diff();
    const int plane = height_ * width_, around = (size_ - 1) / 2, channels = channels_;
    const float factor = 2 * alpha_ * beta_ / size_;
#pragma omp parallel
    {
      std::vector<float> ratios(size_t(channels) * plane), sum(plane);
#pragma omp for
      for (int n = 0; n < num_; ++n) {
        const size_t first = size_t(n) * channels * plane;
        const float *s = scale + first, *dy = output_diff + first, *y = output + first, *x = input + first;
        float* dx = input_diff + first;
#pragma omp simd
        for (int i = 0; i < channels * plane; ++i) ratios[i] = dy[i] * y[i] / s[i];
        for (int channel = 0; channel < channels; ++channel) {
          const int low = std::max(0, channel - around), high = std::min(channels, channel + around + 1);
          std::fill(sum.begin(), sum.end(), 0.f);
          for (int other = low; other < high; ++other) {
            const float* ratio = &ratios[size_t(other) * plane];
#pragma omp simd
            for (int i = 0; i < plane; ++i) sum[i] += ratio[i];
          }
          const size_t at = size_t(channel) * plane;
#pragma omp simd
          for (int i = 0; i < plane; ++i) {
            dx[at + i] = dy[at + i] * to_minus_three_quarters(s[at + i]) - factor * x[at + i] * sum[i];
          }
        }
      }
    }
  }
};

const Registration<LRN> registered("LRN");

}  // namespace
}  // namespace fast
