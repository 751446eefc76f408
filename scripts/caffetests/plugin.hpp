// Caffe's layer tests make layers by the name of their class. In a test programme that is compiled with this file, for
// each of the layers that the fast library takes over, that name means a class that hands all work to the layer that
// Caffe's registry gives, which is the library's once that is loaded: for float; for double it stays Caffe's own.
#pragma once

#include <gtest/gtest.h>

#include <typeinfo>

#include "caffe/caffe.hpp"
#include "caffe/test/test_caffe_main.hpp"
#include "caffe/test/test_gradient_check_util.hpp"
// Every header that names one of these classes, before the names get another meaning.
#include "all_layers.hpp"

namespace caffe {

template <typename Dtype, template <typename> class Own>
class FromRegistry : public Own<Dtype> {
  using Blobs = vector<Blob<Dtype>*>;

 public:
  explicit FromRegistry(const LayerParameter& param) : Own<Dtype>(param) {
    LayerParameter named(param);
    named.set_type(Own<Dtype>::type());
    inner_ = LayerRegistry<Dtype>::CreateLayer(named);
    if (sizeof(Dtype) == sizeof(float)) {
      const Layer<Dtype>& made = *inner_;
      CHECK(typeid(made) != typeid(Own<Dtype>)) << "the fast library is not loaded, or does not have " << named.type();
    }
  }

  // Caffe's own fills the weights and knows how many losses there are; the other takes both from it.
  void LayerSetUp(const Blobs& bottom, const Blobs& top) override {
    Own<Dtype>::LayerSetUp(bottom, top);
    inner_->blobs() = this->blobs_;
    inner_->LayerSetUp(bottom, top);
  }
  void Reshape(const Blobs& bottom, const Blobs& top) override { inner_->Reshape(bottom, top); }

 protected:
  void Forward_cpu(const Blobs& bottom, const Blobs& top) override {
    inner_->blobs() = this->blobs_;
    inner_->Forward(bottom, top);
  }
  void Backward_cpu(const Blobs& top, const vector<bool>& propagate_down, const Blobs& bottom) override {
    inner_->blobs() = this->blobs_;
    for (int i = 0; i < this->param_propagate_down_.size(); ++i) {
      inner_->set_param_propagate_down(i, this->param_propagate_down_[i]);
    }
    inner_->Backward(top, propagate_down, bottom);
  }

 private:
  shared_ptr<Layer<Dtype> > inner_;
};

}  // namespace caffe

#include "taken_over.hpp"
