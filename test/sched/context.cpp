#include <doctest/doctest.h>

#include <exo/sim/context.hpp>
#include <laws/context_laws.hpp>

TEST_CASE("fibers keep the laws of a context")
{
    exo::sim::fibers fibers;
    laws::check_context(fibers);
}
