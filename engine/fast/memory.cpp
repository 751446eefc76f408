// Scratch memory and layouts: see fast.hpp.
#include <cstdlib>
#include <memory>

#include "fast.hpp"

namespace fast {

float* scratch(Purpose purpose, size_t bytes) {
  struct Buffer {
    void* data = nullptr;
    size_t size = 0;
    ~Buffer() { std::free(data); }
  };
  static thread_local Buffer buffers[PURPOSES];
  Buffer& one = buffers[purpose];
  if (one.size < bytes) {
    std::free(one.data);
    one.size = (bytes + 4095) / 4096 * 4096;
    one.data = ::aligned_alloc(4096, one.size);
    CHECK(one.data) << "no memory for " << one.size << " bytes of scratch";
  }
  return static_cast<float*>(one.data);
}

dnnl::memory in_layout(const dnnl::memory& plain, const dnnl::memory::desc& wanted, Purpose purpose) {
  if (plain.get_desc() == wanted) return plain;
  dnnl::memory other(wanted, engine(), scratch(purpose, wanted.get_size()));
  dnnl::reorder(plain, other).execute(stream(), {{DNNL_ARG_FROM, plain}, {DNNL_ARG_TO, other}});
  return other;
}

dnnl::memory room_for(const dnnl::memory& plain, const dnnl::memory::desc& written, Purpose purpose) {
  if (plain.get_desc() == written) return plain;
  return dnnl::memory(written, engine(), scratch(purpose, written.get_size()));
}

void deliver(const dnnl::memory& written, const dnnl::memory& plain) {
  if (written.get_data_handle() == plain.get_data_handle()) return;
  dnnl::reorder(written, plain).execute(stream(), {{DNNL_ARG_FROM, written}, {DNNL_ARG_TO, plain}});
}

}  // namespace fast
