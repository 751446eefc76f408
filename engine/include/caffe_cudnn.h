// What Caffe 1.0 calls of cuDNN and cuDNN 8 removed: the choice of a convolution's algorithm within a limit of
// workspace, over the functions with _v7 in their names, which list the algorithms, fastest first.
//
// The workspace limit is Caffe's own, 8 MiB for each stream of a layer (three a group), or
// CAFFEBENCH_CUDNN_WORKSPACE_MIB. The fastest deterministic algorithm is taken, so that a run can be repeated to the
// bit; another one only where no deterministic one fits.
// The math mode is set on the convolution's descriptor: plain fp32, or TF32 with CAFFEBENCH_TF32=1.
// Caffe's cuDNN layers make handles and streams when they are set up, even where Caffe computes on the CPU. Where no
// card answers these are null here, so that such a build trains on the CPU like any other.
// A group's convolution is a call of its own in Caffe, with descriptors of the group's channels: nothing to do here.
#ifndef CAFFEBENCH_CAFFE_CUDNN_H_
#define CAFFEBENCH_CAFFE_CUDNN_H_

#include <cudnn.h>

#include <cstdlib>

#if CUDNN_VERSION >= 8000

// How an algorithm is to be chosen. Of cuDNN 7's ways Caffe knows but this.
enum caffebench_preference {
  CUDNN_CONVOLUTION_FWD_SPECIFY_WORKSPACE_LIMIT,
  CUDNN_CONVOLUTION_BWD_FILTER_SPECIFY_WORKSPACE_LIMIT,
  CUDNN_CONVOLUTION_BWD_DATA_SPECIFY_WORKSPACE_LIMIT,
};

namespace caffebench {

inline size_t workspace_limit(size_t callers) {
  const char* mebibytes = std::getenv("CAFFEBENCH_CUDNN_WORKSPACE_MIB");
  return mebibytes == NULL ? callers : std::strtoull(mebibytes, NULL, 10) << 20;
}

// An entry for the tensor cores would be run as something else than what was listed, where they are not allowed.
template <typename Perf>
inline bool fits(const Perf& perf, size_t limit) {
  const bool tensor_cores = perf.mathType == CUDNN_TENSOR_OP_MATH ||
                            perf.mathType == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION;
  return perf.status == CUDNN_STATUS_SUCCESS && perf.memory <= limit && (tf32() || !tensor_cores);
}

template <typename Perf, typename Algo>
inline cudnnStatus_t choose(cudnnStatus_t status, const Perf* listed, int count, size_t callers_limit, Algo* algo) {
  if (status != CUDNN_STATUS_SUCCESS) {
    return status;
  }
  const size_t limit = workspace_limit(callers_limit);
  const Perf* chosen = NULL;
  for (int i = 0; i < count; ++i) {
    if (!fits(listed[i], limit)) {
      continue;
    }
    if (listed[i].determinism == CUDNN_DETERMINISTIC) {
      chosen = &listed[i];
      break;
    }
    if (chosen == NULL) {
      chosen = &listed[i];
    }
  }
  if (chosen == NULL) {
    return CUDNN_STATUS_NOT_SUPPORTED;
  }
  *algo = chosen->algo;
  return CUDNN_STATUS_SUCCESS;
}

}  // namespace caffebench

inline cudnnStatus_t cudnnGetConvolutionForwardAlgorithm(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnFilterDescriptor_t w, cudnnConvolutionDescriptor_t conv,
    cudnnTensorDescriptor_t y, caffebench_preference, size_t limit, cudnnConvolutionFwdAlgo_t* algo) {
  if (handle == NULL) {
    *algo = static_cast<cudnnConvolutionFwdAlgo_t>(0);
    return CUDNN_STATUS_SUCCESS;
  }
  cudnnConvolutionFwdAlgoPerf_t listed[2 * CUDNN_CONVOLUTION_FWD_ALGO_COUNT];
  int count = 0;
  const cudnnStatus_t status = cudnnGetConvolutionForwardAlgorithm_v7(
      handle, x, w, conv, y, 2 * CUDNN_CONVOLUTION_FWD_ALGO_COUNT, &count, listed);
  return caffebench::choose(status, listed, count, limit, algo);
}

