// Caffe's cmake/Cuda.cmake reads cuDNN's version out of cudnn.h, from where it has moved to cudnn_version.h, and
// refuses to go on without. It needs no more than three and finds here: #define CUDNN_MAJOR 9
#include_next <cudnn.h>
