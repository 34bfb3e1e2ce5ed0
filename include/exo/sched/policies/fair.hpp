// Normal, batch and idle threads: each gets CPU time in proportion to its weight, by EEVDF (Stoica and Abdel-Wahab,
// "Earliest Eligible Virtual Deadline First", Old Dominion University TR-95-22, 1995).
//
// Virtual time V advances by 1/W while a CPU serves threads of weight W together. A thread of weight w has come as far
// as its own virtual time v, which advances by 1/w while it runs; its lag, w(V - v), is the service that it is owed. It
// asks for service in requests of length r: one is eligible when the lag is not negative, and due at v + r/w. Of those
// eligible the one due first runs.
//
//  - V is where the lags sum to zero: the mean of all v by weight, with that of the thread that runs. So one who leaves
//    or joins, with whatever lag, moves V as the paper's section 3 has it.
//  - A thread that leaves (to sleep, to be moved, to change its weight) keeps its lag and joins with it: as service, so
//    that it is worth the same at any weight and on any CPU. It joins with no more credit than steady competition could
//    leave it with (theorem 1), however long it slept, and with a new request.
//  - A turn lasts until the request is served, but no longer than a quantum: then whoever is due first goes on, perhaps
//    the same. Within it only a wake-up preempts: of a normal thread that is eligible and due earlier; or of any thread
//    that is not idle, while an idle one runs. So lag lies between -r and max(r, quantum), whatever the others request.
//  - Yielding gives up the rest of the request as if it had been served.
//
// Threads of one weight that request a quantum at a time come due in the order in which they were served: each weight
// has a lane, a list at whose end such a thread is put back, and whose head is the first to be eligible and the first
// to be due. Whoever would not be last in its lane (who joined, was preempted, or requests more or less) stands in a
// tree by due time, augmented with the least v below. So to choose and to put back takes constant time for each weight
// in use, plus what is logarithmic in the size of the tree. The one that runs keeps its place meanwhile.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>

#include <exo/base/check.hpp>
#include <exo/base/list.hpp>
#include <exo/base/tree.hpp>
#include <exo/sched/policy.hpp>

namespace exo::sched {

class fair {
public:
    enum class thread_kind : std::uint8_t { normal, batch, idle };

    static constexpr int lowest_nice = -20;
    static constexpr int highest_nice = 19;
    static constexpr std::uint32_t idle_weight = 3;
    static constexpr duration quantum = milliseconds(3);
    static constexpr duration shortest_request = microseconds(100);
    static constexpr duration longest_request = milliseconds(100);

    struct parameters {
        thread_kind kind{};
        std::int8_t nice{}; // nothing to an idle one
        duration request{quantum};

        friend bool operator==(const parameters&, const parameters&) = default;
    };

    // Linux's: 1024 at nice 0, a factor of about 1.25 a step.
    [[nodiscard]] static std::uint32_t weight_of(const parameters& p) { return speeds[level_of(p)].weight; }

private:
    // Wraps around; comparable within half its range.
    class virtual_time {
    public:
        friend bool operator<(virtual_time a, virtual_time b) { return a - b < 0; }
        friend std::int64_t operator-(virtual_time a, virtual_time b)
        {
            return static_cast<std::int64_t>(a.at_ - b.at_);
        }
        friend virtual_time operator+(virtual_time a, std::int64_t b)
        {
            a.at_ += static_cast<std::uint64_t>(b);
            return a;
        }

    private:
        std::uint64_t at_{~std::uint64_t{0} << 40}; // soon to wrap, so that whatever depends on it fails soon
    };

public:
    class entity {
    public:
        void set(const fair::parameters& p)
        {
            EXO_CHECK(p.kind <= thread_kind::idle && p.nice >= lowest_nice && p.nice <= highest_nice);
            EXO_CHECK(p.request >= shortest_request && p.request <= longest_request && !inside());
            parameters_ = p;
            level_ = level_of(p);
        }
        [[nodiscard]] fair::parameters parameters() const { return parameters_; }

    private:
        friend fair;
        [[nodiscard]] bool inside() const { return lane_hook_.linked() || tree_hook_.linked(); }
        [[nodiscard]] bool idle() const { return parameters_.kind == thread_kind::idle; }
        [[nodiscard]] std::int64_t weight() const { return speeds[level_].weight; }
        // How far `service` carries it in virtual time.
        [[nodiscard]] std::int64_t distance(duration service) const
        {
            return static_cast<std::int64_t>(product(service.nanoseconds(), speeds[level_].inverse) >>
                                             (inverse_bits - service_bits));
        }