inline cudnnStatus_t cudnnGetConvolutionBackwardFilterAlgorithm(
    cudnnHandle_t handle, cudnnTensorDescriptor_t x, cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t conv,
    cudnnFilterDescriptor_t dw, caffebench_preference, size_t limit, cudnnConvolutionBwdFilterAlgo_t* algo) {
  if (handle == NULL) {
    *algo = static_cast<cudnnConvolutionBwdFilterAlgo_t>(0);
    return CUDNN_STATUS_SUCCESS;
  }
  cudnnConvolutionBwdFilterAlgoPerf_t listed[2 * CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT];
  int count = 0;
  const cudnnStatus_t status = cudnnGetConvolutionBackwardFilterAlgorithm_v7(
      handle, x, dy, conv, dw, 2 * CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT, &count, listed);
  return caffebench::choose(status, listed, count, limit, algo);
}

inline cudnnStatus_t cudnnGetConvolutionBackwardDataAlgorithm(
    cudnnHandle_t handle, cudnnFilterDescriptor_t w, cudnnTensorDescriptor_t dy, cudnnConvolutionDescriptor_t conv,
    cudnnTensorDescriptor_t dx, caffebench_preference, size_t limit, cudnnConvolutionBwdDataAlgo_t* algo) {
  if (handle == NULL) {
    *algo = static_cast<cudnnConvolutionBwdDataAlgo_t>(0);
    return CUDNN_STATUS_SUCCESS;
  }
  cudnnConvolutionBwdDataAlgoPerf_t listed[2 * CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT];
  int count = 0;
  const cudnnStatus_t status = cudnnGetConvolutionBackwardDataAlgorithm_v7(
      handle, w, dy, conv, dx, 2 * CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT, &count, listed);
  return caffebench::choose(status, listed, count, limit, algo);
}

namespace caffebench {

inline cudnnStatus_t set_convolution(
    cudnnConvolutionDescriptor_t conv, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
    int dilation_w, cudnnConvolutionMode_t mode, cudnnDataType_t type) {
  const cudnnStatus_t status = cudnnSetConvolution2dDescriptor(
      conv, pad_h, pad_w, stride_h, stride_w, dilation_h, dilation_w, mode, type);
  if (status != CUDNN_STATUS_SUCCESS) {
    return status;
  }
  return cudnnSetConvolutionMathType(conv, tf32() ? CUDNN_DEFAULT_MATH : CUDNN_FMA_MATH);
}

inline cudaError_t create_stream(cudaStream_t* stream) {
  *stream = NULL;
  return card_answers() ? cudaStreamCreate(stream) : cudaSuccess;
}

inline cudnnStatus_t create_handle(cudnnHandle_t* handle) {
  *handle = NULL;
  return card_answers() ? cudnnCreate(handle) : CUDNN_STATUS_SUCCESS;
}

inline cudnnStatus_t set_stream(cudnnHandle_t handle, cudaStream_t stream) {
  return handle == NULL ? CUDNN_STATUS_SUCCESS : cudnnSetStream(handle, stream);
}

// The three functions that tell an algorithm's workspace differ in their arguments' types only.
#define CAFFEBENCH_WORKSPACE(name, Function)                                                 \
  template <typename A, typename B, typename C, typename D, typename Algo>                   \
  inline cudnnStatus_t name(cudnnHandle_t handle, A a, B b, C c, D d, Algo algo, size_t* size) { \
    *size = 0;                                                                               \
    return handle == NULL ? CUDNN_STATUS_SUCCESS : Function(handle, a, b, c, d, algo, size); \
  }
CAFFEBENCH_WORKSPACE(forward_workspace, cudnnGetConvolutionForwardWorkspaceSize)
CAFFEBENCH_WORKSPACE(filter_workspace, cudnnGetConvolutionBackwardFilterWorkspaceSize)
CAFFEBENCH_WORKSPACE(data_workspace, cudnnGetConvolutionBackwardDataWorkspaceSize)
#undef CAFFEBENCH_WORKSPACE

}  // namespace caffebench

#define cudaStreamCreate caffebench::create_stream
#define cudnnCreate caffebench::create_handle
#define cudnnSetStream caffebench::set_stream
#define cudnnSetConvolution2dDescriptor caffebench::set_convolution
#define cudnnGetConvolutionForwardWorkspaceSize caffebench::forward_workspace
#define cudnnGetConvolutionBackwardFilterWorkspaceSize caffebench::filter_workspace
#define cudnnGetConvolutionBackwardDataWorkspaceSize caffebench::data_workspace

#endif  // CUDNN_VERSION
#endif  // CAFFEBENCH_CAFFE_CUDNN_H_
