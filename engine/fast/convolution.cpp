// Convolution over a whole batch at once with oneDNN, where Caffe goes image by image through im2col and sgemm.
#include "caffe/layers/conv_layer.hpp"
#include "depthwise.hpp"
#include "fast.hpp"

namespace fast {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
const auto FLOAT = memory::data_type::f32;

// The three primitives of one shape.
struct Primitives {
  dnnl::convolution_forward::primitive_desc forward_desc;
  dnnl::convolution_backward_data::primitive_desc data_desc;
  dnnl::convolution_backward_weights::primitive_desc weights_desc;
  dnnl::convolution_forward forward;
  dnnl::convolution_backward_data data;
  dnnl::convolution_backward_weights weights;
  memory::desc source, filters, bias, result;  // as they lie in Caffe's blobs
};

struct Shape {
  memory::dims source, filters, bias, result, stride, dilation, pad;
  bool operator==(const Shape& other) const { return source == other.source && result == other.result; }
  int64_t plane() const { return result[2] * result[3]; }
};

Primitives make(const Shape& shape, bool has_bias) {
  Primitives made;
  const bool grouped = shape.filters.size() == 5;
  made.source = memory::desc(shape.source, FLOAT, Tag::nchw);
  made.filters = memory::desc(shape.filters, FLOAT, grouped ? Tag::goihw : Tag::oihw);
  made.bias = has_bias ? memory::desc(shape.bias, FLOAT, Tag::x) : memory::desc();
  made.result = memory::desc(shape.result, FLOAT, Tag::nchw);
  // oneDNN's own layouts are the fastest to compute on, and must be made and undone around every primitive. A filter of
  // 1x1 is a matrix product on the planes as they lie, from about 8x8 on.
  const bool as_it_lies = !grouped && shape.filters[2] * shape.filters[3] == 1 && shape.plane() >= 64;
  const Tag layout = as_it_lies ? Tag::nchw : Tag::any, filter_layout = as_it_lies ? Tag::oihw : Tag::any;
  const memory::desc source(shape.source, FLOAT, layout), filters(shape.filters, FLOAT, filter_layout);
  const memory::desc result(shape.result, FLOAT, layout);
  const auto direct = dnnl::algorithm::convolution_direct;  // Winograd's is faster and less exact
  const auto training = dnnl::prop_kind::forward_training;
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
#if DNNL_VERSION_MAJOR >= 3
  made.forward_desc = dnnl::convolution_forward::primitive_desc(
      engine(), training, direct, source, filters, made.bias, result, shape.stride, shape.dilation, shape.pad,
      shape.pad, attributes);
  made.data_desc = dnnl::convolution_backward_data::primitive_desc(
      engine(), direct, source, filters, result, shape.stride, shape.dilation, shape.pad, shape.pad,
      made.forward_desc, attributes);
  made.weights_desc = dnnl::convolution_backward_weights::primitive_desc(
      engine(), direct, source, filters, made.bias, result, shape.stride, shape.dilation, shape.pad, shape.pad,
      made.forward_desc, attributes);
#else
  made.forward_desc = dnnl::convolution_forward::primitive_desc(
      dnnl::convolution_forward::desc(training, direct, source, filters, made.bias, result, shape.stride,
                                      shape.dilation, shape.pad, shape.pad),
      attributes, engine());
  made.data_desc = dnnl::convolution_backward_data::primitive_desc(
      dnnl::convolution_backward_data::desc(direct, source, filters, result, shape.stride, shape.dilation, shape.pad,
                                            shape.pad),
      attributes, engine(), made.forward_desc);
  made.weights_desc = dnnl::convolution_backward_weights::primitive_desc(
      dnnl::convolution_backward_weights::desc(direct, source, filters, made.bias, result, shape.stride,
                                               shape.dilation, shape.pad, shape.pad),
      attributes, engine(), made.forward_desc);
#endif
  made.forward = dnnl::convolution_forward(made.forward_desc);
  made.data = dnnl::convolution_backward_data(made.data_desc);
  made.weights = dnnl::convolution_backward_weights(made.weights_desc);
  return made;
}

memory plain(const memory::desc& desc, const float* data) {
  return memory(desc, engine(), const_cast<float*>(data));
}

template <typename Desc>
memory scratchpad(const Desc& desc) {
  return memory(desc.scratchpad_desc(), engine(), scratch(SCRATCHPAD, desc.scratchpad_desc().get_size()));
}

class Convolution : public caffe::ConvolutionLayer<float> {
 public:
  explicit Convolution(const LayerParameter& param) : ConvolutionLayer(param) {}

