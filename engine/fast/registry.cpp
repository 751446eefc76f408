// Which layers and solvers are Caffe's and which are ours: the creators in Caffe's registries, exchanged.
#include <map>

#include "fast.hpp"

namespace fast {
namespace {

using SolverCreator = caffe::SolverRegistry<float>::Creator;

template <typename C>
struct Creators {
  C caffes, ours;
};

std::map<std::string, Creators<Creator>>& known() {
  static std::map<std::string, Creators<Creator>> types;
  return types;
}

std::map<std::string, Creators<SolverCreator>>& known_solvers() {
  static std::map<std::string, Creators<SolverCreator>> types;
  return types;
}

}  // namespace

void take_over(const std::string& type, Creator creator) {
  Creator& current = caffe::LayerRegistry<float>::Registry()[type];
  known()[type] = {current, creator};
  current = creator;
}

void take_over_solver(const std::string& type, SolverCreator creator) {
  SolverCreator& current = caffe::SolverRegistry<float>::Registry()[type];
  known_solvers()[type] = {current, creator};
  current = creator;
}

}  // namespace fast

// Nets and solvers that are made from now on are of our layers and updates (on), or Caffe's own.
extern "C" void caffebench_fast_layers(int on) {
  if (on) fast::keep_signals_off_the_heap();
  for (const auto& one : fast::known()) {
    caffe::LayerRegistry<float>::Registry()[one.first] = on ? one.second.ours : one.second.caffes;
  }
  for (const auto& one : fast::known_solvers()) {
    caffe::SolverRegistry<float>::Registry()[one.first] = on ? one.second.ours : one.second.caffes;
  }
}
