// TranslationRoot: which page tables this CPU translates with.
//
// Laws (test/laws/tlb_laws.hpp checks every model):
//  - After load(r), accesses by this CPU translate through the tables at r.table, and what it remembers is tagged r.id.
//    load orders earlier changes of tables before later accesses.
//  - With `remembered::forget` all that was remembered under r.id is forgotten, global pages excepted; with
//    `remembered::keep` it may still be used, and the caller knows that it is right. A machine without ids (id_limit()
//    is 1) always forgets.
//  - r.id is below id_limit(). current() is what was loaded last.
//  - Neither fails, sleeps or allocates; both may run with interrupts off.

#pragma once

#include <concepts>
#include <cstdint>

#include <exo/base/address.hpp>

namespace exo::hal {

// Tells apart the translations of several address spaces in one TLB (x86: PCID).
enum class address_space_id : std::uint16_t {};

struct translation_root {
    phys_addr table;
    address_space_id id{};

    friend constexpr bool operator==(const translation_root&, const translation_root&) = default;
};

enum class remembered : bool { forget, keep };

template <class T>
concept TranslationRoot = requires(T& cpu, const T& view, const translation_root& root, remembered what) {
    { cpu.load(root, what) } noexcept -> std::same_as<void>;
    { view.current() } noexcept -> std::same_as<translation_root>;
    { view.id_limit() } noexcept -> std::same_as<unsigned>;
};

} // namespace exo::hal
