// Several policies as one, by precedence: what the first has to run goes before all of the second, and so on.
//
// A run queue is itself a SchedPolicy; each of its entities follows one of the policies at a time, the last at first.
// The policies differ in type.

#pragma once

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <type_traits>

#include <exo/sched/policy.hpp>

namespace exo::sched {

template <SchedPolicy... Policies>
class run_queue {
    static constexpr std::size_t count = sizeof...(Policies);
    static_assert(count > 0 && count <= ~std::uint64_t{0} / rank_limit);

    // Which of Policies is P.
    template <class P>
    static constexpr std::size_t index_of = [] {
        std::size_t index = 0;
        (void)((std::is_same_v<P, Policies> || (++index, false)) || ...);
        return index;
    }();

public:
    // Which policy an entity follows, counted from the one of highest precedence, and that policy's parameters.
    class parameters {
    public:
        parameters() = default;
        // To follow P.
        template <class P>
            requires(index_of<P> < count)
        [[nodiscard]] static parameters of(const typename P::parameters& values)
        {
            parameters p;
            p.index_ = index_of<P>;
            std::get<index_of<P>>(p.values_) = values;
            return p;
        }

        [[nodiscard]] std::size_t policy_index() const { return index_; }
        template <class P>
        [[nodiscard]] bool follows() const
        {
            return index_ == index_of<P>;
        }
        template <class P>
        [[nodiscard]] const typename P::parameters& get() const
        {
            return std::get<index_of<P>>(values_);
        }

        friend bool operator==(const parameters&, const parameters&) = default;

    private:
        friend run_queue;
        std::uint8_t index_{count - 1};
        std::tuple<typename Policies::parameters...> values_;
    };

    class entity : public Policies::entity... {
    public:
        // Only the part of the policy that it follows is set anew.
        void set(const run_queue::parameters& p)
        {
            index_ = p.index_;
            const auto one = [&]<class P>(std::type_identity<P>) {
                if (p.template follows<P>())
                    static_cast<typename P::entity&>(*this).set(p.template get<P>());
            };
            (one(std::type_identity<Policies>{}), ...);
        }
        [[nodiscard]] run_queue::parameters parameters() const
        {
            run_queue::parameters p;
            p.index_ = index_;
            ((p.index_ == index_of<Policies>
                  ? void(std::get<index_of<Policies>>(p.values_) = Policies::entity::parameters())
                  : void()),
             ...);
            return p;
        }
        template <class P>
        [[nodiscard]] bool follows() const
        {
            return index_ == index_of<P>;
        }

    private:
        friend run_queue;
        std::uint8_t index_{count - 1};
    };

    void enqueue(entity& e, arrival how, instant now) noexcept
    {
        visit(e, [&](auto& policy, auto& part) { policy.enqueue(part, how, now); });
    }
    void dequeue(entity& e) noexcept
    {
        visit(e, [&](auto& policy, auto& part) { policy.dequeue(part); });
    }
    void release(instant now) noexcept { (sched::release(get<Policies>(), now), ...); }
    [[gnu::hot]] entity* pick(instant now) noexcept
    {
        release(now);
        entity* next = nullptr;
        (void)((next = downcast(get<Policies>().pick(now))) || ...);
        return next;
    }
    void requeue(entity& e, departure why, instant now) noexcept
    {
        visit(e, [&](auto& policy, auto& part) { policy.requeue(part, why, now); });
    }

