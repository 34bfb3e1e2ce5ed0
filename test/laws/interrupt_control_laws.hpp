// The laws of hal/interrupt_control.hpp, for any model of InterruptControl.

#pragma once

#include <doctest/doctest.h>

#include <exo/hal/interrupt_control.hpp>

namespace laws {

// Called with interrupts on.
void check_interrupt_control(exo::hal::InterruptControl auto& control)
{
    REQUIRE(control.enabled());
    const auto outer = control.save_and_disable();
    CHECK(!control.enabled());
    const auto inner = control.save_and_disable();
    CHECK(!control.enabled());
    control.restore(inner);
    CHECK(!control.enabled()); // as it was before the inner pair
    control.restore(outer);
    CHECK(control.enabled());
}

} // namespace laws
