// Signals that come while oneDNN multiplies matrices.
//
// Some of its kernels, until the spring of 2026, keep the stack pointer in the heap while they run (oneDNN's issue
// 4845). The operating system puts the frame of a signal's handler below the stack pointer, so one that came there was
// written over whatever lay in that memory: the bookkeeping of the heap, or weights.
#include <omp.h>
#include <signal.h>

#include <glog/logging.h>

#include "fast.hpp"

namespace fast {

void keep_signals_off_the_heap() {
  // The calling thread gets a stack for handlers alone; those of Python ask for it (SA_ONSTACK) since 3.10.
  static char handlers[1 << 18];
  stack_t present = {};
  CHECK_EQ(sigaltstack(nullptr, &present), 0);
  if (present.ss_flags & SS_DISABLE) {
    stack_t own = {};
    own.ss_sp = handlers;
    own.ss_size = sizeof handlers;
    CHECK_EQ(sigaltstack(&own, nullptr), 0);
  }
  // The threads that help it get no signals at all.
#pragma omp parallel
  if (omp_get_thread_num() != 0) {
    sigset_t all;
    sigfillset(&all);
    CHECK_EQ(pthread_sigmask(SIG_BLOCK, &all, nullptr), 0);
  }
}

}  // namespace fast
