// Max and average pooling, sixteen planes at a time.
#include <algorithm>
#include <cfloat>
#include <cstring>
#include <vector>

#include "caffe/layers/pooling_layer.hpp"
#include "fast.hpp"

namespace fast {
namespace {

struct Geometry {
  int height, width, rows, columns, kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w;
};

// The input of one output: what lies inside the image, and how many values the mean is taken over, padding included.
struct Window {
  int top, bottom, left, right, size;
};

inline Window window_of(const Geometry& g, int row, int column) {
  const int top = row * g.stride_h - g.pad_h, left = column * g.stride_w - g.pad_w;
  const int bottom = std::min(top + g.kernel_h, g.height + g.pad_h);
  const int right = std::min(left + g.kernel_w, g.width + g.pad_w);
  return {std::max(top, 0), std::min(bottom, g.height), std::max(left, 0), std::min(right, g.width),
          (bottom - top) * (right - left)};
}

// Planes are done LANES at a time, side by side in memory: rows of a net's later layers are shorter than a vector, and
// an inner loop over planes is always full. The order of comparisons for one output is Caffe's, so that the first of
// equal values wins here too.
constexpr int LANES = 16;

// Planes that lie one after another, `size` values each, to values that lie side by side; zeros for lanes without one.
void interleave(const float* planes, int count, int size, float* side_by_side) {
  if (count < LANES) std::fill_n(side_by_side, size_t(size) * LANES, 0.f);
  for (int first = 0; first < size; first += LANES) {
    const int last = std::min(size, first + LANES);
    for (int lane = 0; lane < count; ++lane) {
      for (int i = first; i < last; ++i) side_by_side[i * LANES + lane] = planes[size_t(lane) * size + i];
    }
  }
}

template <typename T>
void deinterleave(const T* side_by_side, int count, int size, T* planes) {
  for (int first = 0; first < size; first += LANES) {
    const int last = std::min(size, first + LANES);
    for (int lane = 0; lane < count; ++lane) {
      for (int i = first; i < last; ++i) planes[size_t(lane) * size + i] = side_by_side[i * LANES + lane];
    }
  }
}

// Held in registers; a compiler for a processor without such wide ones splits them.
typedef float Floats __attribute__((vector_size(LANES * sizeof(float))));
typedef int Ints __attribute__((vector_size(LANES * sizeof(int))));

inline Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

void max_of_window(const Geometry& g, const Window& window, const float* input, float* output, int* mask) {
  Floats best = Floats{} - FLT_MAX;
  Ints index = Ints{} - 1;
  for (int h = window.top; h < window.bottom; ++h) {
    for (int w = window.left; w < window.right; ++w) {
      const int at = h * g.width + w;
      const Floats values = load(input + size_t(at) * LANES);
      const Ints larger = values > best;
      best = larger ? values : best;
      index = larger ? Ints{} + at : index;
    }
  }
  std::memcpy(output, &best, sizeof best);
  std::memcpy(mask, &index, sizeof index);
}

void mean_of_window(const Geometry& g, const Window& window, const float* input, float* output) {
  Floats sum = {};
  for (int h = window.top; h < window.bottom; ++h) {
    for (int w = window.left; w < window.right; ++w) sum += load(input + size_t(h * g.width + w) * LANES);
  }
  sum /= float(window.size);
  std::memcpy(output, &sum, sizeof sum);
}

void spread(const Geometry& g, const float* output_diff, float* input_diff) {
  std::fill_n(input_diff, g.height * g.width, 0.f);
  for (int row = 0; row < g.rows; ++row) {
    for (int column = 0; column < g.columns; ++column) {
      const Window window = window_of(g, row, column);
      const float share = output_diff[row * g.columns + column] / window.size;
      for (int h = window.top; h < window.bottom; ++h) {
        for (int w = window.left; w < window.right; ++w) input_diff[h * g.width + w] += share;
      }
    }
  }
}

class Pooling : public caffe::PoolingLayer<float> {
 public:
  explicit Pooling(const LayerParameter& param) : PoolingLayer(param) {}

 protected:
  void Forward_cpu(const Blobs& bottom, const Blobs& top) override {
    if (!able(top)) return PoolingLayer::Forward_cpu(bottom, top);
    const Geometry g = geometry();
    const float* input = bottom[0]->cpu_data();
    float* output = top[0]->mutable_cpu_data();
    int* mask = max() ? max_idx_.mutable_cpu_data() : nullptr;
    const int planes = bottom[0]->num() * channels_, in = g.height * g.width, out = g.rows * g.columns;
#pragma omp parallel
    {
      std::vector<float> from(size_t(in) * LANES), to(size_t(out) * LANES);
      std::vector<int> index(mask ? size_t(out) * LANES : 0);
#pragma omp for
      for (int plane = 0; plane < planes; plane += LANES) {
        const int count = std::min(LANES, planes - plane);
        interleave(input + size_t(plane) * in, count, in, from.data());
        for (int row = 0; row < g.rows; ++row) {
          for (int column = 0; column < g.columns; ++column) {
            const size_t at = size_t(row * g.columns + column) * LANES;
            const Window window = window_of(g, row, column);
            if (mask) {
              max_of_window(g, window, from.data(), &to[at], &index[at]);
            } else {
              mean_of_window(g, window, from.data(), &to[at]);
            }
          }
        }
        deinterleave(to.data(), count, out, output + size_t(plane) * out);
        if (mask) deinterleave(index.data(), count, out, mask + size_t(plane) * out);
      }
    }
  }

  void Backward_cpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) override {
    if (!able(top)) return PoolingLayer::Backward_cpu(top, propagate_down, bottom);
    if (!propagate_down[0]) return;
    const Geometry g = geometry();
    const float* output_diff = top[0]->cpu_diff();
    float* input_diff = bottom[0]->mutable_cpu_diff();
    const int* mask = max() ? max_idx_.cpu_data() : nullptr;
    const int planes = bottom[0]->num() * channels_, in = g.height * g.width, out = g.rows * g.columns;
#pragma omp parallel for
    for (int plane = 0; plane < planes; ++plane) {
      const float* from = output_diff + size_t(plane) * out;
      float* to = input_diff + size_t(plane) * in;
      if (mask) {
        const int* index = mask + size_t(plane) * out;
        std::fill_n(to, in, 0.f);
        for (int one = 0; one < out; ++one) {
          if (index[one] >= 0) to[index[one]] += from[one];  // -1: no input was larger than -FLT_MAX (all are nan)
        }
      } else {
        spread(g, from, to);
      }
    }
  }

 private:
  bool max() const { return layer_param_.pooling_param().pool() == caffe::PoolingParameter_PoolMethod_MAX; }

  // A second top holds the mask as floats: Caffe does that.
  bool able(const Blobs& top) const {
    return top.size() == 1 &&
           (max() || layer_param_.pooling_param().pool() == caffe::PoolingParameter_PoolMethod_AVE);
  }

  Geometry geometry() const {
    return {height_, width_, pooled_height_, pooled_width_, kernel_h_, kernel_w_, stride_h_, stride_w_, pad_h_, pad_w_};
  }
};

const Registration<Pooling> registered("Pooling");

}  // namespace
}  // namespace fast
