// What Caffe 1.0 calls of cuDNN and cuDNN 8 removed: the choice of a convolution's algorithm within a limit of
// workspace, over the functions with _v7 in their names, which list the algorithms, fastest first.
//
// The workspace limit is Caffe's own, 8 MiB for each stream of a layer (three a group), or
// CAFFEBENCH_CUDNN_WORKSPACE_MIB. The fastest deterministic algorithm is taken, so that a run can be repeated to the
// bit; another one only where no deterministic one fits.
// The math mode is set on the convolution's descriptor: plain fp32, or TF32 with CAFFEBENCH_TF32=1.
// Caffe asks which algorithm to take, and how much workspace it wants, before every pass of every layer. cuDNN 9 takes
// milliseconds to answer, more than a convolution of GoogLeNet takes: an answer is remembered here.
//
// Caffe's cuDNN layers make handles and streams when they are set up, even where Caffe computes on the CPU. Where no
// card answers these are null here, so that such a build trains on the CPU like any other. A convolution makes three
// for each of its groups, and those of MobileNetV2 have 7,000 groups, with which no set-up comes to an end: each thread
// has `kPooled` of them for all its convolutions. Caffe waits for all streams behind every convolution anyway.
// A group's convolution is a call of its own in Caffe, with descriptors of the group's channels: nothing to do here.
#ifndef CAFFEBENCH_CAFFE_CUDNN_H_
#define CAFFEBENCH_CAFFE_CUDNN_H_

#include <cudnn.h>

#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <thread>
#include <utility>
#include <vector>

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

// What a question to cuDNN is about: the device, and all that its descriptors say.
typedef std::vector<int> Question;

inline void describe(Question* question, cudnnTensorDescriptor_t tensor) {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  int is[8] = {};
  cudnnGetTensor4dDescriptor(tensor, &type, is, is + 1, is + 2, is + 3, is + 4, is + 5, is + 6, is + 7);
  question->push_back(type);
  question->insert(question->end(), is, is + 8);
}

inline void describe(Question* question, cudnnFilterDescriptor_t filter) {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  cudnnTensorFormat_t format = CUDNN_TENSOR_NCHW;
  int is[4] = {};
  cudnnGetFilter4dDescriptor(filter, &type, &format, is, is + 1, is + 2, is + 3);
  question->push_back(type);
  question->push_back(format);
  question->insert(question->end(), is, is + 4);
}

inline void describe(Question* question, cudnnConvolutionDescriptor_t convolution) {
  cudnnDataType_t type = CUDNN_DATA_FLOAT;
  cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
  cudnnMathType_t math = CUDNN_DEFAULT_MATH;
  int is[6] = {};
  cudnnGetConvolution2dDescriptor(convolution, is, is + 1, is + 2, is + 3, is + 4, is + 5, &mode, &type);
  cudnnGetConvolutionMathType(convolution, &math);
  question->push_back(type);
  question->push_back(mode);
  question->push_back(math);
  question->insert(question->end(), is, is + 6);
}

// `what` tells questions with the same descriptors apart, among them for whom the answer is (`limit`, in bytes).
template <typename A, typename B, typename C, typename D>
inline Question about(int what, size_t limit, A a, B b, C c, D d) {
  int device = -1;
  cudaGetDevice(&device);
  Question question{what, device, static_cast<int>(limit >> 20), static_cast<int>(limit & 0xfffff)};
  describe(&question, a);
  describe(&question, b);
  describe(&question, c);
  describe(&question, d);
  return question;
}

// The answer that is remembered, else that of `ask`, a function that writes it and returns cuDNN's status.
template <typename Ask>
inline cudnnStatus_t remembered(const Question& question, size_t* answer, Ask ask) {
  static std::mutex mutex;
  static std::map<Question, size_t>* const answers = new std::map<Question, size_t>;
  std::lock_guard<std::mutex> hold(mutex);
  const std::map<Question, size_t>::const_iterator known = answers->find(question);
  if (known != answers->end()) {
    *answer = known->second;
    return CUDNN_STATUS_SUCCESS;
  }
  const cudnnStatus_t status = ask(answer);
  if (status == CUDNN_STATUS_SUCCESS) {
    (*answers)[question] = *answer;
  }
  return status;
}

