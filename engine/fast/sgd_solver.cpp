// SGD's update of the weights in one pass over them, where Caffe makes five: scaling, decay, momentum, a copy, the step.
// The file is called like Caffe's own, whose name stands before the learning rate in every log.
#include "caffe/sgd_solvers.hpp"
#include "caffe/solver_factory.hpp"
#include "fast.hpp"

namespace fast {
namespace {

class SGD : public caffe::SGDSolver<float> {
 public:
  explicit SGD(const caffe::SolverParameter& param) : SGDSolver(param) {}

  void ApplyUpdate() override {
    const bool l2 = param_.regularization_type() == "L2";
    if (caffe::Caffe::mode() != caffe::Caffe::CPU || !l2) return SGDSolver::ApplyUpdate();
    const float rate = GetLearningRate(), momentum = param_.momentum(), share = 1.f / param_.iter_size();
    if (param_.display() && iter_ % param_.display() == 0) {
      LOG_IF(INFO, caffe::Caffe::root_solver()) << "Iteration " << iter_ << ", lr = " << rate;
    }
    ClipGradients();
    const std::vector<Blob<float>*>& params = net_->learnable_params();
    for (size_t number = 0; number < params.size(); ++number) {
      const float local_rate = rate * net_->params_lr()[number];
      const float decay = param_.weight_decay() * net_->params_weight_decay()[number];
      float *data = params[number]->mutable_cpu_data(), *diff = params[number]->mutable_cpu_diff();
      float* history = history_[number]->mutable_cpu_data();
      const int count = params[number]->count();
#pragma omp parallel for simd
      for (int i = 0; i < count; ++i) {
        const float step = local_rate * (diff[i] * share + decay * data[i]) + momentum * history[i];
        history[i] = step;
        diff[i] = step;  // where Caffe leaves it too
        data[i] -= step;
      }
    }
    ++iter_;
  }
};

caffe::Solver<float>* create(const caffe::SolverParameter& param) { return new SGD(param); }

const bool registered = (take_over_solver("SGD", create), true);

}  // namespace
}  // namespace fast
