// BatchNorm and Scale, a channel at a time, where Caffe makes a matrix product of every sum and every broadcast.
#include <algorithm>
#include <cmath>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/layers/scale_layer.hpp"
#include "fast.hpp"

namespace fast {
namespace {

// The values of one channel lie in `images` pieces of `plane` values, `stride` apart.
struct Channel {
  int images, plane;
  size_t stride;
  double count() const { return double(images) * plane; }
};

class BatchNorm : public caffe::BatchNormLayer<float> {
 public:
  explicit BatchNorm(const LayerParameter& param) : BatchNormLayer(param) {}

 protected:
  void Forward_cpu(const Blobs& bottom, const Blobs& top) override {
    const bool in_place = bottom[0] == top[0];
    const float* input = bottom[0]->cpu_data();
    float* output = top[0]->mutable_cpu_data();
    // In place the backward pass has nothing else to know the normalised values from.
    float* kept = in_place ? x_norm_.mutable_cpu_data() : nullptr;
    float *means = mean_.mutable_cpu_data(), *deviations = variance_.mutable_cpu_data();
    float *mean_sum = blobs_[0]->mutable_cpu_data(), *variance_sum = blobs_[1]->mutable_cpu_data();
    float& weight = blobs_[2]->mutable_cpu_data()[0];
    const Channel one = channel(*bottom[0]);
    const bool global = use_global_stats_;
    const float inverse_weight = weight == 0 ? 0 : 1 / weight, fraction = moving_average_fraction_, eps = eps_;
    const float unbiased = one.count() > 1 ? one.count() / (one.count() - 1) : 1;
#pragma omp parallel for
    for (int c = 0; c < channels_; ++c) {
      const float* x = input + size_t(c) * one.plane;
      float mean, variance;
      if (global) {
        mean = mean_sum[c] * inverse_weight;
        variance = variance_sum[c] * inverse_weight;
      } else {
        mean = sum_of(one, x) / one.count();
        variance = squares_around(one, x, mean) / one.count();
        mean_sum[c] = mean + fraction * mean_sum[c];
        variance_sum[c] = unbiased * variance + fraction * variance_sum[c];
      }
      const float deviation = std::sqrt(variance + eps), inverse = 1 / deviation;
      means[c] = mean;
      deviations[c] = deviation;
      for (int n = 0; n < one.images; ++n) {
        const size_t at = size_t(c) * one.plane + n * one.stride;
#pragma omp simd
        for (int i = 0; i < one.plane; ++i) output[at + i] = (input[at + i] - mean) * inverse;
        if (kept) std::copy_n(output + at, one.plane, kept + at);
      }
    }
    if (!global) weight = weight * fraction + 1;
  }

  // With y the normalised values and s the deviation: dx = (dy - mean(dy) - mean(dy y) y) / s
  void Backward_cpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) override {
    if (!propagate_down[0]) return;
    const bool in_place = bottom[0] == top[0];
    const float *output_diff = top[0]->cpu_diff(), *means = mean_.cpu_data(), *deviations = variance_.cpu_data();
    float* input_diff = bottom[0]->mutable_cpu_diff();
    const float* values = in_place ? x_norm_.cpu_data() : bottom[0]->cpu_data();
    const Channel one = channel(*bottom[0]);
    const bool global = use_global_stats_;
#pragma omp parallel for
    for (int c = 0; c < channels_; ++c) {
      const float inverse = 1 / deviations[c];
      // The normalised value is (value - shift) * stretch.
      const float shift = in_place ? 0 : means[c], stretch = in_place ? 1 : inverse;
      double sum = 0, product = 0;
      for (int n = 0; !global && n < one.images; ++n) {
        const size_t at = size_t(c) * one.plane + n * one.stride;
        float s = 0, p = 0;
#pragma omp simd reduction(+ : s, p)
        for (int i = 0; i < one.plane; ++i) {
          s += output_diff[at + i];
          p += output_diff[at + i] * ((values[at + i] - shift) * stretch);
        }
        sum += s;
        product += p;
      }
      const float mean_diff = sum / one.count(), mean_product = product / one.count();
      for (int n = 0; n < one.images; ++n) {
        const size_t at = size_t(c) * one.plane + n * one.stride;
#pragma omp simd
        for (int i = 0; i < one.plane; ++i) {
          const float y = (values[at + i] - shift) * stretch;
          input_diff[at + i] = (output_diff[at + i] - mean_diff - mean_product * y) * inverse;
        }
      }
    }
  }

