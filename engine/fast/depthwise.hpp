// Depthwise convolution without stride, a filter for each channel, on planes as they lie in Caffe's blobs.
#pragma once

namespace fast {

// One shape of it. Every function goes through a batch of `images` times `channels` planes, one after another in memory.
struct Depthwise {
  int images, channels, height, width;
  int kernel_height, kernel_width, dilation_height, dilation_width, pad_height, pad_width;

  // `bias` may be null.
  void forward(const float* input, const float* filters, const float* bias, float* output) const;
  // Adds to both; either may be null.
  void add_weight_diffs(const float* input, const float* output_diff, float* filter_diff, float* bias_diff) const;
  void write_input_diff(const float* output_diff, const float* filters, float* input_diff) const;

 private:
  // A plane is worked on in a padded copy with rows of `row()` values. Where the filter's corner lies on value i of it,
  // tap (y, x) lies on value i + y * tap_row() + x * dilation_width, whatever row that is in: one loop over i goes from
  // row to row, which keeps vectors full on small planes. What it computes between two rows of the output is left out.
  int row() const { return width + 2 * pad_width; }
  int padded() const { return row() * (height + 2 * pad_height); }
  int tap_row() const { return row() * dilation_height; }
  int reach() const { return (kernel_height - 1) * tap_row() + (kernel_width - 1) * dilation_width; }
  int places() const { return padded() - reach(); }  // of the filter's corner
  int kernel() const { return kernel_height * kernel_width; }
  int out_height() const { return height + 2 * pad_height - (kernel_height - 1) * dilation_height; }
  int out_width() const { return row() - (kernel_width - 1) * dilation_width; }
  int inside() const { return pad_height * row() + pad_width; }  // where the plane begins in its padded copy
};

}  // namespace fast