  void Reshape(const Blobs& bottom, const Blobs& top) override {
    ConvolutionLayer::Reshape(bottom, top);
    able_ = num_spatial_axes_ == 2 && bottom[0]->num_axes() == 4 && channel_axis_ == 1;
    if (!able_) return;
    const Shape shape = shape_of(*bottom[0], *top[0]);
    depthwise_ = group_ == channels_ && group_ == num_output_ && shape.stride == memory::dims{1, 1} &&
                 shape.plane() >= 256;  // on less oneDNN is faster, on its layout
    if (depthwise_) planes_ = planes_of(shape);
    if (depthwise_ || (made_ && shape == shape_)) return;
    try {
      primitives_ = make(shape, bias_term_);
      shape_ = shape;
      made_ = true;
    } catch (const dnnl::error& error) {
      able_ = made_ = false;
      LOG(INFO) << layer_param_.name() << ": oneDNN does not do this shape (" << error.what() << "), Caffe does";
    }
  }

 protected:
  void Forward_cpu(const Blobs& bottom, const Blobs& top) override {
    if (!able_) return ConvolutionLayer::Forward_cpu(bottom, top);
    if (depthwise_) {
      const float *filters = blobs_[0]->cpu_data(), *bias = bias_term_ ? blobs_[1]->cpu_data() : nullptr;
      for (size_t i = 0; i < bottom.size(); ++i) {
        planes_.forward(bottom[i]->cpu_data(), filters, bias, top[i]->mutable_cpu_data());
      }
      return;
    }
    Primitives& one = primitives_;
    const memory filters = in_layout(plain(one.filters, blobs_[0]->cpu_data()), one.forward_desc.weights_desc(), WEIGHTS);
    for (size_t i = 0; i < bottom.size(); ++i) {
      const memory result = plain(one.result, top[i]->mutable_cpu_data());
      const memory written = room_for(result, one.forward_desc.dst_desc(), DESTINATION);
      std::unordered_map<int, memory> arguments = {
          {DNNL_ARG_SRC, in_layout(plain(one.source, bottom[i]->cpu_data()), one.forward_desc.src_desc(), SOURCE)},
          {DNNL_ARG_WEIGHTS, filters},
          {DNNL_ARG_DST, written},
          {DNNL_ARG_SCRATCHPAD, scratchpad(one.forward_desc)}};
      if (bias_term_) arguments.emplace(DNNL_ARG_BIAS, plain(one.bias, blobs_[1]->cpu_data()));
      one.forward.execute(stream(), arguments);
      deliver(written, result);
    }
  }

  void Backward_cpu(const Blobs& top, const std::vector<bool>& propagate_down, const Blobs& bottom) override {
    if (!able_) return ConvolutionLayer::Backward_cpu(top, propagate_down, bottom);
    const bool for_bias = bias_term_ && param_propagate_down_[1];
    if (depthwise_) {
      float* filter_diff = param_propagate_down_[0] ? blobs_[0]->mutable_cpu_diff() : nullptr;
      float* bias_diff = for_bias ? blobs_[1]->mutable_cpu_diff() : nullptr;
      for (size_t i = 0; i < top.size(); ++i) {
        const float* diff = top[i]->cpu_diff();
        if (filter_diff || bias_diff) planes_.add_weight_diffs(bottom[i]->cpu_data(), diff, filter_diff, bias_diff);
        if (propagate_down[i]) planes_.write_input_diff(diff, blobs_[0]->cpu_data(), bottom[i]->mutable_cpu_diff());
      }
      return;
    }
    for (size_t i = 0; i < top.size(); ++i) {
      const memory diff = plain(primitives_.result, top[i]->cpu_diff());
      memory ordered = diff;
      if (param_propagate_down_[0] || for_bias) {
        ordered = in_layout(diff, primitives_.weights_desc.diff_dst_desc(), DESTINATION);
        add_weight_diffs(ordered, *bottom[i]);
      }
      if (!propagate_down[i]) continue;
      const memory::desc wanted = primitives_.data_desc.diff_dst_desc();
      if (ordered.get_desc() != wanted) ordered = in_layout(diff, wanted, DESTINATION);
      write_bottom_diff(ordered, bottom[i]);
    }
  }

