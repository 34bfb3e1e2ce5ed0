// execve: another program takes the place of this one.
//
// The new image is built completely beside the old one, in a space of its own; only then are they exchanged, by steps
// that cannot fail. So after any error the caller is as it was. Scripts name their interpreter in a `#!` line, and may
// nest as deep as on Linux.

#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include <exo/base/allocator.hpp>
#include <exo/base/page.hpp>
#include <exo/base/result.hpp>
#include <exo/elf/auxiliary.hpp>
#include <exo/elf/diagnostics.hpp>
#include <exo/elf/initial_stack.hpp>
#include <exo/elf/layout.hpp>
#include <exo/elf/loader.hpp>
#include <exo/elf/parser.hpp>
#include <exo/fs/errors.hpp>
#include <exo/fs/file.hpp>
#include <exo/fs/path_context.hpp>
#include <exo/fs/stream.hpp>
#include <exo/mm/address_space.hpp>
#include <exo/mm/protection.hpp>
#include <exo/proc/caller.hpp>
#include <exo/proc/errors.hpp>
#include <exo/proc/exit.hpp>
#include <exo/proc/placement.hpp>
#include <exo/proc/process.hpp>
#include <exo/proc/program_image.hpp>
#include <exo/proc/string_list.hpp>
#include <exo/proc/thread.hpp>

namespace exo::proc {

using program_layout = elf::layout<elf::file_class::bits64, std::endian::little>;

inline constexpr unsigned deepest_scripts = 5;
inline constexpr std::size_t longest_script_line = 256; // what lies behind is not looked at

// A program file as the parser reads it.
class program_source {
public:
    [[nodiscard]] static result<program_source> open(fs::file& file)
    {
        return program_source{file, EXO_TRY(file.node().status()).size};
    }

    [[nodiscard]] result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into) const
    {
        std::size_t done = 0;
        while (done < into.size()) {
            fs::memory_output output{into.subspan(done)};
            const std::size_t count = EXO_TRY(file_->node().read(offset + done, output));
            if (count == 0)
                break;
            done += count;
        }
        return done;
    }
    [[nodiscard]] std::uint64_t size() const { return size_; }

private:
    program_source(fs::file& file, std::uint64_t size) : file_{&file}, size_{size} {}

    fs::file* file_;
    std::uint64_t size_;
};

// An address space that is being filled, as the loader and the builder of the stack see it.
template <class Space>
class space_under_construction {
public:
    space_under_construction(Space& space, fs::file& program) : space_{space}, program_{program} {}

    [[nodiscard]] result<> map_file(std::uint64_t address, std::uint64_t length, elf::permissions access,
                                    std::uint64_t offset)
    {
        return map({.address = virt_addr{address},
                    .length = length,
                    .access = protection_of(access),
                    .where = mm::placement::fixed,
                    .backing = ref<mm::pager>{program_},
                    .offset = offset});
    }
    [[nodiscard]] result<> map_anonymous(std::uint64_t address, std::uint64_t length, elf::permissions access)
    {
        return map({.address = virt_addr{address},
                    .length = length,
                    .access = protection_of(access),
                    .where = mm::placement::fixed});
    }
    [[nodiscard]] result<> zero(std::uint64_t address, std::uint64_t length)
    {
        while (length != 0) {
            const std::uint64_t piece = length < page_size ? length : page_size;
            EXO_TRY(write(address, std::span{fs::zero_page}.first(piece)));
            address += piece;
            length -= piece;
        }
        return {};
    }
    [[nodiscard]] result<> write(std::uint64_t address, std::span<const std::byte> bytes)
    {
        return space_.write(virt_addr{address}, bytes);
    }
    [[nodiscard]] result<> map(mm::map_request request)
    {
        EXO_TRY(space_.map(std::move(request)));
        return {};
    }

private:
    static mm::protection protection_of(elf::permissions access)
    {
        auto p = mm::protection::user;
        if (access.read)
            p = p | mm::protection::read;
        if (access.write)
            p = p | mm::protection::write;
        if (access.execute)
            p = p | mm::protection::execute;
        return p;
    }

