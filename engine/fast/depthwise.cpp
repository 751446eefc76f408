// Depthwise convolution without reordering: see depthwise.hpp.
#include "depthwise.hpp"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace fast {
namespace {

// The sum of N taps of one row of the filter, `step` values apart.
template <int N>
struct Taps {
  static inline float sum(const float* values, const float* filter, int step) {
    return Taps<N - 1>::sum(values, filter, step) + filter[N - 1] * values[(N - 1) * step];
  }
};
template <>
struct Taps<0> {
  static inline float sum(const float*, const float*, int) { return 0; }
};

template <int N>
void add_taps(const float* values, const float* filter, int step, int count, float* result) {
#pragma omp simd
  for (int i = 0; i < count; ++i) result[i] += Taps<N>::sum(values + i, filter, step);
}

// result[i] += the sum over x of filter[x] * values[i + x * step]
void add_filter_row(const float* values, const float* filter, int taps, int step, int count, float* result) {
  switch (taps) {
    case 3:
      return add_taps<3>(values, filter, step, count, result);
    case 5:
      return add_taps<5>(values, filter, step, count, result);
    case 7:
      return add_taps<7>(values, filter, step, count, result);
    default:
      for (int x = 0; x < taps; ++x) add_taps<1>(values + x * step, filter + x, step, count, result);
  }
}

// sums[x] += the sum over i of diffs[i] * values[i + x * step]
void add_products(const float* diffs, const float* values, int taps, int step, int count, double* sums) {
  int x = 0;
  for (; x + 3 <= taps; x += 3) {  // three taps at a time read the same diffs
    const float *left = values + x * step, *middle = left + step, *right = middle + step;
    float one = 0, two = 0, three = 0;
#pragma omp simd reduction(+ : one, two, three)
    for (int i = 0; i < count; ++i) {
      one += diffs[i] * left[i];
      two += diffs[i] * middle[i];
      three += diffs[i] * right[i];
    }
    sums[x] += one;
    sums[x + 1] += two;
    sums[x + 2] += three;
  }
  for (; x < taps; ++x) {
    float one = 0;
#pragma omp simd reduction(+ : one)
    for (int i = 0; i < count; ++i) one += diffs[i] * values[i + x * step];
    sums[x] += one;
  }
}

void copy_rows(const float* from, int from_row, float* to, int to_row, int height, int width) {
  for (int y = 0; y < height; ++y) std::copy_n(from + y * from_row, width, to + y * to_row);
}

}  // namespace

// Margins, and what lies between rows of the output, are zero from the start and never written.

void Depthwise::forward(const float* input, const float* filters, const float* bias, float* output) const {
  const size_t plane = size_t(height) * width, out_plane = size_t(out_height()) * out_width();
#pragma omp parallel
  {
    std::vector<float> values(padded()), sums(places());
#pragma omp for
    for (int one = 0; one < images * channels; ++one) {
      const int channel = one % channels;
      copy_rows(input + one * plane, width, values.data() + inside(), row(), height, width);
      std::fill(sums.begin(), sums.end(), bias ? bias[channel] : 0.f);
      for (int y = 0; y < kernel_height; ++y) {
        add_filter_row(values.data() + y * tap_row(), filters + channel * kernel() + y * kernel_width, kernel_width,
                       dilation_width, places(), sums.data());
      }
      copy_rows(sums.data(), row(), output + one * out_plane, out_width(), out_height(), out_width());
    }
  }
}

void Depthwise::add_weight_diffs(const float* input, const float* output_diff, float* filter_diff,
                                 float* bias_diff) const {
  const size_t plane = size_t(height) * width, out_plane = size_t(out_height()) * out_width();
#pragma omp parallel
  {
    std::vector<float> values(padded()), diffs(places());
    std::vector<double> sums(kernel());
#pragma omp for
    for (int channel = 0; channel < channels; ++channel) {
      std::fill(sums.begin(), sums.end(), 0.);
      double bias_sum = 0;
      for (int image = 0; image < images; ++image) {
        const size_t one = size_t(image) * channels + channel;
        copy_rows(input + one * plane, width, values.data() + inside(), row(), height, width);
        copy_rows(output_diff + one * out_plane, out_width(), diffs.data(), row(), out_height(), out_width());
        for (int y = 0; y < kernel_height; ++y) {
          add_products(diffs.data(), values.data() + y * tap_row(), kernel_width, dilation_width, places(),
                       &sums[y * kernel_width]);
        }
        float sum = 0;
#pragma omp simd reduction(+ : sum)
        for (int i = 0; i < places(); ++i) sum += diffs[i];
        bias_sum += sum;
      }
      for (int tap = 0; filter_diff && tap < kernel(); ++tap) filter_diff[channel * kernel() + tap] += sums[tap];
      if (bias_diff) bias_diff[channel] += bias_sum;
    }
  }
}

// A value had its part in every place of the filter's corner from `reach` before it: the same sums, the filter reversed.
void Depthwise::write_input_diff(const float* output_diff, const float* filters, float* input_diff) const {
  const size_t plane = size_t(height) * width, out_plane = size_t(out_height()) * out_width();
  const int count = (height - 1) * row() + width;
#pragma omp parallel
  {
    std::vector<float> diffs(reach() + padded()), sums(count), reversed(kernel());
#pragma omp for
    for (int one = 0; one < images * channels; ++one) {
      const float* filter = filters + (one % channels) * kernel();
      std::reverse_copy(filter, filter + kernel(), reversed.begin());
      copy_rows(output_diff + one * out_plane, out_width(), diffs.data() + reach(), row(), out_height(), out_width());
      std::fill(sums.begin(), sums.end(), 0.f);
      for (int y = 0; y < kernel_height; ++y) {
        add_filter_row(diffs.data() + inside() + y * tap_row(), reversed.data() + y * kernel_width, kernel_width,
                       dilation_width, count, sums.data());
      }
      copy_rows(sums.data(), row(), input_diff + one * plane, width, height, width);
    }
  }
}

}  // namespace fast