    bool tick(entity& e, duration ran, instant now) noexcept
    {
        bool over = false;
        visit(e, [&](auto& policy, auto& part) { over = policy.tick(part, ran, now); });
        return over;
    }
    [[nodiscard]] instant turn_ends(const entity& e, instant now) const noexcept
    {
        instant ends = instant::never();
        visit(e, [&](const auto& policy, const auto& part) { ends = policy.turn_ends(part, now); });
        return ends;
    }
    [[nodiscard]] bool preempts(const entity& woken, const entity& running) const noexcept
    {
        if (woken.index_ != running.index_)
            return woken.index_ < running.index_ && any_may_run(woken.index_);
        bool wins = false;
        visit(woken, [&]<class Policy, class Part>(const Policy& policy, const Part& part) {
            wins = policy.preempts(part, static_cast<const Part&>(running));
        });
        return wins;
    }
    [[nodiscard]] instant next_release() const noexcept
    {
        instant earliest = instant::never();
        const auto one = [&](instant release) {
            if (release < earliest)
                earliest = release;
        };
        (one(get<Policies>().next_release()), ...);
        return earliest;
    }
    [[nodiscard]] closure closed() const noexcept
    {
        closure first;
        const auto is_closed = [&](std::size_t index, const closure& c) {
            if (c.until != instant::never())
                first = {rank_in(index, c.from), c.until};
            return c.until != instant::never();
        };
        (void)(is_closed(index_of<Policies>, sched::closed(get<Policies>())) || ...);
        return first;
    }
    [[nodiscard]] std::size_t size() const noexcept { return (get<Policies>().size() + ...); }
    template <class Visit>
    void visit_movable(Visit visit)
    {
        bool more = true;
        const auto one = [&](auto& policy) {
            policy.visit_movable([&](auto& part) { return more = visit(*downcast(&part)); });
            return more;
        };
        (void)(one(get<Policies>()) && ...);
    }
    [[nodiscard]] std::uint64_t rank(const entity& e) const noexcept
    {
        std::uint64_t within = 0;
        visit(e, [&](const auto& policy, const auto& part) { within = policy.rank(part); });
        return rank_in(e.index_, within);
    }
    [[nodiscard]] static std::uint64_t rank_of(const parameters& p, instant now) noexcept
    {
        std::uint64_t within = 0;
        ((p.template follows<Policies>() ? void(within = Policies::rank_of(p.template get<Policies>(), now)) : void()), ...);
        return rank_in(p.index_, within);
    }
    [[nodiscard]] bool urgent(const entity& e) const noexcept
    {
        bool urgent = false;
        visit(e, [&](const auto& policy, const auto& part) { urgent = policy.urgent(part); });
        return urgent;
    }
    [[nodiscard]] std::uint32_t weight(const entity& e) const noexcept
    {
        std::uint32_t weight = 0;
        visit(e, [&](const auto& policy, const auto& part) { weight = policy.weight(part); });
        return weight;
    }

    template <class P>
    [[nodiscard]] P& get() noexcept
    {
        return std::get<P>(policies_);
    }
    template <class P>
    [[nodiscard]] const P& get() const noexcept
    {
        return std::get<P>(policies_);
    }

private:
    static std::uint64_t rank_in(std::size_t index, std::uint64_t within)
    {
        return index * rank_limit + (within < rank_limit ? within : rank_limit - 1);
    }

    // A policy that holds all of its entities back has none that may, though one has just been woken.
    [[nodiscard]] bool any_may_run(std::size_t index) const
    {
        return ((index_of<Policies> == index && get<Policies>().size() != 0) || ...);
    }

    template <class Part>
    static entity* downcast(Part* part)
    {
        return static_cast<entity*>(part);
    }

    // action(policy, entity of that policy) for the policy that `e` follows.
    template <class Self, class Entity, class Action>
    [[gnu::hot]] static void visit_as(Self& self, Entity& e, Action action)
    {
        const auto one = [&]<class P>(std::type_identity<P>) {
            if (e.index_ != index_of<P>)
                return false;
            using part = std::conditional_t<std::is_const_v<Entity>, const typename P::entity, typename P::entity>;
            action(self.template get<P>(), static_cast<part&>(e));
            return true;
        };
        (void)(one(std::type_identity<Policies>{}) || ...);
    }
    template <class Action>
    void visit(entity& e, Action action)
    {
        visit_as(*this, e, action);
    }
    template <class Action>
    void visit(const entity& e, Action action) const
    {
        visit_as(*this, e, action);
    }

    std::tuple<Policies...> policies_;
};

} // namespace exo::sched
