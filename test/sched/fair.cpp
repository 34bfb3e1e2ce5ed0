#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <random>
#include <vector>

#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/run_queue.hpp>
#include <laws/policy_laws.hpp>

using namespace exo;
using namespace exo::sched;

namespace {

__extension__ using wide = __int128;
using kind = fair::thread_kind;

fair::parameters with_nice(int nice, duration request = fair::quantum)
{
    return {kind::normal, static_cast<std::int8_t>(nice), request};
}
fair::parameters of_kind(kind k, duration request = fair::quantum) { return {k, 0, request}; }

fair::parameters any_parameters(std::mt19937& random)
{
    return {static_cast<kind>(random() % 5 < 3 ? 0 : 1 + random() % 2), static_cast<std::int8_t>(random() % 40 - 20),
            random() % 2 ? fair::quantum : microseconds(100 + random() % 99'900)};
}

struct thread : fair::entity {
    ~thread()
    {
        if (queue)
            queue->dequeue(*this);
    }

    fair* queue{};
    std::int64_t served{}; // ns
    std::int64_t charges{};
    // Of virtual time, at most one unit is lost by rounding at each charge.
    std::int64_t rounding() const { return (charges * fair::weight_of(parameters()) >> 16) + 1; }
};

// One CPU that does as the scheduler does: charges the one that runs before anything else happens.
class cpu {
public:
    fair policy;
    thread* running{};
    instant now{1'000'000};

    void run(duration ran)
    {
        now = now + ran;
        over = policy.tick(*running, ran, now);
        running->served += ran.nanoseconds();
        ++running->charges;
    }
    thread& pick() { return *(running = static_cast<thread*>(policy.pick(now))); }
    void put_back(departure why) { policy.requeue(*std::exchange(running, nullptr), why, now); }
    // True when `t` should take the CPU.
    bool wake(thread& t)
    {
        policy.enqueue(t, arrival::woken, now);
        t.queue = &policy;
        return running && policy.preempts(t, *running);
    }
    void leave(thread& t)
    {
        policy.dequeue(t);
        t.queue = nullptr;
        if (running == &t)
            running = nullptr;
    }
    // Runs what is there to the end of its turn.
    void turn()
    {
        pick();
        run(policy.turn_ends(*running, now) - now);
        REQUIRE(over);
        put_back(departure::turn_over);
    }
    void turns(int n)
    {
        while (n-- > 0)
            turn();
    }

    bool over{};
};

// EEVDF by its definition: every number absolute and as long as it needs to be, every sum and search over all.
class reference {
public:
    struct client {
        wide v{}, due{}, lag{};
        fair::parameters parameters;
        std::uint64_t since{}; // the order among those due at one time
        bool inside{};

        std::int64_t weight() const { return fair::weight_of(parameters); }
        wide distance(duration service) const
        {
            const std::int64_t inverse = ((std::int64_t{1} << 44) + weight() - 1) / weight();
            return static_cast<wide>(service.nanoseconds()) * inverse >> 28;
        }
    };
    std::vector<client> clients;
    client* running{};
    client* newcomer{};
    wide turn_end{}, turn_begin{};

    wide total_weight() const
    {
        return sum([](const client& c) { return wide{c.weight()}; });
    }
    wide total_position() const
    {
        return sum([](const client& c) { return c.weight() * c.v; });
    }
    bool eligible(const client& c) const { return total_weight() * c.v <= total_position(); }
    std::size_t queued() const
    {
        return static_cast<std::size_t>(std::ranges::count_if(clients, &client::inside)) - (running != nullptr);
    }

    void join(client& c)
    {
        const wide most = std::max(c.parameters.request, fair::quantum).nanoseconds() * wide{1 << 16};
        c.lag = std::clamp(c.lag, -(fair::longest_request.nanoseconds() * wide{1 << 16}), most);
        if (const wide weight = total_weight(); weight != 0)
            c.v = floor(total_position() - c.lag, weight) - c.lag / c.weight();
        else
            c.v = 0;
        request(c);
        c.inside = true;
        if (running && running->parameters.kind == kind::idle && c.parameters.kind != kind::idle &&
            (!newcomer || c.due < newcomer->due))
            newcomer = &c;
    }
    void leave(client& c)
    {
        c.lag = floor(total_position() - total_weight() * c.v, total_weight()) * c.weight();
        c.inside = false;
        if (running == &c)
            running = nullptr;
        if (newcomer == &c)
            newcomer = nullptr;
    }
    client* pick()
    {
        for (client& c : clients)
            if (!newcomer && c.inside && eligible(c) && (!running || earlier(c, *running)))
                running = &c;
        if (newcomer)
            running = std::exchange(newcomer, nullptr);
        if (running) {
            turn_begin = running->v;
            turn_end = std::min(running->due, running->v + running->distance(fair::quantum));
        }
        return running;
    }
    void put_back(departure why)
    {
        client& c = *std::exchange(running, nullptr);
        if (why == departure::yielded)
            c.v = std::max(c.v, c.due);
        if (c.v >= c.due)
            request(c);
        else if (why != departure::preempted)
            c.since = ++serial;
    }
    bool charge(duration ran)
    {
        running->v += running->distance(std::min(ran, fair::longest_request));
        if (running->v < turn_end)
            return false;
        if (queued() != 0)
            return true;
        running->v = turn_begin;
        return false;
    }
    bool preempts(const client& woken) const
    {
        if (woken.parameters.kind == kind::idle)
            return false;
        if (running->parameters.kind == kind::idle)
            return newcomer != nullptr;
        const wide due =
            running->v < running->due ? running->due : running->v + running->distance(running->parameters.request);
        return woken.parameters.kind == kind::normal && eligible(woken) && woken.due < due;
    }

private:
    template <class Term>
    wide sum(Term term) const
    {
        wide total = 0;
        for (const client& c : clients)
            if (c.inside)
                total += term(c);
        return total;
    }
    static wide floor(wide n, wide d) { return n / d - (n % d < 0); }
    static bool earlier(const client& a, const client& b)
    {
        return a.due < b.due || (a.due == b.due && a.since < b.since);
    }
    void request(client& c)
    {
        c.due = c.v + c.distance(c.parameters.request);
        c.since = ++serial;
    }

    std::uint64_t serial{};
};

} // namespace

TEST_CASE("fair keeps the laws of a policy")
{
    const auto configure = [](auto& e, unsigned i) {
        e.set({static_cast<kind>(i % 3), static_cast<std::int8_t>(i % 40 - 20), microseconds(100 + i % 9'900)});
    };
    laws::check_policy<fair>(configure, [](auto&) {});
    using both = run_queue<fixed_priority, fair>;
    laws::check_policy<both>(
        [](auto& e, unsigned i) {
            if (i % 2)
                e.set(both::parameters::of<fair>(with_nice(static_cast<int>(i % 40) - 20)));
            else
                e.set(both::parameters::of<fixed_priority>(fixed_priority::round_robin(1 + i % 9)));
        },
        [](auto&) {});
}

TEST_CASE("fair decides as EEVDF by its definition does, under random use")
{
    for (unsigned seed = 0; seed < 60; ++seed) {
        CAPTURE(seed);
        std::mt19937 random{seed};
        cpu real;
        reference model;
        std::vector<thread> threads(2 + random() % 30);
        model.clients.resize(threads.size());
        const auto client = [&](thread& t) -> reference::client& {
            return model.clients[static_cast<std::size_t>(&t - threads.data())];
        };
        const auto set = [&](thread& t) {
            const auto p = any_parameters(random);
            t.set(p);
            client(t).parameters = p;
        };
        for (thread& t : threads)
            set(t);
        const auto pick = [&] {
            real.running = static_cast<thread*>(real.policy.pick(real.now));
            auto* expected = model.pick();
            REQUIRE((real.running != nullptr) == (expected != nullptr));
            if (expected)
                REQUIRE(expected == &client(*real.running));
        };
        const auto put_back = [&](departure why) {
            real.put_back(why);
            model.put_back(why);
        };
        for (int step = 0; step < 1500; ++step) {
            thread& t = threads[random() % threads.size()];
            reference::client& c = client(t);
            switch (random() % 8) {
            case 0:
            case 1:
                if (!c.inside) {
                    const bool wins = real.wake(t);
                    model.join(c);
                    REQUIRE(wins == (model.running && model.preempts(c)));
                    if (wins) {
                        put_back(departure::preempted);
                        pick();
                    }
                } else if (random() % 2) {
                    real.leave(t);
                    model.leave(c);
                    if (random() % 4 == 0)
                        set(t);
                }
                break;
            default:
                if (!real.running) {
                    pick();
                    break;
                }
                const instant ends = real.policy.turn_ends(*real.running, real.now);
                const bool whole = ends != instant::never() && random() % 3 != 0;
                const duration ran =
                    whole ? ends - real.now : microseconds(random() % (random() % 100 ? 2'000 : 2'000'000));
                real.run(ran);
                REQUIRE(real.over == model.charge(ran));
                if (whole)
                    REQUIRE(real.over);
                if (real.over || random() % 4 == 0) {
                    put_back(real.over ? departure::turn_over : static_cast<departure>(random() % 3));
                    pick();
                }
            }
            for (thread& one : threads)
                if (const auto& m = client(one); m.inside) {
                    const wide lag = (model.total_position() - model.total_weight() * m.v) * m.weight();
                    REQUIRE(std::abs(real.policy.lag(one).nanoseconds() -
                                     static_cast<std::int64_t>(lag / model.total_weight() >> 16)) <= 2);
                }
        }
    }
}

// Stoica and Abdel-Wahab 1995, theorem 1. With the set unchanged the service that a thread of weight w should have had
// by the time t is exactly w t / W.
TEST_CASE("the lag of every thread stays within one request while the set of threads stays the same")
{
    for (unsigned seed = 0; seed < 40; ++seed) {
        CAPTURE(seed);
        std::mt19937 random{seed};
        cpu c;
        std::vector<thread> threads(2 + random() % 40);
        wide weights = 0;
        for (thread& t : threads) {
            t.set(seed % 2 ? any_parameters(random) : with_nice(static_cast<int>(random() % 11) - 5));
            weights += fair::weight_of(t.parameters());
            c.wake(t);
        }
        const instant begin = c.now;
        const auto check = [&] {
            for (thread& t : threads) {
                const wide lag =
                    fair::weight_of(t.parameters()) * wide{(c.now - begin).nanoseconds()} - weights * t.served;
                const wide request = t.parameters().request.nanoseconds();
                const wide quantum = fair::quantum.nanoseconds();
                std::int64_t rounding = 1;
                for (const thread& other : threads)
                    rounding += other.rounding();
                REQUIRE(lag >= -weights * (request + rounding));
                REQUIRE(lag <= weights * (std::max(request, quantum) + rounding));
                const wide told = weights * c.policy.lag(t).nanoseconds();
                REQUIRE(told - lag <= weights * rounding);
                REQUIRE(lag - told <= weights * rounding);
            }
        };
        for (int step = 0; step < 1500; ++step) {
            c.pick();
            const duration whole = c.policy.turn_ends(*c.running, c.now) - c.now;
            const bool cut = random() % 4 == 0; // by what goes before all of fair
            c.run(cut ? whole / static_cast<std::int64_t>(1 + random() % 5) : whole);
            check();
            c.put_back(c.over ? departure::turn_over : departure::preempted);
        }
    }
}

TEST_CASE(
    "lags sum to zero whoever joins, sleeps or changes weight, and those who stay share by weight what one takes along")
{
    for (unsigned seed = 0; seed < 30; ++seed) {
        CAPTURE(seed);
        std::mt19937 random{seed};
        cpu c;
        std::vector<thread> threads(3 + random() % 10);
        std::vector<thread*> inside;
        for (thread& t : threads) {
            t.set(any_parameters(random));
            c.wake(t);
            inside.push_back(&t);
        }
        const auto lags = [&] {
            std::vector<std::int64_t> all;
            for (thread* t : inside)
                all.push_back(c.policy.lag(*t).nanoseconds());
            return all;
        };
        const auto near = [](double a, double b, double tolerance) { return std::abs(a - b) <= tolerance; };
        for (int step = 0; step < 500; ++step) {
            c.pick();
            c.run((c.policy.turn_ends(*c.running, c.now) - c.now) / static_cast<std::int64_t>(1 + random() % 3));
            c.put_back(c.over ? departure::turn_over : departure::preempted);

            thread& t = *inside[random() % inside.size()];
            const std::int64_t lag = c.policy.lag(t).nanoseconds();
            inside.erase(std::ranges::find(inside, &t));
            const auto before = lags();
            c.leave(t);
            const auto alone = lags();
            double weight = 0;
            for (thread* i : inside)
                weight += fair::weight_of(i->parameters());
            // V moves by lag/W, W being the weight of the others.
            for (std::size_t i = 0; i < inside.size(); ++i)
                REQUIRE(near(static_cast<double>(alone[i]),
                             static_cast<double>(before[i]) +
                                 static_cast<double>(lag) * fair::weight_of(inside[i]->parameters()) / weight,
                             8));
            if (step % 2) {
                auto p = t.parameters();
                p.nice = static_cast<std::int8_t>(random() % 40 - 20);
                t.set(p);
            }
            c.wake(t);
            const std::int64_t most = std::max(t.parameters().request, fair::quantum).nanoseconds();
            REQUIRE(
                near(static_cast<double>(c.policy.lag(t).nanoseconds()), static_cast<double>(std::min(lag, most)), 8));
            if (lag <= most) {
                const auto after = lags();
                for (std::size_t i = 0; i < inside.size(); ++i)
                    REQUIRE(near(static_cast<double>(after[i]), static_cast<double>(before[i]), 16));
            }
            inside.push_back(&t);
            std::int64_t sum = 0;
            for (std::int64_t l : lags())
                sum += l;
            REQUIRE(std::abs(sum) <= static_cast<std::int64_t>(2 * inside.size()));
        }
    }
}

TEST_CASE("shares converge to the weights of all nice levels and of idle")
{
    cpu c;
    std::vector<thread> threads(41);
    std::int64_t weights = 0;
    for (int i = 0; i < 41; ++i) {
        threads[static_cast<std::size_t>(i)].set(i < 40 ? with_nice(i - 20) : of_kind(kind::idle));
        weights += fair::weight_of(threads[static_cast<std::size_t>(i)].parameters());
        c.wake(threads[static_cast<std::size_t>(i)]);
    }
    double expected = 1024.0 * 86.736; // 1.25^20
    for (int nice = -20; nice <= 19; ++nice, expected /= 1.25)
        CHECK(std::abs(fair::weight_of(with_nice(nice)) / expected - 1) < 0.05);
    CHECK(fair::weight_of(with_nice(-20)) == 88761);
    CHECK(fair::weight_of(with_nice(0)) == 1024);
    CHECK(fair::weight_of(with_nice(19)) == 15);
    CHECK(fair::weight_of(of_kind(kind::batch)) == 1024);
    CHECK(fair::weight_of(of_kind(kind::idle)) == 3);
    const instant begin = c.now;
    for (int enough = 0; enough < 3; ++enough) {
        c.turns(30'000);
        const std::int64_t time = (c.now - begin).nanoseconds();
        for (const thread& t : threads) {
            const auto fair_share = static_cast<std::int64_t>(wide{time} * fair::weight_of(t.parameters()) / weights);
            CHECK(std::abs(t.served - fair_share) <= fair::quantum.nanoseconds() + t.rounding());
        }
    }

    cpu two;
    thread normal, idle;
    idle.set(of_kind(kind::idle));
    two.wake(normal);
    two.wake(idle);
    two.turns(102'700);
    CHECK(std::abs(idle.served * 1024 - normal.served * 3) <= 1027 * fair::quantum.nanoseconds());
    CHECK(idle.served >= 299 * fair::quantum.nanoseconds());
}

TEST_CASE("batch preempts at no wake-up but that over idle, and idle at none")
{
    const kind kinds[] = {kind::normal, kind::batch, kind::idle};
    for (kind runs : kinds)
        for (kind comes : kinds)
            for (const duration request : {microseconds(100), milliseconds(100)})
                for (const bool in_debt : {false, true}) {
                    cpu c;
                    thread other, woken, running;
                    other.set(of_kind(kind::idle));
                    woken.set(of_kind(comes, request));
                    running.set(of_kind(runs, milliseconds(50)));
                    c.wake(running);
                    if (in_debt) { // it had more than its share before it slept
                        c.wake(woken);
                        while (&c.pick() != &woken) {
                            c.run(c.policy.turn_ends(running, c.now) - c.now);
                            c.put_back(departure::turn_over);
                        }
                        c.run(request);
                        c.leave(woken);
                    }
                    c.wake(other);
                    while (&c.pick() != &running) {
                        c.run(milliseconds(1));
                        c.put_back(departure::turn_over);
                    }
                    c.run(microseconds(50));
                    const bool eligible_normal = runs != kind::idle && comes == kind::normal && !in_debt;
                    const bool expected = (runs == kind::idle && comes != kind::idle) ||
                                          (eligible_normal && request == microseconds(100));
                    CAPTURE(static_cast<int>(runs));
                    CAPTURE(static_cast<int>(comes));
                    CAPTURE(request.nanoseconds());
                    CAPTURE(in_debt);
                    CHECK(c.wake(woken) == expected);
                    if (expected) {
                        c.put_back(departure::preempted);
                        CHECK(&c.pick() == &woken);
                    }
                }
}

TEST_CASE("of several that come while an idle thread runs the one due first goes next")
{
    cpu c;
    thread idle, slow, quick, gone;
    idle.set(of_kind(kind::idle));
    slow.set(of_kind(kind::batch, milliseconds(5)));
    quick.set(of_kind(kind::batch, milliseconds(2)));
    gone.set(of_kind(kind::batch, milliseconds(1)));
    c.wake(idle);
    c.pick();
    CHECK(c.wake(slow));
    CHECK(c.wake(quick));
    c.put_back(departure::preempted);
    CHECK(&c.pick() == &quick);
    c.leave(quick);
    c.leave(slow);
    CHECK(&c.pick() == &idle);
    CHECK(c.wake(gone));
    c.leave(gone);
    c.put_back(departure::preempted);
    CHECK(&c.pick() == &idle);
    CHECK(c.policy.rank(idle) == 1);
    CHECK(c.policy.rank(quick) == 0);
    CHECK(fair::rank_of(of_kind(kind::idle), {}) == 1);
    CHECK(fair::rank_of(with_nice(19), {}) == 0);
    CHECK(c.policy.weight(idle) == fair::idle_weight);
    CHECK(!c.policy.urgent(quick));
}

// From wake-up until it has had 100 us, on the average, for a thread that asks for `request` at a time among hogs that
// ask for 10 ms.
std::int64_t time_to_answer(duration request)
{
    cpu c;
    std::vector<thread> hogs(5);
    thread answering;
    for (thread& h : hogs) {
        h.set(with_nice(0, milliseconds(10)));
        c.wake(h);
    }
    answering.set(with_nice(0, request));
    const duration work = microseconds(100), sleep = microseconds(19'700);
    constexpr int questions = 1000;
    duration waited{};
    c.pick();
    instant wake_at = c.now + sleep;
    for (int answered = 0; answered < questions;) {
        const instant ends = c.policy.turn_ends(*c.running, c.now);
        if (c.running == &answering) {
            REQUIRE(ends - c.now >= work);
            c.run(work);
            waited += c.now - wake_at;
            ++answered;
            c.leave(answering);
            wake_at = c.now + sleep;
        } else if (!answering.queue && wake_at <= ends) {
            c.run(wake_at - c.now);
            if (!c.wake(answering))
                continue;
            c.put_back(departure::preempted);
        } else {
            c.run(ends - c.now);
            c.put_back(departure::turn_over);
        }
        c.pick();
    }
    return waited.nanoseconds() / questions;
}

TEST_CASE("a thread with shorter requests gets its turn sooner")
{
    const std::int64_t of_short = time_to_answer(microseconds(100)), of_default = time_to_answer(milliseconds(3)),
                       of_long = time_to_answer(milliseconds(50));
    CHECK(of_short < of_default);
    CHECK(of_default < of_long);
    // The last time it had 5/6 of 100 us beyond its share, which is made up for when all have had six times as much.
    CHECK(std::abs(of_short - microseconds(600).nanoseconds()) <= 1000);
}

TEST_CASE("sleep neither earns nor forgives anything")
{
    cpu c;
    std::vector<thread> hogs(4);
    thread sleeper;
    c.wake(sleeper);
    for (thread& h : hogs)
        c.wake(h);
    const auto sleep_for = [&](int turns) {
        const std::int64_t lag = c.policy.lag(sleeper).nanoseconds();
        c.leave(sleeper);
        c.turns(turns);
        c.wake(sleeper);
        CHECK(std::abs(c.policy.lag(sleeper).nanoseconds() - lag) <= 1);
    };
    c.turn();
    CHECK(c.policy.lag(sleeper) < milliseconds(-2));
    sleep_for(1);
    sleep_for(10'000);
    while (c.policy.lag(sleeper) <= milliseconds(1))
        c.turn();
    sleep_for(10'000);
    // From now on it gets its fifth and no more.
    sleeper.served = 0;
    const instant woken = c.now;
    c.turns(500);
    CHECK(std::abs(sleeper.served - (c.now - woken).nanoseconds() / 5) <= 2 * fair::quantum.nanoseconds());
}

TEST_CASE("credit is worth one request at most after sleep, whatever others owed")
{
    cpu here, there;
    std::vector<thread> debtors(40);
    thread creditor;
    for (thread& t : debtors)
        there.wake(t);
    here.wake(creditor);
    for (std::size_t i = 0; i < debtors.size(); ++i) {
        thread& t = there.pick();
        there.run(fair::quantum);
        there.leave(t);
        here.wake(t);
    }
    CHECK(here.policy.lag(creditor) > milliseconds(10));
    here.leave(creditor);
    here.turns(100);
    here.wake(creditor);
    CHECK(std::abs((here.policy.lag(creditor) - fair::quantum).nanoseconds()) <= 1);
    here.leave(creditor);
    creditor.set(with_nice(-20, milliseconds(20)));
    here.wake(creditor);
    CHECK(std::abs((here.policy.lag(creditor) - fair::quantum).nanoseconds()) <= 2);
}

TEST_CASE("debt is the longest request at most after sleep")
{
    cpu c;
    thread debtor, other;
    c.wake(debtor);
    c.wake(other);
    CHECK(&c.pick() == &debtor);
    for (int late = 0; late < 3; ++late) // so much that the timer must be broken
        c.run(seconds(10));
    CHECK(c.policy.lag(debtor) == milliseconds(-150));
    c.leave(debtor);
    c.wake(debtor);
    CHECK(c.policy.lag(debtor) == duration{} - fair::longest_request);
}

TEST_CASE("a thread keeps its lag, as service, when its weight or its CPU changes")
{
    cpu here, there;
    std::vector<thread> threads(6), others(3);
    for (thread& t : threads)
        here.wake(t);
    for (thread& t : others) {
        t.set(with_nice(7));
        there.wake(t);
    }
    here.turns(2);
    for (thread& t : threads) {
        const std::int64_t lag = here.policy.lag(t).nanoseconds();
        CHECK(lag != 0);
        for (int nice = -20; nice <= 19; ++nice) {
            here.leave(t);
            t.set(with_nice(nice));
            here.wake(t);
            CHECK(std::abs(here.policy.lag(t).nanoseconds() - lag) <= 2 * (nice + 21));
        }
        here.leave(t);
        t.set(with_nice(0));
        here.wake(t);
    }
    thread& moved = threads[0];
    const std::int64_t lag = here.policy.lag(moved).nanoseconds();
    here.leave(moved);
    there.wake(moved);
    CHECK(std::abs(there.policy.lag(moved).nanoseconds() - lag) <= 2);
    there.leave(moved);
    here.wake(moved);
    CHECK(std::abs(here.policy.lag(moved).nanoseconds() - lag) <= 4);
}

TEST_CASE("who yields gives up the rest of the request, as if it had been served")
{
    cpu c;
    thread yielder, other;
    yielder.set(with_nice(0, milliseconds(10)));
    other.set(with_nice(0, milliseconds(10)));
    c.wake(yielder);
    c.wake(other);
    CHECK(&c.pick() == &yielder);
    c.run(milliseconds(1));
    c.put_back(departure::yielded);
    CHECK(c.policy.lag(yielder) == milliseconds(-5));
    CHECK(c.policy.lag(other) == milliseconds(5));
    for (int turn = 0; turn < 4; ++turn) { // 3, 3, 3 and 1 ms
        CHECK(&c.pick() == &other);
        c.run(c.policy.turn_ends(other, c.now) - c.now);
        c.put_back(departure::turn_over);
    }
    CHECK(c.policy.lag(yielder) == duration{});
    CHECK(&c.pick() == &yielder);
}

TEST_CASE("alone a thread may run for years, and owes nothing to who comes then")
{
    for (const kind k : {kind::normal, kind::idle}) {
        cpu c;
        thread lone, late;
        lone.set(of_kind(k));
        late.set(of_kind(k));
        c.wake(lone);
        c.pick();
        CHECK(c.policy.turn_ends(lone, c.now) == instant::never());
        for (int day = 0; day < 4000; ++day) {
            c.run(seconds(86'400));
            CHECK(!c.over);
        }
        for (int turn = 0; turn < 100'000; ++turn)
            c.run(fair::quantum);
        CHECK(!c.wake(late));
        CHECK(c.policy.lag(lone) == duration{});
        CHECK(c.policy.lag(late) == duration{});
        CHECK(c.policy.turn_ends(lone, c.now) - c.now == fair::quantum);
        lone.served = 0;
        c.run(fair::quantum);
        c.put_back(departure::turn_over);
        c.turns(999);
        CHECK(lone.served == 500 * fair::quantum.nanoseconds());
    }
}

TEST_CASE("virtual time wraps around unseen")
{
    cpu c;
    std::vector<thread> threads(3);
    for (thread& t : threads) {
        t.set(of_kind(kind::idle, milliseconds(100)));
        c.wake(t);
    }
    // Each yield is worth 2^41 of 2^64.
    std::vector<int> yields(3);
    for (int i = 0; i < 300'000; ++i) {
        ++yields[static_cast<std::size_t>(&c.pick() - threads.data())];
        c.put_back(departure::yielded);
    }
    CHECK(yields == std::vector<int>(3, 100'000));
}

TEST_CASE("a thousand of the least weight that owe most, beside one of the greatest, overflow nothing")
{
    cpu here, there;
    std::deque<thread> debtors(1000);
    thread creditor, rival;
    creditor.set(with_nice(-20, milliseconds(100)));
    rival.set(of_kind(kind::idle, milliseconds(100)));
    here.wake(creditor);
    for (thread& t : debtors) {
        t.set(of_kind(kind::idle, milliseconds(100)));
        there.wake(t);
        there.wake(rival);
        REQUIRE(&there.pick() == &t);
        there.run(milliseconds(100)); // of which half is the rival's
        there.leave(t);
        there.leave(rival);
        here.wake(t);
    }
    const auto owed = here.policy.lag(creditor);
    CHECK(owed > seconds(49));
    std::int64_t sum = owed.nanoseconds();
    for (thread& t : debtors)
        sum += here.policy.lag(t).nanoseconds();
    CHECK(std::abs(sum) <= 1001);
    while (here.policy.lag(creditor) >= duration{}) {
        REQUIRE(&here.pick() == &creditor);
        here.run(milliseconds(100));
        here.put_back(departure::turn_over);
    }
    // Its own share of that time comes on top of what it was owed.
    const wide others = 3 * debtors.size();
    const wide expected = owed.nanoseconds() * (88761 + others) / others;
    CHECK(creditor.served >= static_cast<std::int64_t>(expected));
    CHECK(creditor.served <= static_cast<std::int64_t>(expected) + milliseconds(101).nanoseconds());
}

TEST_CASE("what another CPU should take comes in the order in which it is due, without the one that runs")
{
    cpu c;
    std::vector<thread> threads(300);
    std::mt19937 random{1};
    std::vector<thread*> by_due;
    for (thread& t : threads) {
        t.set(with_nice(static_cast<int>(random() % 40) - 20,
                        random() % 3 ? fair::quantum : microseconds(100 + random() % 9900)));
        by_due.push_back(&t);
        c.wake(t);
    }
    std::ranges::sort(by_due, {}, [](thread* t) {
        const auto request = static_cast<double>(t->parameters().request.nanoseconds());
        return std::pair{request / fair::weight_of(t->parameters()), t};
    });
    const auto movable = [&](std::size_t limit) {
        std::vector<thread*> seen;
        c.policy.visit_movable([&](fair::entity& e) {
            seen.push_back(static_cast<thread*>(&e));
            return seen.size() < limit;
        });
        return seen;
    };
    CHECK(movable(1000) == by_due);
    CHECK(movable(3) == std::vector(by_due.begin(), by_due.begin() + 3));
    CHECK(&c.pick() == by_due[0]);
    CHECK(movable(1000) == std::vector(by_due.begin() + 1, by_due.end()));
}
