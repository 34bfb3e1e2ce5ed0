#include <doctest/doctest.h>

#include <cstdio>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include <exo/elf/initial_stack.hpp>
#include <exo/elf/loader.hpp>
#include <exo/elf/parser.hpp>

using namespace exo;
using namespace exo::elf;

namespace {

constexpr std::uint64_t user_end = 0x7fff'ffff'f000;
constexpr requirements here{machine::x86_64, user_end};

// A file under construction: headers of layout L, then whatever the segments place.
template <class L>
struct builder {
    typename L::header header{};
    std::vector<typename L::program_header> segments;
    std::vector<std::byte> body = std::vector<std::byte>(0x5000);

    explicit builder(file_type type = file_type::executable, machine m = machine::x86_64)
    {
        std::memcpy(header.ident.magic, magic, sizeof(magic));
        header.ident.word_size = L::word_size;
        header.ident.order = L::order;
        header.ident.version = current_version;
        header.type = std::to_underlying(type);
        header.machine = std::to_underlying(m);
        header.version = current_version;
        header.program_headers = sizeof(header);
        header.header_size = sizeof(header);
        header.program_header_size = sizeof(typename L::program_header);
        for (std::size_t i = 0; i < body.size(); ++i)
            body[i] = static_cast<std::byte>(i * 7 + (i >> 8));
    }

    builder& add(segment_type type, std::uint32_t flags, std::uint64_t offset, std::uint64_t at, std::uint64_t file,
                 std::uint64_t memory, std::uint64_t alignment = page_size)
    {
        using native = typename L::native;
        using value = decltype(native{}.value());
        typename L::program_header p{};
        p.type = std::to_underlying(type);
        p.flags = flags;
        p.offset = static_cast<value>(offset);
        p.address = static_cast<value>(at);
        p.file_size = static_cast<value>(file);
        p.memory_size = static_cast<value>(memory);
        p.alignment = static_cast<value>(alignment);
        segments.push_back(p);
        return *this;
    }

    std::vector<std::byte> bytes()
    {
        header.program_header_count = static_cast<std::uint16_t>(segments.size());
        auto out = body;
        std::memcpy(out.data(), &header, sizeof(header));
        const auto at = static_cast<std::size_t>(header.program_headers.value());
        const auto size = segments.size() * sizeof(segments[0]);
        if (at <= out.size() && size <= out.size() - at && size != 0)
            std::memcpy(out.data() + at, segments.data(), size);
        return out;
    }
};

// Text at 0x401000, data with bss from 0x403f00 on, as a linker places them.
template <class L = layout64>
builder<L> program(file_type type = file_type::executable, machine m = machine::x86_64)
{
    builder<L> b{type, m};
    const std::uint64_t base = type == file_type::executable ? 0x400000 : 0;
    b.header.entry = static_cast<decltype(b.header.entry.value())>(base + 0x1010);
    b.add(segment_type::load, 4, 0, base, 0x200, 0x200);
    b.add(segment_type::load, 5, 0x1000, base + 0x1000, 0x1234, 0x1234);
    b.add(segment_type::load, 6, 0x2f00, base + 0x3f00, 0x300, 0x2500);
    b.add(segment_type::gnu_stack, 6, 0, 0, 0, 0, 16);
    return b;
}

// A byte source that lends no view, and reads in pieces of any size.
class file_source {
public:
    explicit file_source(std::span<const std::byte> bytes) : memory_{bytes} {}
    result<std::size_t> read_at(std::uint64_t offset, std::span<std::byte> into)
    {
        return memory_.read_at(offset, into);
    }
    std::uint64_t size() const { return memory_.size(); }

private:
    memory_source memory_;
};
static_assert(ByteSource<file_source> && !ViewableSource<file_source>);

// An address space of real bytes, page by page, which refuses what the laws do not allow.
struct space {
    struct page {
        permissions access;
        std::vector<std::byte> bytes = std::vector<std::byte>(page_size);
    };
    std::span<const std::byte> file;
    std::map<std::uint64_t, page> pages{};
    std::size_t fail_after = ~std::size_t{0};

