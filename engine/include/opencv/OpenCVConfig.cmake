# What Caffe takes of OpenCV: three of its modules. A distribution's own file asks for every module there is (in Debian
# 194 packages instead of 55) and Caffe's CMake files besides for highgui, which opens windows.
find_path(OpenCV_core_INCLUDE_DIR opencv2/core.hpp PATH_SUFFIXES opencv4)
set(OpenCV_INCLUDE_DIRS ${CMAKE_CURRENT_LIST_DIR} ${OpenCV_core_INCLUDE_DIR})
set(OpenCV_LIBS)
foreach(module imgcodecs imgproc core)
  find_library(OpenCV_${module}_LIBRARY opencv_${module})
  if(NOT OpenCV_core_INCLUDE_DIR OR NOT OpenCV_${module}_LIBRARY)
    message(FATAL_ERROR "OpenCV's module ${module} is not here with its headers")
  endif()
  list(APPEND OpenCV_LIBS ${OpenCV_${module}_LIBRARY})
endforeach()
set(OpenCV_FOUND TRUE)
