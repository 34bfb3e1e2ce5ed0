// The laws of hal/parker.hpp, for any model: `run` starts one thread for each function, hands it the parker, and
// returns when all have ended. Threads may run truly at once.

#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <vector>

#include <exo/sync/any_parker.hpp>

namespace laws {

template <class Run>
void check_parker(Run run)
{
    using namespace exo;
    using sync::any_parker;
    using bodies = std::vector<std::function<void(any_parker&)>>;

    // A handle may be used only while its thread exists: nobody ends before all have finished with the others.
    std::atomic<int> busy{};
    const auto finish_together = [&](any_parker& p) {
        --busy;
        while (busy != 0)
            p.park(p.now() + microseconds(1));
    };

    // An unpark before the park is not lost; the park consumes it.
    run(bodies{[](any_parker& p) {
        CHECK(p.current() != nullptr);
        CHECK(!p.interrupted());
        p.unpark(p.current());
        p.unpark(p.current());
        p.park(instant::never());
        const instant deadline = p.now() + microseconds(50);
        while (p.now() < deadline)
            p.park(deadline); // both unparks counted as one, so nothing but time ends this
        p.park(p.now());      // a deadline that has passed
    }});

    // A parked thread that is unparked comes back.
    {
        std::atomic<void*> sleeper{};
        std::atomic<bool> sent{};
        busy = 2;
        run(bodies{[&](any_parker& p) {
                       sleeper = p.current();
                       while (!sent)
                           p.park(instant::never());
                       finish_together(p);
                   },
                   [&](any_parker& p) {
                       while (!sleeper)
                           p.park(p.now() + microseconds(1));
                       sent = true;
                       p.unpark(sleeper);
                       finish_together(p);
                   }});
    }

    // Two threads that hand each other a turn, by park and unpark alone: what one wrote the other sees.
    {
        std::atomic<void*> threads[2]{};
        int turns = 0; // plain: ordered by the parker
        std::atomic<int> whose{};
        busy = 2;
        const auto player = [&](int me) {
            return [&, me](any_parker& p) {
                threads[me] = p.current();
                while (!threads[1 - me])
                    p.park(p.now() + microseconds(1));
                for (int i = 0; i < 200; ++i) {
                    while (whose.load(std::memory_order_acquire) != me)
                        p.park(instant::never());
                    CHECK(turns++ == 2 * i + me);
                    whose.store(1 - me, std::memory_order_release);
                    p.unpark(threads[1 - me]);
                }
                finish_together(p);
            };
        };
        run(bodies{player(0), player(1)});
        CHECK(turns == 400);
    }
}

} // namespace laws
