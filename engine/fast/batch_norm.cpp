// BatchNorm and Scale, plane by plane, where Caffe makes a matrix product of every sum and every broadcast.
#include <algorithm>
#include <cmath>
#include <vector>

#include "caffe/layers/batch_norm_layer.hpp"
#include "caffe/layers/scale_layer.hpp"
#include "fast.hpp"

namespace fast {
namespace {

// Sums of values of one plane are single, of planes double precision.
float sum_of(const float* x, int count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < count; ++i) sum += x[i];
  return sum;
}

float squares_around(float mean, const float* x, int count) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int i = 0; i < count; ++i) sum += (x[i] - mean) * (x[i] - mean);
  return sum;
}

// Several passes go over all values of a channel, of which each image has a plane. Planes of neighbouring channels are
// neighbours in memory: a group of channels is taken at a time, as many as stay in the cache from pass to pass.
struct Planes {
  int images, channels, plane;
  static const int CACHED = 1 << 17;  // values; half a megabyte
  int group() const { return std::max(1, std::min(channels, CACHED / (images * plane))); }
  int groups() const { return (channels + group() - 1) / group(); }
  double count() const { return double(images) * plane; }
  size_t at(int image, int channel) const { return (size_t(image) * channels + channel) * plane; }
  // Calls one(channel, place of its plane) for the channels from `first` to before `last` of each image.
  template <typename F>
  void each(int first, int last, F one) const {
    for (int n = 0; n < images; ++n) {
      for (int c = first; c < last; ++c) one(c, at(n, c));
    }
  }
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
    const Planes all = planes(*bottom[0]);
    const bool global = use_global_stats_;
    const float inverse_weight = weight == 0 ? 0 : 1 / weight, fraction = moving_average_fraction_;
    const float unbiased = all.count() > 1 ? all.count() / (all.count() - 1) : 1;
#pragma omp parallel for
    for (int number = 0; number < all.groups(); ++number) {
      const int first = number * all.group(), last = std::min(channels_, first + all.group());
      if (global) {
        for (int c = first; c < last; ++c) {
          means[c] = mean_sum[c] * inverse_weight;
          deviations[c] = std::sqrt(variance_sum[c] * inverse_weight + eps_);
        }
      } else {
        std::vector<double> sums(last - first), squares(last - first);
        all.each(first, last, [&](int c, size_t at) { sums[c - first] += sum_of(input + at, all.plane); });
        for (int c = first; c < last; ++c) means[c] = sums[c - first] / all.count();
        all.each(first, last, [&](int c, size_t at) {
          squares[c - first] += squares_around(means[c], input + at, all.plane);
        });
        for (int c = first; c < last; ++c) {
          const float variance = squares[c - first] / all.count();
          deviations[c] = std::sqrt(variance + eps_);
          mean_sum[c] = means[c] + fraction * mean_sum[c];
          variance_sum[c] = unbiased * variance + fraction * variance_sum[c];
        }
      }
      all.each(first, last, [&](int c, size_t at) {
        const float mean = means[c], inverse = 1 / deviations[c];
        const float* value = input + at;
        float* to = output + at;
        const int count = all.plane;
#pragma omp simd
        for (int i = 0; i < count; ++i) to[i] = (value[i] - mean) * inverse;
        if (kept) std::copy_n(to, count, kept + at);
      });
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
    const Planes all = planes(*bottom[0]);
    const bool global = use_global_stats_;
#pragma omp parallel for
    for (int number = 0; number < all.groups(); ++number) {
      const int first = number * all.group(), last = std::min(channels_, first + all.group());
      // The normalised value is (value - shift) * stretch.
      const auto shift = [&](int c) { return in_place ? 0 : means[c]; };
      const auto stretch = [&](int c) { return in_place ? 1 : 1 / deviations[c]; };
      std::vector<double> sums(last - first), products(last - first);
      if (!global) {
        all.each(first, last, [&](int c, size_t at) {
          const float *diff = output_diff + at, *value = values + at;
          const float moved = shift(c), stretched = stretch(c);
          const int count = all.plane;
          float sum = 0, product = 0;
#pragma omp simd reduction(+ : sum, product)
          for (int i = 0; i < count; ++i) {
            sum += diff[i];
            product += diff[i] * ((value[i] - moved) * stretched);
          }
          sums[c - first] += sum;
          products[c - first] += product;
        });
      }
      all.each(first, last, [&](int c, size_t at) {
        const float moved = shift(c), stretched = stretch(c), inverse = 1 / deviations[c];
        const float mean_diff = sums[c - first] / all.count(), mean_product = products[c - first] / all.count();
        const float *diff = output_diff + at, *value = values + at;
        float* to = input_diff + at;
        const int count = all.plane;
#pragma omp simd
        for (int i = 0; i < count; ++i) {
          const float y = (value[i] - moved) * stretched;
          to[i] = (diff[i] - mean_diff - mean_product * y) * inverse;
        }
      });
    }
  }

 private:
  Planes planes(const Blob<float>& blob) const {
    return {blob.shape(0), channels_, blob.count() / (blob.shape(0) * channels_)};
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
    const int planes = outer_dim_ * scale_dim_, plane = inner_dim_, channels = scale_dim_;
    // In the order of memory, and what the planes of a channel come to is summed afterwards.
    std::vector<float> products(planes), sums(planes);
#pragma omp parallel for
    for (int row = 0; row < planes; ++row) {
      const float *diff = output_diff + size_t(row) * plane, *value = input + size_t(row) * plane;
      float product = 0, sum = 0;
#pragma omp simd reduction(+ : product, sum)
      for (int i = 0; i < plane; ++i) {
        product += diff[i] * value[i];
        sum += diff[i];
      }
      products[row] = product;
      sums[row] = sum;
      if (!input_diff) continue;
      const float factor = factors[row % channels];
      float* to = input_diff + size_t(row) * plane;
#pragma omp simd
      for (int i = 0; i < plane; ++i) to[i] = diff[i] * factor;
    }
    for (int c = 0; c < channels; ++c) {
      double product = 0, sum = 0;
      for (int row = c; row < planes; row += channels) product += products[row], sum += sums[row];
      if (factor_diff) factor_diff[c] += product;
      if (bias_diff) bias_diff[c] += sum;
    }
  }

 private:
  bool able(const Blobs& bottom) const { return bottom.size() == 1 && inner_dim_ > 1; }
};

const Registration<BatchNorm> registered_batch_norm("BatchNorm");
const Registration<Scale> registered_scale("Scale");

}  // namespace
}  // namespace fast
