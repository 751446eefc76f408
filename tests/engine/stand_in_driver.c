/* A stand-in for NVIDIA's driver (libcuda.so.1) and management library (libnvidia-ml.so.1): two cards that cannot compute.
 * It has the functions that caffebench calls, with the signatures of cuda.h and nvml.h, and the figures of a made-up
 * card. What it proves is that the way from those functions to what people read is whole; of no card does it say a thing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { unsigned int gpu, memory; } nvmlUtilization_t;
typedef struct { unsigned long long total, free, used; } nvmlMemory_t;

static const size_t gib = (size_t)1 << 30;
static int cards[] = {0, 1};
static int context;

static size_t free_bytes(void) {
  const char* mebibytes = getenv("STAND_IN_FREE_MIB");
  return mebibytes ? strtoull(mebibytes, NULL, 10) << 20 : 4 * gib;
}

int cuInit(unsigned int flags) { return flags; }
int cuDeviceGetCount(int* count) { *count = 2; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return ordinal < 2 ? 0 : 101; }
int cuDeviceGetName(char* name, int size, int device) { (void)device; return snprintf(name, size, "Stand-in") < 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int device) { (void)device; *bytes = 80 * gib; return 0; }
int cuDeviceGetAttribute(int* value, int attribute, int device) { (void)device; *value = attribute == 75 ? 9 : 0; return 0; }
int cuDeviceGetPCIBusId(char* name, int size, int device) { return snprintf(name, size, "0000:%02X:00.0", device) < 0; }
int cuDevicePrimaryCtxRetain(void** made, int device) { (void)device; *made = &context; return 0; }
int cuCtxSetCurrent(void* made) { return made != &context; }
int cuMemGetInfo_v2(size_t* free, size_t* total) { *free = free_bytes(); *total = 80 * gib; return 0; }

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char* name, void** device) {
  unsigned int bus;
  if (sscanf(name, "0000:%x:00.0", &bus) != 1 || bus > 1) return 6;
  *device = &cards[bus];
  return 0;
}
int nvmlDeviceGetUtilizationRates(void* device, nvmlUtilization_t* rates) {
  rates->gpu = 87 - *(int*)device;
  rates->memory = 12;
  return 0;
}
int nvmlDeviceGetMemoryInfo(void* device, nvmlMemory_t* memory) {
  (void)device;
  memory->total = 80 * gib;
  memory->free = free_bytes();
  memory->used = memory->total - memory->free;
  return 0;
}
