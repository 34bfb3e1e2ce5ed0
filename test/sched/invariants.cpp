// The queues that boot, under random threads of all classes on several CPUs: after every step of any CPU, what must
// hold at all times.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <exo/sched/admission.hpp>
#include <exo/sched/policies/deadline.hpp>
#include <exo/sched/policies/fair.hpp>
#include <exo/sched/policies/fixed_priority.hpp>
#include <exo/sched/policies/throttled.hpp>
#include <exo/sched/run_queue.hpp>
#include <exo/sim/topology.hpp>
#include <exo/sync/wait_queue.hpp>
#include <exo/trace/registry.hpp>

#include "random_runs.hpp"
#include "world.hpp"

using namespace exo;
using real_time = sched::throttled<sched::fixed_priority>;
using queues = sched::run_queue<sched::deadline, real_time, sched::fair>;
using sched::fair;
using sched::task_state;
using shape = sim::topology<>::shape;

namespace {

// The first law that was broken. Most are found where nothing may throw.
std::string broken;
void law(bool holds, const char* what)
{
    if (!holds && broken.empty())
        broken = what;
}

// With a list of whom each queue has beside what it makes of them.
class watched : public queues {
public:
    struct entity : queues::entity {
        const watched* in{};
    };
    std::vector<entity*> members;
    entity* running{};

    void enqueue(entity& e, sched::arrival how, instant now) noexcept
    {
        law(!e.in, "one that is queued is queued again");
        e.in = this;
        members.push_back(&e);
        queues::enqueue(e, how, now);
    }
    void dequeue(entity& e) noexcept
    {
        law(e.in == this, "one that is not here is taken out");
        e.in = nullptr;
        std::erase(members, &e);
        if (running == &e)
            running = nullptr;
        queues::dequeue(e);
    }
    entity* pick(instant now) noexcept
    {
        law(!running, "a second one is picked");
        running = static_cast<entity*>(queues::pick(now));
        law(!running || running->in == this, "one that is not here is picked");
        return running;
    }
    void requeue(entity& e, sched::departure why, instant now) noexcept
    {
        law(running == &e, "one that does not run is put back");
        running = nullptr;
        queues::requeue(e, why, now);
    }
    template <class Visit>
    void visit_movable(Visit visit)
    {
        queues::visit_movable([&](queues::entity& e) { return visit(static_cast<entity&>(e)); });
    }
};
static_assert(sched::SchedPolicy<watched>);

using world = sched_test::world<watched, sim::topology<>>;

// What a thread claims: of two the lesser goes first. Fair ones take turns.
using claim = std::pair<unsigned, std::uint64_t>;
constexpr claim idle{3, 0};
claim claim_of(const watched::entity& e)
{
    if (e.follows<sched::deadline>())
        return {0, static_cast<const sched::deadline::entity&>(e).absolute_deadline().nanoseconds()};
    if (e.follows<real_time>())
        return {1, 99u - static_cast<const real_time::entity&>(e).parameters().priority};
    return {2, 0};
}
bool is_urgent(const claim& c) { return c.first < 2; }

// For how long something has been as it must not stay.
class wrong_since {
public:
    // Whether it is beyond `limit`.
    bool operator()(bool wrong, instant now, duration limit)
    {
        if (!wrong)
            since_ = instant::never();
        else if (since_ == instant::never())
            since_ = now;
        return wrong && now > since_ + limit;
    }

private:
    instant since_{instant::never()};
};

struct totals {
    std::uint64_t steps{}, migrations{}, steals{}, throttles{}, budgets{}, urgent_waits{}, neglected{}, started{};
};

struct actor {
    world::thread* thread{};
    instant sleeps_until{instant::never()}, woken{instant::never()};
    wrong_since sleeps_on, adrift, misplaced, neglected, outranked;
    sched::admission::reservation reservation;