        // One of the two hooks is linked while it is queued or runs.
        list_hook lane_hook_;
        virtual_time due_;
        virtual_time v_;
        std::uint64_t since_{}; // the order among those due at one time
        tree_hook tree_hook_;
        virtual_time least_; // v of all below it in the tree, and its own
        std::int64_t lag_{}; // while outside; scaled by service_bits
        fair::parameters parameters_;
        std::uint8_t level_{level_of({})};
    };

    // The one that runs, if any, has been charged until now: what it ran decides where others join.
    void enqueue(entity& e, arrival, instant) noexcept
    {
        const std::int64_t lag = bounded(e.lag_, e.parameters_.request);
        // Joining moves V by -lag/W, W being the weight of the others; the lag is reached from there.
        e.v_ = base_;
        if (weight_ != 0)
            e.v_ = e.v_ + (quotient(sum_ - lag, weight_) - lag / e.weight());
        e.due_ = e.v_ + e.distance(e.parameters_.request);
        sum_ += product(e.weight(), e.v_ - base_);
        weight_ += e.weight();
        place(e);
        ++size_;
        if (running_ && running_->idle() && !e.idle() && (!newcomer_ || e.due_ < newcomer_->due_))
            newcomer_ = &e;
    }
    void dequeue(entity& e) noexcept
    {
        e.lag_ = scaled_lag(e);
        sum_ -= product(e.weight(), e.v_ - base_);
        weight_ -= e.weight();
        displace(e);
        if (&e == running_)
            running_ = nullptr;
        else
            --size_;
        if (&e == newcomer_)
            newcomer_ = nullptr;
    }
    entity* pick(instant) noexcept
    {
        EXO_CHECK(!running_);
        running_ = newcomer_ ? newcomer_ : first_eligible();
        newcomer_ = nullptr;
        if (!running_)
            return nullptr;
        --size_;
        sum_ -= product(weight_, running_->v_ - base_);
        base_ = turn_begin_ = running_->v_;
        turn_end_ = base_ + running_->distance(quantum);
        if (running_->due_ < turn_end_)
            turn_end_ = running_->due_;
        return running_;
    }
    void requeue(entity& e, departure why, instant) noexcept
    {
        running_ = nullptr;
        ++size_;
        if (why == departure::yielded && e.v_ < e.due_)
            advance(e, e.due_ - e.v_);
        const bool served = !(e.v_ < e.due_);
        if (!served && why == departure::preempted) {
            keep_place(e);
            return;
        }
        displace(e);
        if (served)
            e.due_ = next_due(e);
        place(e);
    }

    bool tick(entity& e, duration ran, instant) noexcept
    {
        // A timer that comes later than this is broken, or the machine stood still.
        advance(e, e.distance(ran < longest_request ? ran : longest_request));
        if (e.v_ < turn_end_)
            return false;
        if (size_ != 0)
            return true;
        // Alone it takes nobody's time, and begins its turn again.
        advance(e, turn_begin_ - e.v_);
        return false;
    }
    [[nodiscard]] instant turn_ends(const entity& e, instant now) const noexcept
    {
        if (size_ == 0)
            return instant::never();
        const std::int64_t left = turn_end_ - e.v_;
        return left <= 0 ? now : now + duration{((left * e.weight() - 1) >> service_bits) + 1};
    }
    [[nodiscard]] bool preempts(const entity& woken, const entity& running) const noexcept
    {
        if (woken.idle())
            return false;
        if (running.idle())
            return newcomer_ != nullptr;
        return woken.parameters_.kind == thread_kind::normal && eligible(woken.v_) &&
               woken.due_ < (running.v_ < running.due_ ? running.due_ : next_due(running));
    }
    [[nodiscard]] instant next_release() const noexcept { return instant::never(); }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    // In the order in which they are due: those that waited longest for their weight come first.
    template <class Visit>
    void visit_movable(Visit visit)
    {
        lane::iterator in_lane[lane_count];
        for (std::size_t i = 0; i < lane_count; ++i)
            in_lane[i] = lanes_[i].begin();
        entity* in_tree = tree_.first();
        for (std::uint64_t left = occupied_;;) {
            entity* first = in_tree;
            std::size_t from = lane_count;
            for (std::uint64_t rest = left; rest != 0; rest &= rest - 1) {
                const auto i = static_cast<std::size_t>(std::countr_zero(rest));
                if (!first || order_of(*in_lane[i]) < order_of(*first)) {
                    first = &*in_lane[i];
                    from = i;
                }
            }
            if (!first)
                return;
            if (from == lane_count)
                in_tree = tree_.next(*first);
            else if (++in_lane[from] == lanes_[from].end())
                left &= ~bit(from);
            if (first != running_ && !visit(*first))
                return;
        }
    }
    [[nodiscard]] std::uint64_t rank(const entity& e) const noexcept { return rank_of(e.parameters_, {}); }
    [[nodiscard]] static std::uint64_t rank_of(const parameters& p, instant) noexcept
    {
        return p.kind == thread_kind::idle;
    }
    [[nodiscard]] bool urgent(const entity&) const noexcept { return false; }
    [[nodiscard]] std::uint32_t weight(const entity& e) const noexcept { return speeds[e.level_].weight; }