 private:
  Channel channel(const Blob<float>& blob) const {
    const int images = blob.shape(0), plane = blob.count() / (images * channels_);
    return {images, plane, size_t(plane) * channels_};
  }

  // Sums of up to a plane are single, of planes double precision.
  static double sum_of(const Channel& one, const float* x) {
    double total = 0;
    for (int n = 0; n < one.images; ++n, x += one.stride) {
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int i = 0; i < one.plane; ++i) sum += x[i];
      total += sum;
    }
    return total;
  }

  static double squares_around(const Channel& one, const float* x, float mean) {
    double total = 0;
    for (int n = 0; n < one.images; ++n, x += one.stride) {
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int i = 0; i < one.plane; ++i) sum += (x[i] - mean) * (x[i] - mean);
      total += sum;
    }
    return total;
  }
};

// A factor, and perhaps a bias, for each channel; other uses of the layer are Caffe's.
class Scale : public caffe::ScaleLayer<float> {
 public:
  explicit Scale(const LayerParameter& param) : ScaleLayer(param) {}

 protected:
  void Forward_cpu(const Blobs& bottom, const Blobs& top) override {
    if (!able(bottom)) return ScaleLayer::Forward_cpu(bottom, top);
    const float* input = bottom[0]->cpu_data();
    float* output = top[0]->mutable_cpu_data();
    // In place the backward pass has nothing else to know the input from.
    float* kept = bottom[0] == top[0] ? temp_.mutable_cpu_data() : nullptr;
    const float *factors = blobs_[0]->cpu_data(), *biases = bias_layer_ ? blobs_[bias_param_id_]->cpu_data() : nullptr;
    const int planes = outer_dim_ * scale_dim_, plane = inner_dim_, channels = scale_dim_;
#pragma omp parallel for
    for (int row = 0; row < planes; ++row) {
      const size_t at = size_t(row) * plane;
      const float factor = factors[row % channels], bias = biases ? biases[row % channels] : 0;
      if (kept) std::copy_n(input + at, plane, kept + at);
#pragma omp simd
      for (int i = 0; i < plane; ++i) output[at + i] = input[at + i] * factor + bias;
    }
  }

  void Backward_cpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) override {
    if (!able(bottom)) return ScaleLayer::Backward_cpu(top, propagate_down, bottom);
    const float* input = (bottom[0] == top[0] ? &temp_ : bottom[0])->cpu_data();
    const float *output_diff = top[0]->cpu_diff(), *factors = blobs_[0]->cpu_data();
    float* input_diff = propagate_down[0] ? bottom[0]->mutable_cpu_diff() : nullptr;
    const bool bias = bias_layer_ && param_propagate_down_.back();
    float* factor_diff = param_propagate_down_[0] ? blobs_[0]->mutable_cpu_diff() : nullptr;
    float* bias_diff = bias ? blobs_[bias_param_id_]->mutable_cpu_diff() : nullptr;
    const int plane = inner_dim_, channels = scale_dim_;
#pragma omp parallel for
    for (int c = 0; c < channels; ++c) {
      double products = 0, sums = 0;
      for (int n = 0; n < outer_dim_; ++n) {
        const size_t at = (size_t(n) * channels + c) * plane;
        float product = 0, sum = 0;
#pragma omp simd reduction(+ : product, sum)
        for (int i = 0; i < plane; ++i) {
          product += output_diff[at + i] * input[at + i];
          sum += output_diff[at + i];
        }
        products += product;
        sums += sum;
        if (!input_diff) continue;
        const float factor = factors[c];
#pragma omp simd
        for (int i = 0; i < plane; ++i) input_diff[at + i] = output_diff[at + i] * factor;
      }
      if (factor_diff) factor_diff[c] += products;
      if (bias_diff) bias_diff[c] += sums;
    }
  }

 private:
  bool able(const Blobs& bottom) const { return bottom.size() == 1 && inner_dim_ > 1; }
};

const Registration<BatchNorm> registered_batch_norm("BatchNorm");
const Registration<Scale> registered_scale("Scale");

}  // namespace
}  // namespace fast