    world::task& task() const { return thread->task_; }
};

class play {
public:
    play(const shape& s, unsigned seed)
        : world_{sim::topology<>{s}}, random_{seed}, explores_{seed % 4 != 0}, cpus_{world_.topology.cpu_count()},
          control_{cpus_}, runs_(cpus_), lower_runs_(cpus_), held_back_(cpus_)
    {
        if (explores_)
            world_.machine.explore(seed);
        world_.on_switch = [&](world::task& previous, world::task& next) {
            const unsigned cpu = world_.machine.current_cpu();
            law(!runs_[cpu] || runs_[cpu] == &previous, "a CPU leaves a thread that it did not run");
            runs_[cpu] = &next;
        };
        for (unsigned cpu = 0; cpu < cpus_; ++cpu)
            world_.machine.interrupt(cpu, [&, share = seed % 2 == 0] {
                world_.sched.visit_queue([&](watched& q) {
                    q.get<sched::deadline>().keep_deadlines(cpus_ > 1);
                    if (share)
                        q.get<real_time>().set_share({milliseconds(6), milliseconds(10)});
                });
            });
        for (unsigned i = 0; i < regulars; ++i)
            start([this](actor& self) { perform(self); });
    }

    void run(unsigned steps, totals& all)
    {
        (void)world_.machine.run_until([&] {
            ++all.steps;
            check(all);
            return !broken.empty() || --steps == 0;
        });
        REQUIRE(broken == "");
        done_ = true;
        world_.run();
        REQUIRE(broken == "");
        REQUIRE(world_.all_ended());
        for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
            REQUIRE(queue(cpu).members.empty());
            CHECK(world_.sched.load(cpu) == 0);
            all.throttles += queue(cpu).get<real_time>().throttles();
            all.budgets += queue(cpu).get<sched::deadline>().throttles();
        }
        trace::registry metrics;
        auto source = world_.sched.make_metrics_source();
        metrics.add(source);
        all.migrations += metrics.value("exo_sched_migrations_total").value();
        all.steals += metrics.value("exo_sched_steals_won_total").value();
        all.started += world_.threads.size();
        for (actor& a : actors_)
            if (a.reservation.admitted())
                control_.release(a.reservation);
    }

private:
    static constexpr unsigned regulars = 16, most_threads = 40;

