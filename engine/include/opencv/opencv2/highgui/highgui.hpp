// Caffe reads and writes pictures through this header, as OpenCV 2 had it. Since OpenCV 3 that is the module imgcodecs;
// what is left of highgui opens windows, which Caffe never does, and Debian's package of it brings a desktop's libraries.
#pragma once

#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