 private:
  // Adds to the diffs, as Caffe does: `iter_size` and shared weights count on it.
  void add_weight_diffs(const memory& top_diff, const Blob<float>& bottom) {
    Primitives& one = primitives_;
    const memory filters = plain(one.filters, scratch(FILTER_DIFF, one.filters.get_size()));
    const memory written = room_for(filters, one.weights_desc.diff_weights_desc(), WEIGHTS);
    std::unordered_map<int, memory> arguments = {
        {DNNL_ARG_SRC, in_layout(plain(one.source, bottom.cpu_data()), one.weights_desc.src_desc(), SOURCE)},
        {DNNL_ARG_DIFF_DST, top_diff},
        {DNNL_ARG_DIFF_WEIGHTS, written},
        {DNNL_ARG_SCRATCHPAD, scratchpad(one.weights_desc)}};
    float* bias = bias_term_ ? scratch(BIAS, one.bias.get_size()) : nullptr;
    if (bias) arguments.emplace(DNNL_ARG_DIFF_BIAS, plain(one.bias, bias));
    one.weights.execute(stream(), arguments);
    deliver(written, filters);
    if (param_propagate_down_[0]) {
      caffe::caffe_axpy(blobs_[0]->count(), 1.f, static_cast<float*>(filters.get_data_handle()),
                        blobs_[0]->mutable_cpu_diff());
    }
    if (bias && param_propagate_down_[1]) {
      caffe::caffe_axpy(blobs_[1]->count(), 1.f, bias, blobs_[1]->mutable_cpu_diff());
    }
  }

  void write_bottom_diff(const memory& top_diff, Blob<float>* bottom) {
    Primitives& one = primitives_;
    const memory diff = plain(one.source, bottom->mutable_cpu_diff());
    const memory written = room_for(diff, one.data_desc.diff_src_desc(), SOURCE);
    one.data.execute(
        stream(),
        {{DNNL_ARG_DIFF_DST, top_diff},
         {DNNL_ARG_WEIGHTS, in_layout(plain(one.filters, blobs_[0]->cpu_data()), one.data_desc.weights_desc(), WEIGHTS)},
         {DNNL_ARG_DIFF_SRC, written},
         {DNNL_ARG_SCRATCHPAD, scratchpad(one.data_desc)}});
    deliver(written, diff);
  }

  Shape shape_of(const Blob<float>& bottom, const Blob<float>& top) const {
    const int *kernel = kernel_shape_.cpu_data(), *stride = stride_.cpu_data(), *pad = pad_.cpu_data();
    const int* dilation = dilation_.cpu_data();
    Shape shape;
    shape.source.assign(bottom.shape().begin(), bottom.shape().end());
    shape.result.assign(top.shape().begin(), top.shape().end());
    const int64_t groups = group_, outputs = num_output_, inputs = channels_;
    shape.filters = {groups, outputs / groups, inputs / groups, kernel[0], kernel[1]};
    if (groups == 1) shape.filters.erase(shape.filters.begin());
    shape.bias = {outputs};
    shape.stride = {stride[0], stride[1]};
    shape.dilation = {dilation[0] - 1, dilation[1] - 1};  // oneDNN counts what lies between
    shape.pad = {pad[0], pad[1]};
    return shape;
  }

  static Depthwise planes_of(const Shape& shape) {
    const memory::dims &source = shape.source, &filters = shape.filters, &dilation = shape.dilation;
    Depthwise made;
    made.images = source[0], made.channels = source[1], made.height = source[2], made.width = source[3];
    made.kernel_height = filters[filters.size() - 2], made.kernel_width = filters.back();
    made.dilation_height = dilation[0] + 1, made.dilation_width = dilation[1] + 1;
    made.pad_height = shape.pad[0], made.pad_width = shape.pad[1];
    return made;
  }

  bool able_ = false, made_ = false, depthwise_ = false;
  Depthwise planes_;
  Shape shape_;
  Primitives primitives_;
};

const Registration<Convolution> registered("Convolution");

}  // namespace
}  // namespace fast
