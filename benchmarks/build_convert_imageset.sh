#!/bin/sh
# Builds Caffe's own convert_imageset, which wants OpenCV, to compare make-lmdb with: no other part of Caffe needs it.
#   benchmarks/build_convert_imageset.sh CAFFE_SOURCE OUT        (system packages: those of install-caffe, libopencv-dev)
set -eu
source=$(realpath "$1")
mkdir -p "$2" && cd "$2"
mkdir -p include/caffe/proto
protoc --proto_path="$source/src/caffe/proto" --cpp_out=include/caffe/proto "$source/src/caffe/proto/caffe.proto"
# OpenCV 4 dropped the two names of OpenCV 2 that Caffe uses; these are the values that they had.
g++ -O2 -std=c++14 -w -DCPU_ONLY -DUSE_OPENCV -DUSE_LMDB -DCV_LOAD_IMAGE_COLOR=1 -DCV_LOAD_IMAGE_GRAYSCALE=0 \
    -Iinclude -I"$source/include" -I/usr/include/opencv4 \
    "$source/tools/convert_imageset.cpp" "$source/src/caffe/common.cpp" include/caffe/proto/caffe.pb.cc \
    "$source/src/caffe/util/io.cpp" "$source/src/caffe/util/db.cpp" "$source/src/caffe/util/db_lmdb.cpp" \
    -o convert_imageset \
    -lopencv_imgcodecs -lopencv_imgproc -lopencv_core -llmdb -lprotobuf -lglog -lgflags \
    -lboost_thread -lboost_filesystem -lboost_system -lpthread
echo "$PWD/convert_imageset"
