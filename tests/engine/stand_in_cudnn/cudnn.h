// A stand-in for cuDNN and for what caffe_cudnn.h takes of CUDA's runtime, for test_cudnn_header.py: no card is asked.
// It counts what it is asked, and answers with workspaces of no round size.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>

#define CUDNN_VERSION 90000
#define CUDNN_CONVOLUTION_FWD_ALGO_COUNT 2
#define CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT 2
#define CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT 2

enum cudaError_t { cudaSuccess };
enum cudnnStatus_t { CUDNN_STATUS_SUCCESS, CUDNN_STATUS_NOT_SUPPORTED };
enum cudnnDataType_t { CUDNN_DATA_FLOAT };
enum cudnnTensorFormat_t { CUDNN_TENSOR_NCHW };
enum cudnnConvolutionMode_t { CUDNN_CROSS_CORRELATION };
enum cudnnDeterminism_t { CUDNN_NON_DETERMINISTIC, CUDNN_DETERMINISTIC };
enum cudnnMathType_t {
  CUDNN_DEFAULT_MATH, CUDNN_TENSOR_OP_MATH, CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION, CUDNN_FMA_MATH
};
enum cudnnConvolutionFwdAlgo_t { FWD_0, FWD_1 };
enum cudnnConvolutionBwdFilterAlgo_t { FILTER_0, FILTER_1 };
enum cudnnConvolutionBwdDataAlgo_t { DATA_0, DATA_1 };

struct Stream { int number; };
struct Handle { Stream* stream; };
struct Tensor { int n, c, h, w; };
struct Filter { int k, c, h, w; };
struct Convolution { int pad; cudnnMathType_t math; };
typedef Stream* cudaStream_t;
typedef Handle* cudnnHandle_t;
typedef Tensor* cudnnTensorDescriptor_t;
typedef Filter* cudnnFilterDescriptor_t;
typedef Convolution* cudnnConvolutionDescriptor_t;

inline int streams = 0, handles = 0, listings = 0, sizes = 0;

inline cudaError_t cudaGetDevice(int* device) { *device = 0; return cudaSuccess; }
inline cudaError_t cudaStreamCreate(cudaStream_t* stream) { *stream = new Stream{++streams}; return cudaSuccess; }
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) { --streams; delete stream; return cudaSuccess; }
inline cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) { ++handles; *handle = new Handle{}; return CUDNN_STATUS_SUCCESS; }
inline cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) { --handles; delete handle; return CUDNN_STATUS_SUCCESS; }
inline cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnGetTensor4dDescriptor(
    cudnnTensorDescriptor_t t, cudnnDataType_t*, int* n, int* c, int* h, int* w, int*, int*, int*, int*) {
  *n = t->n; *c = t->c; *h = t->h; *w = t->w;
  return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnGetFilter4dDescriptor(
    cudnnFilterDescriptor_t f, cudnnDataType_t*, cudnnTensorFormat_t*, int* k, int* c, int* h, int* w) {
  *k = f->k; *c = f->c; *h = f->h; *w = f->w;
  return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnGetConvolution2dDescriptor(
    cudnnConvolutionDescriptor_t c, int* pad, int*, int*, int*, int*, int*, cudnnConvolutionMode_t*, cudnnDataType_t*) {
  *pad = c->pad;
  return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnGetConvolutionMathType(cudnnConvolutionDescriptor_t c, cudnnMathType_t* math) {
  *math = c->math;
  return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t c, cudnnMathType_t math) {
  c->math = math;
  return CUDNN_STATUS_SUCCESS;
}
inline cudnnStatus_t cudnnSetConvolution2dDescriptor(
    cudnnConvolutionDescriptor_t c, int pad, int, int, int, int, int, cudnnConvolutionMode_t, cudnnDataType_t) {
  c->pad = pad;
  return CUDNN_STATUS_SUCCESS;
}

// Two algorithms: the first is quicker, wants 1 MiB and is not deterministic, the second wants 1001 bytes and is.
#define STAND_IN(Kind, Listing, Size)                                                                         \
  struct cudnnConvolution##Kind##AlgoPerf_t {                                                                 \
    cudnnConvolution##Kind##Algo_t algo; cudnnStatus_t status; size_t memory; cudnnDeterminism_t determinism; \
    cudnnMathType_t mathType;                                                                                 \
  };                                                                                                          \
  template <typename A, typename B, typename C, typename D>                                                   \
  cudnnStatus_t Listing(cudnnHandle_t, A, B, C, D, int, int* count, cudnnConvolution##Kind##AlgoPerf_t* listed) { \
    ++listings;                                                                                               \
    for (int i = 0; i < 2; ++i) {                                                                             \
      listed[i] = {static_cast<cudnnConvolution##Kind##Algo_t>(i), CUDNN_STATUS_SUCCESS,                      \
                   i ? size_t(1001) : size_t(1) << 20, static_cast<cudnnDeterminism_t>(i), CUDNN_FMA_MATH};   \
    }                                                                                                         \
    *count = 2;                                                                                               \
    return CUDNN_STATUS_SUCCESS;                                                                              \
  }                                                                                                           \
  template <typename A, typename B, typename C, typename D>                                                   \
  cudnnStatus_t Size(cudnnHandle_t, A, B, C, D, cudnnConvolution##Kind##Algo_t algo, size_t* size) {          \
    ++sizes;                                                                                                  \
    *size = algo ? 1001 : 1 << 20;                                                                            \
    return CUDNN_STATUS_SUCCESS;                                                                              \
  }
STAND_IN(Fwd, cudnnGetConvolutionForwardAlgorithm_v7, cudnnGetConvolutionForwardWorkspaceSize)
STAND_IN(BwdFilter, cudnnGetConvolutionBackwardFilterAlgorithm_v7, cudnnGetConvolutionBackwardFilterWorkspaceSize)
STAND_IN(BwdData, cudnnGetConvolutionBackwardDataAlgorithm_v7, cudnnGetConvolutionBackwardDataWorkspaceSize)

namespace caffebench {
inline bool card_answers() { return true; }
inline bool tf32() { return false; }
}  // namespace caffebench
