// Put in front of every file of Caffe 1.0 (-include): what it uses of CUDA and today's CUDA has dropped.
//
// CUDA 13 dropped three fields of cudaDeviceProp, which Caffe's DeviceQuery prints. The values are still there, as
// attributes: Caffe gets a structure with the fields, filled from them.
//
// Where no card answers, what Caffe asks of CUDA while it computes on the CPU succeeds without one.
//
// Arithmetic is plain fp32 unless CAFFEBENCH_TF32=1 is set where Caffe runs; then matrix products and cuDNN's
// convolutions use the tensor cores' TF32 (10 bits of mantissa).
#ifndef CAFFEBENCH_CAFFE_CUDA_H_
#define CAFFEBENCH_CAFFE_CUDA_H_
#ifdef __cplusplus

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>

#if CUDART_VERSION >= 13000

struct CaffebenchDeviceProp : cudaDeviceProp {
  int clockRate;  // kHz
  int deviceOverlap;
  int kernelExecTimeoutEnabled;
};

inline cudaError_t cudaGetDeviceProperties(CaffebenchDeviceProp* prop, int device) {
  cudaError_t error = cudaGetDeviceProperties(static_cast<cudaDeviceProp*>(prop), device);
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&prop->clockRate, cudaDevAttrClockRate, device);
  }
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&prop->deviceOverlap, cudaDevAttrGpuOverlap, device);
  }
  if (error == cudaSuccess) {
    error = cudaDeviceGetAttribute(&prop->kernelExecTimeoutEnabled, cudaDevAttrKernelExecTimeout, device);
  }
  return error;
}

#define cudaDeviceProp CaffebenchDeviceProp

#endif  // CUDART_VERSION

namespace caffebench {

inline bool card_answers() {
  static const bool answer = [] {
    int count = 0;
    const bool found = cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
    cudaGetLastError();  // or the next check of a kernel would find this one's failure
    return found;
  }();
  return answer;
}

// Caffe's threads take over their maker's device, also where they read data for the CPU: without a card that is none.
inline cudaError_t get_device(int* device) {
  *device = -1;
  return card_answers() ? cudaGetDevice(device) : cudaSuccess;
}

inline cudaError_t set_device(int device) {
  return device == -1 && !card_answers() ? cudaSuccess : cudaSetDevice(device);
}

inline bool tf32() {
  const char* value = std::getenv("CAFFEBENCH_TF32");
  return value != NULL && std::strcmp(value, "1") == 0;
}

// A convolution goes on without the workspace that it does not get; the next check of a kernel must not find the failure.
template <typename T>
inline cudaError_t allocate(T** pointer, size_t bytes) {
  const cudaError_t error = cudaMalloc(reinterpret_cast<void**>(pointer), bytes);
  if (error != cudaSuccess) {
    cudaGetLastError();
  }
  return error;
}

// cublas_v2.h makes cublasCreate a macro for cublasCreate_v2; Caffe's handles come from here instead.
inline cublasStatus_t create(cublasHandle_t* handle) {
  cublasStatus_t status = cublasCreate_v2(handle);
  if (status == CUBLAS_STATUS_SUCCESS && tf32()) {
    status = cublasSetMathMode(*handle, CUBLAS_TF32_TENSOR_OP_MATH);
  }
  return status;
}

}  // namespace caffebench

#ifndef __CUDACC__  // Caffe calls these from C++ only; the headers that nvcc reads may use them on the card
#define cudaGetDevice caffebench::get_device
#define cudaSetDevice caffebench::set_device
#define cudaMalloc caffebench::allocate
#endif

#undef cublasCreate
#define cublasCreate caffebench::create

#ifdef USE_CUDNN
#include "caffe_cudnn.h"
#endif

#endif  // __cplusplus
#endif  // CAFFEBENCH_CAFFE_CUDA_H_