    result<> spend()
    {
        if (fail_after-- == 0)
            return fail(exo::errors::out_of_memory);
        return {};
    }
    void range_is_legal(std::uint64_t at, std::uint64_t length) const
    {
        REQUIRE(at % page_size == 0);
        REQUIRE(length % page_size == 0);
        REQUIRE(length != 0);
        REQUIRE(at + length > at);
        REQUIRE(at + length <= user_end);
        REQUIRE(length <= 0x4000'0000);
    }
    result<> map_file(std::uint64_t at, std::uint64_t length, permissions access, std::uint64_t offset)
    {
        EXO_TRY(spend());
        range_is_legal(at, length);
        REQUIRE(offset % page_size == 0);
        REQUIRE(offset < file.size());
        REQUIRE(length <= file.size() - offset + page_size);
        for (std::uint64_t done = 0; done < length; done += page_size) {
            page p{access};
            (void)memory_source{file}.read_at(offset + done, p.bytes);
            pages[at + done] = std::move(p);
        }
        return {};
    }
    result<> map_anonymous(std::uint64_t at, std::uint64_t length, permissions access)
    {
        EXO_TRY(spend());
        range_is_legal(at, length);
        if (length <= 0x100000)
            for (std::uint64_t done = 0; done < length; done += page_size)
                pages[at + done] = page{access};
        return {};
    }
    result<> zero(std::uint64_t at, std::uint64_t length)
    {
        EXO_TRY(spend());
        // What the loader clears is the rest of one page.
        REQUIRE(length < page_size);
        REQUIRE((at + length) % page_size == 0);
        page& last = pages.at(at & ~(page_size - 1));
        REQUIRE(last.access.write);
        std::memset(last.bytes.data() + at % page_size, 0, length);
        return {};
    }
    result<> write(std::uint64_t at, std::span<const std::byte> bytes)
    {
        EXO_TRY(spend());
        for (std::size_t i = 0; i < bytes.size(); ++i)
            pages[(at + i) & ~(page_size - 1)].bytes[(at + i) % page_size] = bytes[i];
        return {};
    }
    std::byte at(std::uint64_t a) { return pages.at(a & ~(page_size - 1)).bytes[a % page_size]; }
    std::uint64_t word(std::uint64_t a)
    {
        std::uint64_t v = 0;
        for (unsigned i = 0; i < 8; ++i)
            v |= static_cast<std::uint64_t>(at(a + i)) << (8 * i);
        return v;
    }
    std::string text(std::uint64_t a)
    {
        std::string s;
        while (at(a) != std::byte{0})
            s += static_cast<char>(at(a++));
        return s;
    }
};
static_assert(LoadTarget<space> && StackTarget<space>);

template <class L = layout64>
result<image<L>> parse_memory(std::span<const std::byte> bytes, const requirements& needs = here)
{
    memory_source source{bytes};
    stop_at_first strict;
    return parse<L>(source, needs, strict);
}

// Every path over untrusted bytes: parse both ways, the interpreter, and the loader if the parser was content.
void survives(std::span<const std::byte> bytes)
{
    std::vector<std::byte> table(page_size);
    file_source copied{bytes};
    memory_source viewed{bytes};
    stop_at_first strict;
    collect_findings<4> lenient;
    const auto a = parse<layout64>(viewed, here, strict);
    const auto b = parse<layout64>(copied, here, table, strict);
    const auto all = parse<layout64>(viewed, here, lenient);
    REQUIRE(a.has_value() == b.has_value());
    if (!a) {
        CHECK(a.error() == b.error());
        CHECK(a.error().errno_value() == posix::noexec);
        CHECK(lenient.total() > 0);
        space target{bytes};
        if (all) {
            CHECK(!all->sound);
            CHECK(!load_segments(*all, 0, target));
            CHECK(target.pages.empty());
        }
        return;
    }
    CHECK(a->sound);
    CHECK(lenient.total() == 0);
    char path[4096];
    (void)read_interpreter(viewed, *a, path);
    if (a->span.size() < 0x4000'0000) {
        space target{bytes};
        const auto loaded = load_segments(*a, 0, target);
        REQUIRE(loaded);
        for (const auto& [address, page] : target.pages) {
            CHECK(address >= a->span.begin);
            CHECK(address < a->span.end);
        }
    }
}

std::vector<std::byte> read_whole(const char* path)
{
    std::vector<std::byte> bytes;
    if (std::FILE* f = std::fopen(path, "rb")) {
        std::byte block[65536];
        while (const auto n = std::fread(block, 1, sizeof(block), f))
            bytes.insert(bytes.end(), block, block + n);
        std::fclose(f);
    }
    return bytes;
}

std::string packed(std::initializer_list<std::string_view> strings)
{
    std::string all;
    for (const auto s : strings) {
        all += s;
        all += '\0';
    }
    return all;
}

} // namespace

TEST_CASE("a static program is loaded byte for byte, with exact permissions and a cleared bss")
{
    const auto bytes = program().bytes();
    const auto parsed = parse_memory(bytes);
    REQUIRE(parsed);
    CHECK(parsed->entry == 0x401010);
    CHECK(parsed->span == range<std::uint64_t>{0x400000, 0x407000});
    CHECK(parsed->program_headers == 0x400040);
    CHECK(!parsed->executable_stack);
    CHECK(!parsed->position_independent());
    CHECK(parsed->interpreter.empty());

    space target{bytes};
    const auto loaded = load_segments(*parsed, 0, target);
    REQUIRE(loaded);
    CHECK(loaded->entry == 0x401010);
    CHECK(loaded->program_header_count == 4);
    CHECK(loaded->program_header_size == 56);
    CHECK(loaded->code == range<std::uint64_t>{0x401000, 0x402234});
    CHECK(loaded->data == range<std::uint64_t>{0x403f00, 0x404200});
    for (std::uint64_t i = 0; i < 0x1234; ++i)
        REQUIRE(target.at(0x401000 + i) == bytes[0x1000 + i]);
    for (std::uint64_t i = 0; i < 0x300; ++i)
        REQUIRE(target.at(0x403f00 + i) == bytes[0x2f00 + i]);
    for (std::uint64_t a = 0x404200; a < 0x407000; ++a)
        REQUIRE(target.at(a) == std::byte{0});
    CHECK(target.pages.at(0x400000).access == permissions{true, false, false});
    CHECK(target.pages.at(0x402000).access == permissions{true, false, true});
    CHECK(target.pages.at(0x406000).access == permissions{true, true, false});
    CHECK(target.pages.size() == 7);
}

TEST_CASE("a position-independent program takes the bias it is given, if that is aligned and fits")
{
    auto b = program(file_type::shared);
    b.segments[1].alignment = 0x200000;
    b.segments[1].address = 0x201000;
    b.segments[2].address = 0x203f00;
    b.header.entry = 0x201010;
    const auto bytes = b.bytes();
    const auto parsed = parse_memory(bytes);
    REQUIRE(parsed);
    CHECK(parsed->alignment == 0x200000);

    space target{bytes};
    const auto loaded = load_segments(*parsed, 0x5555'5540'0000, target);
    REQUIRE(loaded);
    CHECK(loaded->entry == 0x5555'5560'1010);
    CHECK(loaded->program_headers == 0x5555'5540'0040);
    CHECK(loaded->span.begin == 0x5555'5540'0000);
    CHECK(target.at(0x5555'5560'1000) == bytes[0x1000]);

    CHECK(load_segments(*parsed, 0x5555'5550'1000, target).error() == outside_address_space);
    CHECK(load_segments(*parsed, 0xffff'ffff'ffe0'0000, target).error() == outside_address_space);
    const auto fixed = program().bytes();
    CHECK(load_segments(*parse_memory(fixed), 0x200000, target).error() == outside_address_space);
}

TEST_CASE_TEMPLATE("every word size and byte order is parsed", L, layout<file_class::bits32, std::endian::little>,
                   layout<file_class::bits32, std::endian::big>, layout<file_class::bits64, std::endian::little>,
                   layout<file_class::bits64, std::endian::big>)
{
    const auto bytes = program<L>(file_type::executable, machine::riscv).bytes();
    const requirements needs{machine::riscv, 0x8000'0000};
    memory_source source{bytes};
    const auto ident = identify(source);
    REQUIRE(ident);
    const auto entry = with_layout(*ident, [&](auto found) -> result<std::uint64_t> {
        return EXO_TRY(parse_memory<decltype(found)>(bytes, needs)).entry;
    });
    REQUIRE(entry);
    CHECK(*entry == 0x401010);
    CHECK(ident->word_size == L::word_size);
    CHECK(ident->order == L::order);
    CHECK(parse_memory<L>(bytes, here).error() == wrong_machine);
    if constexpr (!std::is_same_v<L, layout64>)
        CHECK(!parse_memory<layout64>(bytes, needs));
}

TEST_CASE("each broken field is refused by its own error")
{
    const auto refuses = [](const error_kind& kind, auto breakage) {
        auto b = program();
        breakage(b);
        const auto outcome = parse_memory(b.bytes());
        REQUIRE(!outcome);
        CHECK_MESSAGE(outcome.error() == kind, std::string(outcome.error().kind().name), " instead of ",
                      std::string(kind.name));
        CHECK(outcome.error().errno_value() == posix::noexec);
    };
    using B = builder<layout64>;
    refuses(not_elf, [](B& b) { b.header.ident.magic[3] = 'G'; });
    refuses(wrong_class, [](B& b) { b.header.ident.word_size = file_class::bits32; });
    refuses(wrong_class, [](B& b) { b.header.ident.word_size = file_class{0}; });
    refuses(wrong_byte_order, [](B& b) { b.header.ident.order = byte_order::big; });
    refuses(wrong_version, [](B& b) { b.header.ident.version = 0; });
    refuses(wrong_version, [](B& b) { b.header.version = 2; });
    refuses(wrong_type, [](B& b) { b.header.type = 1; });
    refuses(wrong_type, [](B& b) { b.header.type = 4; });
    refuses(wrong_machine, [](B& b) { b.header.machine = 40; });
    refuses(bad_header_size, [](B& b) { b.header.program_header_size = 32; });
    refuses(truncated, [](B& b) { b.header.program_headers = ~std::uint64_t{0} - 8; });
    refuses(truncated, [](B& b) { b.header.program_headers = 0x4fff; });
    refuses(no_segments, [](B& b) { b.segments.clear(); });
    refuses(too_many_headers, [](B& b) { b.segments.resize(74); });
    refuses(absurd_size, [](B& b) { b.segments[1].memory_size = 0x1000; });
    refuses(truncated, [](B& b) { b.segments[2].offset = 0x5f00; });
    refuses(truncated, [](B& b) { b.segments[2].offset = ~std::uint64_t{0xff}; });
    refuses(truncated, [](B& b) { b.segments[1].file_size = b.segments[1].memory_size = 0x5000; });
    refuses(outside_address_space, [](B& b) { b.segments[2].address = 0x8000'0000'0f00; });
    refuses(outside_address_space, [](B& b) { b.segments[2].address = 0xffff'ffff'ffff'ff00; });
    refuses(outside_address_space, [](B& b) { b.segments[2].memory_size = user_end; });
    refuses(outside_address_space, [](B& b) { b.segments[2].memory_size = ~std::uint64_t{0}; });
    refuses(bad_alignment, [](B& b) { b.segments[1].alignment = 0x1001; });
    refuses(bad_alignment, [](B& b) { b.segments[1].alignment = std::uint64_t{1} << 63; });
    refuses(misplaced_segment, [](B& b) { b.segments[1].offset = 0x1008; });
    refuses(overlapping_segments, [](B& b) { b.segments[2].address = 0x401f00; });
    refuses(overlapping_segments, [](B& b) { std::swap(b.segments[0], b.segments[2]); });
    refuses(bad_interpreter, [](B& b) { b.add(segment_type::interpreter, 4, 0x100, 0x400100, 1, 1); });
    refuses(bad_interpreter, [](B& b) { b.add(segment_type::interpreter, 4, 0x100, 0x400100, 4097, 4097); });
    refuses(bad_interpreter, [](B& b) { b.add(segment_type::interpreter, 4, 0x4ffe, 0x400100, 8, 8); });
    refuses(bad_interpreter, [](B& b) {
        b.add(segment_type::interpreter, 4, 0x100, 0x400100, 8, 8);
        b.add(segment_type::interpreter, 4, 0x100, 0x400100, 8, 8);
    });
}

TEST_CASE("diagnostics that go on see every finding, and the image is not loaded")
{
    auto b = program();
    b.header.machine = 3;
    b.segments[0].alignment = 3;
    b.segments[1].offset = 0x1010;
    const auto bytes = b.bytes();
    memory_source source{bytes};
    collect_findings<8> all;
    const auto parsed = parse<layout64>(source, here, all);
    REQUIRE(parsed);
    CHECK(!parsed->sound);
    REQUIRE(all.total() == 3);
    CHECK(all.findings()[0].kind == &wrong_machine);
    CHECK(all.findings()[0].offset == 18);
    CHECK(all.findings()[0].value == 3);
    CHECK(all.findings()[1].kind == &bad_alignment);
    CHECK(all.findings()[1].offset == 64 + 48);
    CHECK(all.findings()[2].kind == &misplaced_segment);
    CHECK(all.findings()[2].offset == 64 + 56 + 8);

    std::string printed;
    print_findings printer{[&](std::string_view message, std::uint64_t offset, std::uint64_t) {
        printed += std::to_string(offset) + ": " + std::string(message) + "\n";
    }};
    CHECK(parse<layout64>(source, here, printer));
    CHECK(printed.starts_with("18: built for another processor\n112: "));
}

TEST_CASE("the interpreter's path is read whole or refused")
{
    const auto with_path = [](std::string_view path) {
        auto b = program(file_type::shared);
        b.add(segment_type::interpreter, 4, 0x180, 0x180, path.size(), path.size());
        std::memcpy(b.body.data() + 0x180, path.data(), path.size());
        return b.bytes();
    };
    const auto path_of = [](std::span<const std::byte> bytes) {
        char buffer[4096];
        file_source source{bytes};
        const auto path = read_interpreter(source, *parse_memory(bytes), buffer);
        return path ? std::string(*path) : std::string(path.error().kind().name);
    };
    CHECK(path_of(with_path(std::string_view{"/lib/ld.so.1\0", 13})) == "/lib/ld.so.1");
    CHECK(path_of(with_path("/lib/ld.so.1")) == "bad_interpreter");
    CHECK(path_of(with_path(std::string_view{"\0\0", 2})) == "bad_interpreter");
    CHECK(path_of(program().bytes()) == "bad_interpreter");
}

TEST_CASE("a file cut anywhere, or damaged anywhere, gives a typed error or a program within bounds")
{
    auto b = program();
    b.add(segment_type::interpreter, 4, 0x180, 0x400180, 16, 16);
    const auto whole = b.bytes();
    for (std::size_t length = 0; length <= whole.size(); length += length < 0x200 ? 1 : 64) {
        // A vector of exactly this size: a read beyond it is seen by the address sanitizer.
        const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
        survives(cut);
        CHECK(parse_memory(cut).has_value() == (length >= 0x3200));
    }
    for (std::uint32_t seed = 0; seed < 8'000; ++seed) {
        std::mt19937 random{seed};
        auto damaged = whole;
        for (unsigned i = 0, n = 1 + random() % 4; i < n; ++i) {
            const std::size_t at = random() % 0x200;
            switch (random() % 4) {
            case 0: damaged[at] = static_cast<std::byte>(random()); break;
            case 1: damaged[at] ^= static_cast<std::byte>(1u << (random() % 8)); break;
            case 2: std::memset(damaged.data() + (at & ~7u), 0xff, 8); break;
            default: std::memset(damaged.data() + (at & ~7u), 0, 8); break;
            }
        }
        CAPTURE(seed);
        survives(damaged);
    }
}

TEST_CASE("a target's failure at any step is passed on")
{
    const auto bytes = program().bytes();
    const auto parsed = parse_memory(bytes);
    space counting{bytes};
    REQUIRE(load_segments(*parsed, 0, counting));
    const std::size_t steps = ~std::size_t{0} - counting.fail_after;
    CHECK(steps == 5);
    for (std::size_t i = 0; i < steps; ++i) {
        space failing{bytes};
        failing.fail_after = i;
        const auto outcome = load_segments(*parsed, 0, failing);
        REQUIRE(!outcome);
        CHECK(outcome.error() == exo::errors::out_of_memory);
    }
}

TEST_CASE("the initial stack is laid out as the psABI says")
{
    for (const std::size_t extra : {0u, 1u, 2u, 7u, 100u}) {
        const std::string filler(extra, 'x');
        const auto arguments = packed({"sh", "-c", filler, ""});
        const auto environment = packed({"HOME=/", "PATH=/bin"});
        space target{{}};
        constexpr std::uint64_t top = 0x7fff'ffff'f000;
        loaded_program loaded;
        loaded.entry = 0x401010;
        loaded.program_headers = 0x400040;
        loaded.program_header_size = 56;
        loaded.program_header_count = 9;
        const auto aux_vector = make_auxiliary_vector(loaded, {.user_id = 7, .interpreter_base = 0x7000'0000});
        stack_contents contents;
        contents.arguments = {arguments, 4};
        contents.environment = {environment, 2};
        contents.auxiliary = aux_vector;
        contents.executable_name = "/bin/sh";
        contents.random.fill(std::byte{0x5a});
        const auto built = build_initial_stack(target, top, 1 << 20, contents);
        REQUIRE(built);
        CHECK(built->pointer % 16 == 0);
        CHECK(built->pointer < top);

        std::uint64_t at = built->pointer;
        const auto next = [&] {
            at += 8;
            return target.word(at - 8);
        };
        CHECK(next() == 4);
        CHECK(built->arguments.begin == target.word(at));
        CHECK(target.text(next()) == "sh");
        CHECK(target.text(next()) == "-c");
        CHECK(target.text(next()) == filler);
        CHECK(target.text(next()) == "");
        CHECK(next() == 0);
        CHECK(built->environment.begin == target.word(at));
        CHECK(target.text(next()) == "HOME=/");
        CHECK(target.text(next()) == "PATH=/bin");
        CHECK(next() == 0);
        CHECK(built->auxiliary.begin == at);
        std::map<std::uint64_t, std::uint64_t> vector;
        for (;;) {
            const auto key = next();
            CHECK(!vector.contains(key));
            vector[key] = next();
            if (key == 0)
                break;
        }
        CHECK(built->auxiliary.end == at);
        CHECK(vector.at(3) == 0x400040);
        CHECK(vector.at(4) == 56);
        CHECK(vector.at(5) == 9);
        CHECK(vector.at(6) == 4096);
        CHECK(vector.at(7) == 0x7000'0000);
        CHECK(vector.at(9) == 0x401010);
        CHECK(vector.at(11) == 7);
        CHECK(vector.at(17) == 100);
        CHECK(vector.at(23) == 1); // uid 7, effective 0
        CHECK(target.text(vector.at(15)) == "x86_64");
        CHECK(target.text(vector.at(31)) == "/bin/sh");
        CHECK(target.word(vector.at(25)) == 0x5a5a5a5a5a5a5a5a);
        CHECK(target.word(vector.at(25) + 8) == 0x5a5a5a5a5a5a5a5a);
        CHECK(at <= vector.at(25));
        CHECK(built->arguments.size() == arguments.size());
        CHECK(built->environment.begin == built->arguments.end);
    }
}

TEST_CASE("arguments are limited in total and one by one, and counts are checked")
{
    const std::string longest(longest_argument - 1, 'a');
    const auto fits = packed({longest});
    const auto too_long = packed({longest + "a"});
    const auto build = [](const std::string& strings, std::size_t count, std::uint64_t limit) {
        space target{{}};
        stack_contents contents;
        contents.arguments = {strings, count};
        return build_initial_stack(target, 0x7fff'0000'0000, limit, contents);
    };
    CHECK(build(fits, 1, 1 << 20));
    CHECK(build(too_long, 1, 1 << 20).error() == arguments_too_large);
    CHECK(build(too_long, 1, 1 << 20).error().errno_value() == posix::toobig);
    CHECK(build(fits, 1, 1 << 17).error() == arguments_too_large);
    CHECK(build(fits, 2, 1 << 20).error() == exo::errors::invalid_argument);
    CHECK(build("unterminated", 1, 1 << 20).error() == exo::errors::invalid_argument);
    CHECK(build("", 0, 4096));

    space limited{{}};
    stack_contents none;
    const auto steps = [&] {
        REQUIRE(build_initial_stack(limited, 0x7fff'0000'0000, 4096, none));
        return ~std::size_t{0} - limited.fail_after;
    }();
    for (std::size_t i = 0; i < steps; ++i) {
        space failing{{}};
        failing.fail_after = i;
        CHECK(build_initial_stack(failing, 0x7fff'0000'0000, 4096, none).error() == exo::errors::out_of_memory);
    }
}

TEST_CASE("the distribution's busybox parses, whole and cut")
{
    const auto bytes = read_whole("/bin/busybox");
    if (bytes.empty())
        return;
    const auto parsed = parse_memory(bytes);
    REQUIRE(parsed);
    CHECK(parsed->segments.size() > 3);
    CHECK(parsed->program_headers != 0);
    space target{bytes};
    const std::uint64_t bias = parsed->position_independent() ? 0x5555'0000'0000 : 0;
    const auto loaded = load_segments(*parsed, bias, target);
    REQUIRE(loaded);
    CHECK(loaded->code.contains(loaded->entry));
    for (std::size_t length = 0; length < 4096; length += 64)
        CHECK(!parse_memory(std::span{bytes}.first(length)));
}