    Space& space_;
    fs::file& program_;
};

// `randomizes`: at random distances, unless the kernel's command line says norandmaps.
template <class System>
[[nodiscard]] placement_plan plan_placement(System& system, const resource_limits& limits, bool randomizes)
{
    placement_randomness random;
    if (randomizes && !system.boot_options().has("norandmaps"))
        system.random(std::as_writable_bytes(std::span{&random, 1}));
    return plan_placement(system.user_mode().user_limit().value(), limits[resource::stack].soft, random);
}

// Opens a file to be run. Errors: those of the path; execute_denied.
template <class System>
[[nodiscard]] result<ref<fs::file>> open_program(System& system, const fs::path_context& from, const fs::path& path)
{
    auto file = EXO_TRY(system.vfs().open(from, path, {.path_only = true}));
    const auto& node = file->node();
    if (node.type() != fs::file_type::regular || !node.allows(from.who, fs::access::execute) ||
        !file->allows_executing())
        return fail(errors::execute_denied);
    return file;
}

// What is too large for a kernel stack.
struct exec_workspace {
    alignas(std::uint64_t) std::byte headers[page_size];
    char interpreter[page_size];
    char line[longest_script_line];
};

// `#! interpreter [argument]`: both views into `line`; empty `interpreter` if it is no script.
struct script_line {
    std::string_view interpreter;
    std::string_view argument;
};

// Errors: not_executable, for a script without an interpreter.
[[nodiscard]] inline result<script_line> parse_script_line(std::string_view line)
{
    if (!line.starts_with("#!"))
        return script_line{};
    const bool cut = line.find('\n') == line.npos && line.size() == longest_script_line;
    line = line.substr(2, line.find('\n') == line.npos ? line.npos : line.find('\n') - 2);
    constexpr std::string_view blank = " \t";
    const auto begin = line.find_first_not_of(blank);
    if (begin == line.npos || line[begin] == '\0')
        return fail(errors::not_executable);
    line.remove_prefix(begin);
    line = line.substr(0, line.find('\0'));
    const auto end = line.find_first_of(blank);
    // A path that may go on behind what was read is no path (Linux: ENOEXEC).
    if (end == line.npos && cut)
        return fail(errors::not_executable);
    script_line found{.interpreter = line.substr(0, end), .argument = {}};
    if (end != line.npos) {
        line.remove_prefix(end);
        const auto argument = line.find_first_not_of(blank);
        if (argument != line.npos)
            found.argument = line.substr(argument, line.find_last_not_of(blank) - argument + 1);
    }
    return found;
}

// A program in an image of its own, ready to start.
template <class System>
struct built_program {
    ref<program_image<System>> image;
    typename System::frame frame;
    credentials identity;
    bool randomizes{}; // the programs that it executes in turn
};

