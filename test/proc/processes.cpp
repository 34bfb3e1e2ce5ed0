// Processes on a whole kernel: fork, exit, wait, orphans, groups.

#include <doctest/doctest.h>

#include <exo/sim/kernel.hpp>

using namespace exo;
using sim::simulated_kernel;
using view = simulated_kernel::program;
using nr = linux_abi::number;

namespace {

TEST_CASE("the kernel runs /bin/sh as process 1 and ends with its status")
{
    simulated_kernel machine;
    const auto status = machine.run([](view& self) {
        CHECK(self.call(nr::getpid) == 1);
        CHECK(self.call(nr::getppid) == 0);
        self.exit(7);
    });
    CHECK(status == 7);
    CHECK(machine.platform().log().text().find("exo: init exited with status 7\n") != std::string::npos);
    CHECK(machine.platform().log().text().find("first user instruction after ") != std::string::npos);
    CHECK(machine.platform().violations().empty());
}

} // namespace