// An entry for the tensor cores would be run as something else than what was listed, where they are not allowed.
template <typename Perf>
inline bool fits(const Perf& perf, size_t limit) {
  const bool tensor_cores = perf.mathType == CUDNN_TENSOR_OP_MATH ||
                            perf.mathType == CUDNN_TENSOR_OP_MATH_ALLOW_CONVERSION;
  return perf.status == CUDNN_STATUS_SUCCESS && perf.memory <= limit && (tf32() || !tensor_cores);
}

template <typename Perf>
inline cudnnStatus_t choose(cudnnStatus_t status, const Perf* listed, int count, size_t limit, size_t* algo) {
  if (status != CUDNN_STATUS_SUCCESS) {
    return status;
  }
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

// The three functions that choose, in cuDNN 7's names, and the three that tell an algorithm's workspace differ in the
// types of their arguments only. Workspaces lie behind each other, and some algorithms fail at an address that is no
// multiple of 256: sizes are.
#define CAFFEBENCH_CHOICE(name, Function, Perf, Algo, most)                                                        \
  template <typename A, typename B, typename C, typename D>                                                        \
  inline cudnnStatus_t name(cudnnHandle_t handle, A a, B b, C c, D d, caffebench_preference how, size_t callers,   \
                            Algo* algo) {                                                                          \
    *algo = static_cast<Algo>(0);                                                                                  \
    if (handle == NULL) {                                                                                          \
      return CUDNN_STATUS_SUCCESS;                                                                                 \
    }                                                                                                              \
    const size_t limit = workspace_limit(callers);                                                                 \
    size_t answer = 0;                                                                                             \
    const cudnnStatus_t status = remembered(about(how, limit, a, b, c, d), &answer, [&](size_t* chosen) {          \
      Perf listed[2 * most];                                                                                       \
      int count = 0;                                                                                               \
      const cudnnStatus_t said = Function(handle, a, b, c, d, 2 * most, &count, listed);                           \
      return choose(said, listed, count, limit, chosen);                                                           \
    });                                                                                                            \
    *algo = static_cast<Algo>(answer);                                                                             \
    return status;                                                                                                 \
  }
CAFFEBENCH_CHOICE(choose_forward, cudnnGetConvolutionForwardAlgorithm_v7, cudnnConvolutionFwdAlgoPerf_t,
                  cudnnConvolutionFwdAlgo_t, CUDNN_CONVOLUTION_FWD_ALGO_COUNT)
CAFFEBENCH_CHOICE(choose_filter, cudnnGetConvolutionBackwardFilterAlgorithm_v7, cudnnConvolutionBwdFilterAlgoPerf_t,
                  cudnnConvolutionBwdFilterAlgo_t, CUDNN_CONVOLUTION_BWD_FILTER_ALGO_COUNT)
CAFFEBENCH_CHOICE(choose_data, cudnnGetConvolutionBackwardDataAlgorithm_v7, cudnnConvolutionBwdDataAlgoPerf_t,
                  cudnnConvolutionBwdDataAlgo_t, CUDNN_CONVOLUTION_BWD_DATA_ALGO_COUNT)
#undef CAFFEBENCH_CHOICE

#define CAFFEBENCH_WORKSPACE(name, Function, number)                                                        \
  template <typename A, typename B, typename C, typename D, typename Algo>                                  \
  inline cudnnStatus_t name(cudnnHandle_t handle, A a, B b, C c, D d, Algo algo, size_t* size) {            \
    *size = 0;                                                                                              \
    if (handle == NULL) {                                                                                   \
      return CUDNN_STATUS_SUCCESS;                                                                          \
    }                                                                                                       \
    return remembered(about(100 * number + static_cast<int>(algo), 0, a, b, c, d), size, [&](size_t* wanted) { \
      const cudnnStatus_t status = Function(handle, a, b, c, d, algo, wanted);                              \
      *wanted = (*wanted + 255) / 256 * 256;                                                                \
      return status;                                                                                        \
    });                                                                                                     \
  }
CAFFEBENCH_WORKSPACE(forward_workspace, cudnnGetConvolutionForwardWorkspaceSize, 1)
CAFFEBENCH_WORKSPACE(filter_workspace, cudnnGetConvolutionBackwardFilterWorkspaceSize, 2)
CAFFEBENCH_WORKSPACE(data_workspace, cudnnGetConvolutionBackwardDataWorkspaceSize, 3)
#undef CAFFEBENCH_WORKSPACE

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

// The streams and handles of a thread's convolutions on one device; they are there until the process ends.
struct Pool {
  std::vector<cudaStream_t> streams;
  std::vector<cudnnHandle_t> handles;
  size_t next = 0;
  bool asked = false;  // for a stream, for which a handle is asked next: so convolutions do, and no other layer
};

const size_t kPooled = 24;  // eight groups at a time, with three streams each

struct Pools {
  std::mutex mutex;
  std::map<std::pair<std::thread::id, int>, Pool> all;
  std::set<const void*> pooled;
};

inline Pools* pools() {
  static Pools* const all = new Pools;
  return all;
}

// To be called with the mutex held.
inline Pool* own_pool() {
  int device = -1;
  cudaGetDevice(&device);
  return &pools()->all[std::make_pair(std::this_thread::get_id(), device)];
}

inline cudaError_t create_stream(cudaStream_t* stream) {
  *stream = NULL;
  if (!card_answers()) {
    return cudaSuccess;
  }
  std::lock_guard<std::mutex> hold(pools()->mutex);
  Pool* const pool = own_pool();
  if (pool->streams.size() < kPooled) {
    const cudaError_t error = cudaStreamCreate(stream);
    if (error != cudaSuccess) {
      return error;
    }
    pool->streams.push_back(*stream);
    pools()->pooled.insert(*stream);
    pool->next = pool->streams.size() - 1;
  } else {
    pool->next = (pool->next + 1) % kPooled;
  }
  *stream = pool->streams[pool->next];
  pool->asked = true;
  return cudaSuccess;
}

inline cudnnStatus_t create_handle(cudnnHandle_t* handle) {
  *handle = NULL;
  if (!card_answers()) {
    return CUDNN_STATUS_SUCCESS;
  }
  std::lock_guard<std::mutex> hold(pools()->mutex);
  Pool* const pool = own_pool();
  if (!pool->asked) {
    return cudnnCreate(handle);
  }
  pool->asked = false;
  if (pool->next == pool->handles.size()) {
    const cudnnStatus_t status = cudnnCreate(handle);
    if (status != CUDNN_STATUS_SUCCESS) {
      return status;
    }
    pool->handles.push_back(*handle);
    pools()->pooled.insert(*handle);
  }
  *handle = pool->handles[pool->next];
  return CUDNN_STATUS_SUCCESS;
}

inline cudnnStatus_t set_stream(cudnnHandle_t handle, cudaStream_t stream) {
  return handle == NULL ? CUDNN_STATUS_SUCCESS : cudnnSetStream(handle, stream);
}

inline bool is_pooled(const void* one) {
  std::lock_guard<std::mutex> hold(pools()->mutex);
  return one == NULL || pools()->pooled.count(one) != 0;
}

inline cudaError_t destroy_stream(cudaStream_t stream) {
  return is_pooled(stream) ? cudaSuccess : cudaStreamDestroy(stream);
}

inline cudnnStatus_t destroy_handle(cudnnHandle_t handle) {
  return is_pooled(handle) ? CUDNN_STATUS_SUCCESS : cudnnDestroy(handle);
}

}  // namespace caffebench

#define cudnnGetConvolutionForwardAlgorithm caffebench::choose_forward
#define cudnnGetConvolutionBackwardFilterAlgorithm caffebench::choose_filter
#define cudnnGetConvolutionBackwardDataAlgorithm caffebench::choose_data
#define cudaStreamDestroy caffebench::destroy_stream
#define cudnnDestroy caffebench::destroy_handle
#define cudaStreamCreate caffebench::create_stream
#define cudnnCreate caffebench::create_handle
#define cudnnSetStream caffebench::set_stream
#define cudnnSetConvolution2dDescriptor caffebench::set_convolution
#define cudnnGetConvolutionForwardWorkspaceSize caffebench::forward_workspace
#define cudnnGetConvolutionBackwardFilterWorkspaceSize caffebench::filter_workspace
#define cudnnGetConvolutionBackwardDataWorkspaceSize caffebench::data_workspace

#endif  // CUDNN_VERSION
#endif  // CAFFEBENCH_CAFFE_CUDNN_H_