// Errors: those of elf, files and memory; arguments_too_large.
template <class System>
[[nodiscard]] result<built_program<System>>
build_program(process<System>& p, caller<System>& who, ref<fs::file> file, std::string_view executable_name,
              const string_list& arguments, const string_list& environment, exec_workspace& workspace)
{
    System& system = p.system();
    built_program<System> built;

    const auto status = EXO_TRY(file->node().status());
    built.identity = who.identity();
    if (!p.gains_no_rights && file->where().on && !file->where().on->options().no_set_id) {
        if ((status.permissions & fs::permission::set_uid) != 0)
            built.identity.user.effective = status.uid;
        if ((status.permissions & fs::permission::set_gid) != 0 && (status.permissions & 010) != 0)
            built.identity.group.effective = status.gid;
    }
    built.identity.user.saved = built.identity.user.effective;
    built.identity.group.saved = built.identity.group.effective;
    // Who gets more rights does not find things where its caller wants them.
    built.randomizes = p.randomizes || built.identity.user.effective != built.identity.user.real ||
                       built.identity.group.effective != built.identity.group.real;

    auto source = EXO_TRY(program_source::open(*file));
    const elf::requirements needs{.machine = elf::machine::x86_64,
                                  .address_end = system.user_mode().user_limit().value()};
    elf::stop_at_first diagnostics;
    const auto program = EXO_TRY(elf::parse<program_layout>(source, needs, std::span{workspace.headers}, diagnostics));
    const auto plan = plan_placement(system, p.limits, built.randomizes);

    built.image = EXO_TRY(program_image<System>::create(system, plan.layout));
    auto& space = built.image->space();
    space_under_construction target{space, *file};
    const std::uint64_t bias =
        program.position_independent() ? plan.program_bias & ~(program.alignment - 1) : std::uint64_t{0};
    const auto loaded = EXO_TRY(elf::load_segments(program, bias, target));
    std::uint64_t entry = loaded.entry;
    std::uint64_t interpreter_base = 0;
    const bool executable_stack = program.executable_stack;

    if (!program.interpreter.empty()) {
        const auto path = EXO_TRY(elf::read_interpreter(source, program, std::span{workspace.interpreter}));
        auto linker = EXO_TRY(open_program(system, who.paths(), path));
        auto linker_source = EXO_TRY(program_source::open(*linker));
        const auto parsed =
            EXO_TRY(elf::parse<program_layout>(linker_source, needs, std::span{workspace.headers}, diagnostics));
        space_under_construction linker_target{space, *linker};
        const auto size = parsed.span.size() + parsed.alignment;
        interpreter_base = parsed.position_independent()
                               ? (plan.layout.mapping_top.value() - size) & ~(parsed.alignment - 1)
                               : std::uint64_t{0};
        entry = EXO_TRY(elf::load_segments(parsed, interpreter_base, linker_target)).entry;
        static_cast<void>(system.vfs().remember_path(who.paths(), *linker));
    }
    space.start_brk(virt_addr{loaded.span.end + plan.brk_gap});

    // The stack starts with what the strings need and some room, and grows on demand.
    constexpr std::uint64_t first_room = 128 << 10;
    const std::uint64_t strings = arguments.bytes().size() + environment.bytes().size() + executable_name.size() +
                                  (arguments.count() + environment.count()) * sizeof(std::uint64_t) + page_size;
    std::uint64_t argument_limit = plan.stack_limit / 4;
    argument_limit = argument_limit < first_room ? first_room : argument_limit;
    if (strings > argument_limit)
        return fail(errors::arguments_too_long, strings);
    const std::uint64_t first_size = (strings + first_room) & ~(page_size - 1);
    auto stack_access = mm::user_data;
    if (executable_stack)
        stack_access = stack_access | mm::protection::execute;
    EXO_TRY(target.map({.address = virt_addr{plan.stack_top - first_size},
                        .length = first_size,
                        .access = stack_access,
                        .where = mm::placement::fixed,
                        .grows = mm::growth::down,
                        .limit = plan.stack_limit < first_size ? first_size : plan.stack_limit}));

    const elf::program_facts facts{.user_id = built.identity.user.real,
                                   .effective_user_id = built.identity.user.effective,
                                   .group_id = built.identity.group.real,
                                   .effective_group_id = built.identity.group.effective,
                                   .hardware_capabilities = system.user_mode().hardware_capabilities(),
                                   .interpreter_base = interpreter_base};
    const auto auxiliary = elf::make_auxiliary_vector(loaded, facts);
    elf::stack_contents contents{.arguments = {arguments.bytes(), arguments.count()},
                                 .environment = {environment.bytes(), environment.count()},
                                 .auxiliary = auxiliary,
                                 .executable_name = executable_name};
    system.random(std::as_writable_bytes(std::span{contents.random}));
    const auto stack = EXO_TRY(elf::build_initial_stack(target, plan.stack_begin, argument_limit, contents));

    static_cast<void>(system.vfs().remember_path(who.paths(), *file));
    built.image->executable = std::move(file);
    built.image->code = loaded.code;
    built.image->data = loaded.data;
    built.image->stack_start = stack.pointer;
    built.image->arguments = stack.arguments;
    built.image->environment = stack.environment;
    built.frame = system.user_mode().start_frame(user_addr{entry}, user_addr{stack.pointer});
    return built;
}

