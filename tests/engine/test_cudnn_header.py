"""`engine/include/caffe_cudnn.h` without a card: what it asks of cuDNN, for which a stand-in answers and counts.

That the convolutions compute the same with it is for a card to show (``scripts/gpu-acceptance``).
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from caffebench.engine.build_spec import INCLUDE

STAND_IN = Path(__file__).parent / "stand_in_cudnn"

PROGRAM = """
#include <caffe_cudnn.h>
#include <cstdio>
#include <thread>
#include <vector>

// As Caffe's convolutions set themselves up: a stream and a handle for each of three times the groups.
void set_up(int groups, std::vector<cudaStream_t>* s, std::vector<cudnnHandle_t>* h) {
  for (int g = 0; g < 3 * groups; ++g) {
    s->push_back(NULL);
    h->push_back(NULL);
    cudaStreamCreate(&s->back());
    cudnnCreate(&h->back());
    cudnnSetStream(h->back(), s->back());
  }
}

int main() {
  std::vector<cudaStream_t> s, other_s;
  std::vector<cudnnHandle_t> h, other_h;
  set_up(1, &s, &h);
  std::printf("one group: %d streams, %d handles\\n", streams, handles);
  set_up(960, &s, &h);
  std::printf("960 groups more: %d streams, %d handles\\n", streams, handles);
  bool own = true;
  for (size_t i = 0; i < h.size(); ++i) own = own && h[i]->stream == s[i];
  std::printf("each handle has its stream: %d\\n", own);
  std::thread([&] { set_up(1, &other_s, &other_h); }).join();
  std::printf("another thread: %d streams, its own: %d\\n", streams, other_s[0] != s[0]);
  cudnnHandle_t plain = NULL;  // of a pooling: it has no stream, and is its own
  cudnnCreate(&plain);
  std::printf("a layer without streams: stream %d\\n", plain->stream != NULL);
  int had = handles, had_streams = streams;
  cudnnDestroy(h[0]);
  cudaStreamDestroy(s[0]);
  cudnnDestroy(plain);
  std::printf("destroyed: %d handles, %d streams\\n", had - handles, had_streams - streams);

  Tensor x{8, 3, 32, 32}, y{8, 16, 30, 30};
  Filter w{16, 3, 3, 3};
  Convolution c{0, CUDNN_FMA_MATH};
  auto ask = [&](size_t limit) {
    cudnnConvolutionFwdAlgo_t f;
    cudnnConvolutionBwdFilterAlgo_t b;
    cudnnConvolutionBwdDataAlgo_t d;
    size_t n[3];
    cudnnGetConvolutionForwardAlgorithm(h[1], &x, &w, &c, &y, CUDNN_CONVOLUTION_FWD_SPECIFY_WORKSPACE_LIMIT, limit, &f);
    cudnnGetConvolutionForwardWorkspaceSize(h[1], &x, &w, &c, &y, f, n);
    cudnnGetConvolutionBackwardFilterAlgorithm(
        h[1], &x, &y, &c, &w, CUDNN_CONVOLUTION_BWD_FILTER_SPECIFY_WORKSPACE_LIMIT, limit, &b);
    cudnnGetConvolutionBackwardFilterWorkspaceSize(h[1], &x, &y, &c, &w, b, n + 1);
    cudnnGetConvolutionBackwardDataAlgorithm(
        h[1], &w, &y, &c, &x, CUDNN_CONVOLUTION_BWD_DATA_SPECIFY_WORKSPACE_LIMIT, limit, &d);
    cudnnGetConvolutionBackwardDataWorkspaceSize(h[1], &w, &y, &c, &x, d, n + 2);
    std::printf("algorithms %d %d %d, bytes %zu %zu %zu, asked %d %d\\n", f, b, d, n[0], n[1], n[2], listings, sizes);
  };
  ask(8 << 20);
  ask(8 << 20);
  x.n = y.n = 4;  // another batch
  ask(8 << 20);
  c.math = CUDNN_DEFAULT_MATH;
  ask(8 << 20);
  ask((8 << 20) + 1);
}
"""


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler is here")
def test_what_is_asked_of_cudnn(tmp_path: Path) -> None:
    program = tmp_path / "program.cpp"
    program.write_text(PROGRAM)
    command = [
        "g++",
        "-std=c++17",
        "-Wall",
        f"-I{STAND_IN}",
        f"-I{INCLUDE}",
        str(program),
        "-o",
        str(tmp_path / "program"),
    ]
    subprocess.run([*command, "-pthread"], check=True)
    said = subprocess.run([tmp_path / "program"], capture_output=True, text=True, check=True).stdout.splitlines()
    same = "algorithms 1 1 1, bytes 1024 1024 1024, asked"  # the deterministic ones, sizes that keep addresses aligned
    assert said == [
        "one group: 3 streams, 3 handles",
        "960 groups more: 24 streams, 24 handles",
        "each handle has its stream: 1",
        "another thread: 27 streams, its own: 1",
        "a layer without streams: stream 0",
        "destroyed: 1 handles, 0 streams",  # what is shared stays
        f"{same} 3 3",
        f"{same} 3 3",
        f"{same} 6 6",
        f"{same} 9 9",
        f"{same} 12 9",  # another limit may give another algorithm, and no other workspace
    ]