    const watched& queue(unsigned cpu) const { return world_.processors[cpu].queue(); }
    bool idles(unsigned cpu) const { return !runs_[cpu] || runs_[cpu]->name() == "idle"; }
    unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }

    template <class Body>
    void start(Body body)
    {
        actor& a = actors_.emplace_back();
        a.thread = &world_.make("random", [&a, body] {
            a.woken = instant::never();
            body(a);
        });
        a.task().set(any_parameters(a));
        const auto saved = world_.sched.save_and_disable();
        a.woken = world_.machine.now();
        world_.sched.start(a.task(), below(cpus_));
        world_.sched.restore(saved);
    }

    // Threads that are to end come and go beside the regulars, which others may wake and change at any time.
    void perform(actor& self)
    {
        while (!done_)
            act(self, true);
        ++finished_;
        bell_.wake_all(world_.parker);
        bell_.wait(world_.parker, [&] { return finished_ == regulars; });
    }
    void act(actor& self, bool regular)
    {
        switch (below(regular ? 12 : 4)) {
        case 0:
            world_.sched.yield();
            break;
        case 1:
            world_.machine.spend(microseconds(below(8'000)));
            break;
        case 2:
            world_.machine.spend(microseconds(below(300)));
            break;
        case 3:
            sleep(self, microseconds(below(20'000)));
            break;
        case 4:
            sleep(self, milliseconds(30));
            break;
        case 5:
        case 6:
        case 7:
            wake(other());
            break;
        case 8:
            change(self);
            break;
        case 9:
            change(other());
            break;
        case 10:
            bind(below(2) ? self : other());
            break;
        case 11:
            if (actors_.size() < most_threads && below(8) == 0)
                start([this](actor& child) {
                    for (unsigned n = below(10); n-- > 0;)
                        act(child, false);
                });
        }
    }
    actor& other() { return actors_[below(regulars)]; }
    void sleep(actor& self, duration time)
    {
        self.sleeps_until = world_.sched.now() + time;
        world_.sched.park(self.sleeps_until);
        self.sleeps_until = self.woken = instant::never();
    }
    void wake(actor& a)
    {
        const auto saved = world_.sched.save_and_disable();
        if (a.task().state() == task_state::parked && a.sleeps_until != instant::never())
            a.woken = std::min(a.woken, world_.machine.now());
        world_.sched.unpark(&a.task());
        world_.sched.restore(saved);
    }
    queues::parameters any_parameters(actor& a)
    {
        const auto priority = 1 + below(4) * 30;
        switch (below(8)) {
        case 0:
            return queues::parameters::of<real_time>(sched::fixed_priority::fifo(priority));
        case 1:
            return queues::parameters::of<real_time>(sched::fixed_priority::round_robin(priority, milliseconds(2)));
        case 2:
        case 3: {
            const auto period = microseconds(2'000 + below(20'000));
            const auto deadline = below(2) ? period : period - microseconds(below(1'000));
            const sched::deadline_parameters p{microseconds(200 + below(1'000)), deadline, period, false};
            if (a.reservation.admitted() ? control_.change(a.reservation, p) : control_.admit(a.reservation, p))
                return queues::parameters::of<sched::deadline>(p);
            [[fallthrough]];
        }
        default:
            return queues::parameters::of<fair>({static_cast<fair::thread_kind>(below(3)),
                                                 static_cast<std::int8_t>(static_cast<int>(below(40)) - 20),
                                                 below(2) ? fair::quantum : microseconds(100 + below(5'000))});
        }
    }
    // Deadline threads may run anywhere, as admission counts with.
    void change(actor& a)
    {
        const auto parameters = any_parameters(a);
        if (parameters.follows<sched::deadline>())
            REQUIRE(world_.sched.set_affinity(a.task(), cpu_set::first(cpu_set::limit)));
        world_.sched.set_parameters(a.task(), parameters);
    }
    void bind(actor& a)
    {
        if (world_.sched.parameters(a.task()).follows<sched::deadline>())
            return;
        cpu_set allowed = cpu_set::of(below(cpus_));
        for (unsigned cpu = 0; cpu < cpus_; ++cpu)
            if (below(2))
                allowed.add(cpu);
        REQUIRE(world_.sched.set_affinity(a.task(), allowed));
    }

    // Whoever waits here, and may run somewhere; here, too, unless held back with all that are like it.
    static bool waits(const watched& q, const watched::entity& e)
    {
        return &e != q.running && (!e.follows<sched::deadline>() ||
                                   static_cast<const sched::deadline::entity&>(e).runtime_left() > duration{});
    }
    static bool is_held_back(const watched& q, const watched::entity& e)
    {
        return e.follows<real_time>() && q.get<real_time>().size() == 0;
    }

    void check(totals& all)
    {
        const instant now = world_.machine.now();
        std::size_t queued = 0;
        claims_.assign(cpus_, idle);
        closed_.assign(cpus_, false);
        for (unsigned cpu = 0; cpu < cpus_; ++cpu) {
            const watched& q = queue(cpu);
            queued += q.members.size();
            law(idles(cpu) ? !q.running : q.running == runs_[cpu], "what a CPU runs is not what its queue says");
            if (q.running)
                claims_[cpu] = claim_of(*q.running);
            const instant opens = q.get<real_time>().closed().until;
            closed_[cpu] = opens != instant::never() && opens > now;
            std::size_t waiting = 0, held_back = 0;
            bool lower = false;
            for (const watched::entity* e : q.members)
                if (waits(q, *e)) {
                    ++waiting;
                    if (is_held_back(q, *e))
                        ++held_back;
                    else
                        lower = lower || claim_of(*e) < claims_[cpu];
                }
            law(!held_back_[cpu](held_back != 0, now, q.get<real_time>().share().period + reaction()),
                "real-time threads are held back for longer than a period");
            law(q.size() == waiting - held_back, "a queue has lost one, or counts one twice");
            std::size_t visited = 0;
            const_cast<watched&>(q).visit_movable([&](const watched::entity& e) {
                ++visited;
                law(e.in == &q && waits(q, e), "a queue offers what it has not");
                return true;
            });
            law(visited == waiting, "a queue does not offer all that waits");
            law(!lower_runs_[cpu](lower, now, reaction()), "a CPU runs what is lower than one that waits there");
        }
        for (actor& a : actors_) {
            const world::task& t = a.task();
            const watched* const in = t.in;
            queued -= in != nullptr;
            law(!in || (t.state() == task_state::ready && in == &queue(t.cpu())), "one is not where it says");
            law(!a.adrift(!in && t.state() == task_state::ready, now, reaction()), "one that is ready is nowhere");
            const bool should_come = (t.state() == task_state::parked || t.state() == task_state::created) &&
                                     now >= std::min(a.woken, a.sleeps_until);
            law(!a.sleeps_on(should_come, now, reaction()), "one that was woken sleeps on");

            const bool misplaced = in && &t == in->running && !world_.sched.affinity(t).contains(t.cpu());
            law(!a.misplaced(misplaced, now, reaction()), "one runs where it may not");

            bool neglected = false, outranked = false;
            if (in && waits(*in, t)) {
                const claim own = claim_of(t);
                all.urgent_waits += is_urgent(own);
                std::optional<cpu_set> allowed;
                for (unsigned cpu = 0; cpu < cpus_; ++cpu)
                    if ((idles(cpu) || (is_urgent(own) && own < claims_[cpu])) &&
                        !(t.follows<real_time>() && closed_[cpu])) {
                        if (!allowed)
                            allowed = world_.sched.affinity(t);
                        if (allowed->contains(cpu))
                            (idles(cpu) ? neglected : outranked) = true;
                    }
            }
            all.neglected += neglected;
            law(!a.neglected(neglected, now, world::scheduler::balance_interval), "a CPU idles while one waits for it");
            law(!a.outranked(outranked, now, world::scheduler::balance_interval), "an urgent one waits for others");
        }
        law(queued == 0, "a queue has what is no thread");
    }
    // Code that explores stands still now and then, for 50 microseconds at most, before it goes on to what it has to
    // do.
    duration reaction() const { return explores_ ? microseconds(200) : duration{}; }

    world world_;
    std::mt19937 random_;
    bool explores_;
    unsigned cpus_;
    sched::admission control_;
    std::deque<actor> actors_;
    sync::wait_queue bell_;
    unsigned finished_{};
    bool done_{};
    std::vector<const world::task*> runs_;
    std::vector<wrong_since> lower_runs_, held_back_;
    std::vector<claim> claims_;
    std::vector<bool> closed_; // to real-time threads
};

} // namespace

TEST_CASE("after every step of the queues that boot, each thread is in one place, and none waits that could run")
{
    constexpr shape shapes[] = {{},           {.cores = 2},
                                {.cores = 3}, {.threads = 2, .cores = 2},
                                {.cores = 5}, {.threads = 2, .cores = 3},
                                {.cores = 7}, {.threads = 2, .cores = 2, .nodes = 2},
                                {.nodes = 2}, {.cores = 4, .packages = 2}};
    totals all;
    exo_test::random_runs(60, 20'000, [&](unsigned seed) {
        broken.clear();
        play{shapes[seed % std::size(shapes)], seed}.run(20'000, all);
    });
    MESSAGE(all.steps << " steps, " << all.started << " threads, " << all.migrations << " migrations, " << all.steals
                      << " steals, " << all.throttles << " shares and " << all.budgets << " budgets used up, "
                      << all.urgent_waits << " urgent waits, " << all.neglected << " neglected");
    CHECK(all.steps >= (std::getenv("EXO_RANDOM_STEPS") ? 0 : 1'000'000));
    CHECK(all.migrations > all.steps / 100);
    CHECK(all.steals > all.steps / 200);
    CHECK(all.throttles > all.steps / 1'000);
    CHECK(all.budgets > all.steps / 100);
    CHECK(all.urgent_waits > all.steps / 20);
}