[[nodiscard]] constexpr std::string_view last_component(std::string_view path)
{
    return path.substr(path.rfind('/') + 1);
}

// The calling thread's process goes on as another program: with the frame that this returns. `arguments` is changed on
// the way. Errors: those of files; not_executable, execute_denied, arguments_too_long, out_of_memory;
// interrupted, when the process is ending. When memory runs out late the other threads are gone, and the caller is as
// it was.
template <class System>
[[nodiscard]] result<typename System::frame> execute(thread<System>& t, const fs::path& path, string_list& arguments,
                                                     const string_list& environment)
{
    process<System>& p = t.process();
    System& system = p.system();
    auto workspace = EXO_TRY(make_owned<exec_workspace>(system.heap()));

    caller<System> who{p};
    auto file = EXO_TRY(open_program(system, who.paths(), path));
    // Interpreters are named by their scripts, the first of which is named by the caller.
    string_list names{system.heap()};
    EXO_TRY(names.append(path.text));
    for (unsigned depth = 0;; ++depth) {
        const auto source = EXO_TRY(program_source::open(*file));
        const auto length = EXO_TRY(source.read_at(0, std::as_writable_bytes(std::span{workspace->line})));
        const auto script = EXO_TRY(parse_script_line({workspace->line, length}));
        if (script.interpreter.empty())
            break;
        if (depth == deepest_scripts)
            return fail(fs::errors::too_many_symlinks, depth);
        string_list longer{system.heap()};
        EXO_TRY(longer.append(script.interpreter));
        if (!script.argument.empty())
            EXO_TRY(longer.append(script.argument));
        EXO_TRY(longer.append(names.bytes().data()));
        EXO_TRY(longer.append(arguments, 1));
        arguments = std::move(longer);
        string_list next{system.heap()};
        EXO_TRY(next.append(script.interpreter));
        names = std::move(next);
        file = EXO_TRY(open_program(system, who.paths(), fs::path{std::string_view{names.bytes().data()}}));
    }
    auto built = EXO_TRY(build_program(p, who, std::move(file), path.text, arguments, environment, *workspace));
    EXO_TRY(end_other_threads(t));
    // Now nobody else can share it any more.
    ref<fs::descriptor_table> own_descriptors;
    if (p.descriptors->reference_count() > 1)
        own_descriptors = EXO_TRY(p.files().copy());

    // From here on nothing fails.
    release_futexes(t);
    if (own_descriptors) {
        auto guard = p.lock();
        std::swap(p.descriptors, own_descriptors);
    }
    t.switch_space(&built.image->space());
    p.set_image(std::move(built.image));
    announce_image_released(p);
    p.files().close_marked();
    {
        auto guard = p.lock();
        t.futexes_released = false;
        p.actions.reset_handlers();
        p.identity = built.identity;
        p.publish_identity();
        p.randomizes = built.randomizes;
        p.set_name(last_component(path.text));
        system.rename(t, p.name());
    }
    t.signal_stack = {};
    t.sequences = {};
    t.displaced = false;
    t.restart = restart_kind::none;
    {
        auto guard = system.processes().lock();
        p.has_executed = true;
    }
    const auto interrupts = system.interrupts().save_and_disable();
    system.user_mode().reset(t.state);
    system.user_mode().load(t.state);
    system.interrupts().restore(interrupts);
    return built.frame;
}

} // namespace exo::proc
