// The one place where the simulated kernel is instantiated.

#include "world.hpp"

template class exo::kernel_system<exo::sim::kernel_platform>;
template class exo::kernel<exo::sim::kernel_platform>;
template class exo::proc::out_of_memory_killer<exo::kernel_system<exo::sim::kernel_platform>>;