    // The service that `e`, queued or running, is owed; negative when it had more than its share.
    [[nodiscard]] duration lag(const entity& e) const noexcept { return duration{scaled_lag(e) >> service_bits}; }

private:
    // Service is counted in 2^-16 ns, and virtual time so that it advances by 2^16/w a nanosecond. What bounds them: a
    // request, a charge and the lag that one joins with are at most 100 ms, or 2^43. Lags sum to zero, so among n
    // threads none exceeds n 2^43 by more than what is charged at once, and a weight is at least 3: a million threads
    // stay within the comparable range of virtual_time. Sums over all of weight and distance fit wide.
    static constexpr unsigned service_bits = 16;
    static constexpr unsigned inverse_bits = 44;
    __extension__ using wide = __int128;

    struct speed {
        std::uint32_t weight;
        std::int64_t inverse; // 2^44/weight, rounded up so that a turn of computed length does not end too early
    };
    struct speed_table {
        speed levels[highest_nice - lowest_nice + 2];
        constexpr const speed& operator[](std::size_t level) const { return levels[level]; }
    };
    static constexpr speed_table speeds = [] {
        constexpr std::uint32_t weights[] = {
            88761, 71755, 56483, 46273, 36291, 29154, 23254, 18705, 14949, 11916, 9548, 7620, 6100,        4904,
            3906,  3121,  2501,  1991,  1586,  1277,  1024,  820,   655,   526,   423,  335,  272,         215,
            172,   137,   110,   87,    70,    56,    45,    36,    29,    23,    18,   15,   idle_weight,
        };
        speed_table table{};
        for (std::size_t i = 0; i < sizeof weights / sizeof *weights; ++i)
            table.levels[i] = {weights[i], ((std::int64_t{1} << inverse_bits) + weights[i] - 1) / weights[i]};
        return table;
    }();
    static constexpr std::uint8_t level_of(const parameters& p)
    {
        return static_cast<std::uint8_t>((p.kind == thread_kind::idle ? highest_nice + 1 : p.nice) - lowest_nice);
    }

    static wide product(std::int64_t a, std::int64_t b) { return static_cast<wide>(a) * b; }
    // Rounded down; it fits. The compiler's own division would need its library.
    static std::int64_t quotient(wide n, std::int64_t d)
    {
        if (n < 0)
            return -quotient(d - 1 - n, d);
        if (n == static_cast<std::int64_t>(n))
            return static_cast<std::int64_t>(n) / d;
        wide rest = n;
        std::int64_t q = 0;
        for (int bit = 62; bit >= 0; --bit) {
            if ((rest >> bit) >= d) {
                rest -= static_cast<wide>(d) << bit;
                q |= std::int64_t{1} << bit;
            }
        }
        return q;
    }

    // A debt remains whatever is requested next.
    static std::int64_t bounded(std::int64_t lag, duration request)
    {
        const std::int64_t most = (request > quantum ? request : quantum).nanoseconds() << service_bits;
        const std::int64_t least = -(longest_request.nanoseconds() << service_bits);
        return lag > most ? most : lag < least ? least : lag;
    }

    // v <= V
    [[nodiscard]] bool eligible(virtual_time v) const { return product(weight_, v - base_) <= sum_; }
    [[nodiscard]] std::int64_t scaled_lag(const entity& e) const
    {
        return quotient(sum_ - product(weight_, e.v_ - base_), weight_) * e.weight();
    }
    static virtual_time next_due(const entity& e) { return e.v_ + e.distance(e.parameters_.request); }
    void advance(entity& e, std::int64_t distance)
    {
        e.v_ = e.v_ + distance;
        sum_ += e.weight() * distance;
    }

