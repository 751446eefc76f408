// The names of OpenCV 2's C interface that Caffe uses, which OpenCV 4 dropped.
#pragma once

#include <opencv2/highgui/highgui.hpp>

#undef CV_LOAD_IMAGE_COLOR
#undef CV_LOAD_IMAGE_GRAYSCALE
#define CV_LOAD_IMAGE_COLOR cv::IMREAD_COLOR
#define CV_LOAD_IMAGE_GRAYSCALE cv::IMREAD_GRAYSCALE