    struct order {
        virtual_time due;
        std::uint64_t since;
        friend bool operator<(const order& a, const order& b)
        {
            const std::int64_t later = a.due - b.due;
            return later < 0 || (later == 0 && a.since < b.since);
        }
    };
    static order order_of(const entity& e) { return {e.due_, e.since_}; }
    static constexpr std::uint64_t bit(std::size_t lane) { return std::uint64_t{1} << lane; }

    // Behind all that are due at the same time.
    [[gnu::hot]] void place(entity& e)
    {
        e.since_ = ++placed_;
        if (e.parameters_.request == quantum) {
            lane& own = lanes_[e.level_];
            const entity* last = own.back();
            if (!last || !(e.due_ < last->due_ || e.v_ < last->v_)) {
                own.push_back(e);
                occupied_ |= bit(e.level_);
                return;
            }
        }
        tree_.insert(e);
    }
    [[gnu::hot]] void displace(entity& e)
    {
        if (e.tree_hook_.linked()) {
            tree_.erase(e);
            return;
        }
        lanes_[e.level_].erase(e);
        if (lanes_[e.level_].empty())
            occupied_ &= ~bit(e.level_);
    }
    // Where it was in order, with a greater v.
    void keep_place(entity& e)
    {
        if (e.tree_hook_.linked()) {
            tree_.resummarize(e);
        } else if (&e != lanes_[e.level_].back()) {
            displace(e);
            tree_.insert(e);
        }
    }

    // Of those eligible the one due first. Among any there is one whose v is not above the mean.
    entity* first_eligible()
    {
        if (weight_ == 0)
            return nullptr;
        const std::int64_t mean = quotient(sum_, weight_);
        entity* first = first_eligible_in_tree(mean);
        // Choices that are hard to predict, in a form that the compiler makes conditional moves of where it can.
        constexpr std::int64_t not_now = std::numeric_limits<std::int64_t>::max();
        std::int64_t earliest = first ? first->due_ - base_ : not_now;
        for (std::uint64_t left = occupied_; left != 0; left &= left - 1) {
            entity* head = &*lanes_[std::countr_zero(left)].begin();
            std::int64_t due = head->due_ - base_;
            due = head->v_ - base_ <= mean ? due : not_now;
            if (due == earliest && due != not_now) [[unlikely]] {
                first = first->since_ < head->since_ ? first : head;
                continue;
            }
            first = due < earliest ? head : first;
            earliest = due < earliest ? due : earliest;
        }
        return first;
    }
    entity* first_eligible_in_tree(std::int64_t mean) const
    {
        const auto reached = [&](virtual_time v) { return v - base_ <= mean; };
        entity* at = tree_.first();
        if (!at || reached(at->v_))
            return at;
        at = tree_.root();
        if (!reached(at->least_))
            return nullptr;
        for (;;) {
            entity* left = tree_.left_of(*at);
            if (left && reached(left->least_))
                at = left;
            else if (reached(at->v_))
                return at;
            else
                at = tree_.right_of(*at);
        }
    }
    static bool summarize(entity& e, const entity* left, const entity* right)
    {
        virtual_time least = e.v_;
        if (left && left->least_ < least)
            least = left->least_;
        if (right && right->least_ < least)
            least = right->least_;
        const bool changed = least - e.least_ != 0;
        e.least_ = least;
        return changed;
    }

    static constexpr std::size_t lane_count = highest_nice - lowest_nice + 2;
    using lane = list<entity, &entity::lane_hook_>;

    lane lanes_[lane_count]; // of request `quantum`, by level; neither due_ nor v_ decreases along one
    std::uint64_t occupied_{};
    tree<entity, &entity::tree_hook_, &fair::order_of, &fair::summarize> tree_;
    std::uint64_t placed_{};
    std::int64_t weight_{}; // W: of all in the queue
    wide sum_{};            // of w(v - base_) over all in the queue: V is base_ + sum_ / weight_
    virtual_time base_;     // anywhere near
    entity* running_{};
    entity* newcomer_{}; // came while an idle one runs, and goes next
    virtual_time turn_begin_, turn_end_;
    std::size_t size_{};
};
static_assert(SchedPolicy<fair>);

} // namespace exo::sched
