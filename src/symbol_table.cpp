// Makes the table by which the kernel's panic report names functions: reads `nm --numeric-sort` of the linked kernel on
// standard input, writes assembly to standard output. Names are demangled and cut down to the path of the function:
// template arguments and parameters would take megabytes.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cxxabi.h>
#include <iostream>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct symbol {
    std::uint64_t address;
    std::string name;
};

// The name without anything in <> or (), and what precedes or follows the function's path.
std::string shorten(const std::string& full)
{
    std::string path;
    int depth = 0;
    for (std::size_t i = 0; i < full.size(); ++i) {
        const char c = full[i];
        // Operators may be spelled with the characters that are skipped.
        if (depth == 0 && full.compare(i, 8, "operator") == 0) {
            path += "operator";
            i += 8;
            while (i < full.size() && full[i] != '(')
                path += full[i++];
            if (full.compare(i, 2, "()") == 0)
                path += "()";
            break;
        }
        if (full.compare(i, 21, "(anonymous namespace)") == 0) {
            i += 22; // and the :: behind it
            continue;
        }
        if (c == '<' || c == '(' || c == '{' || c == '[') {
            if (depth == 0 && c == '(')
                break;
            if (depth == 0 && c == '{')
                path += "lambda";
            ++depth;
        } else if (c == '>' || c == ')' || c == '}' || c == ']') {
            --depth;
        } else if (depth == 0) {
            if (c == ' ')
                path.clear(); // the type that the function returns
            else
                path += c;
        }
    }
    return path.empty() ? full : path;
}

std::string demangle(const std::string& name)
{
    int status = 0;
    char* text = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status);
    if (!text)
        return name;
    std::string result = shorten(text);
    std::free(text);
    return result;
}

} // namespace

int main()
{
    std::vector<symbol> symbols;
    std::uint64_t base = 0;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream fields{line};
        std::string address, type, name;
        if (!(fields >> address >> type >> name))
            continue;
        const std::uint64_t value = std::stoull(address, nullptr, 16);
        if (name == "exo_text_begin")
            base = value;
        const bool function = type == "t" || type == "T" || type == "w" || type == "W";
        const bool boundary = name.starts_with("exo_text_");
        if (function && !boundary && (symbols.empty() || symbols.back().address != value))
            symbols.push_back({value, demangle(name)});
    }
    if (base == 0) {
        std::cerr << "symbol_table: no exo_text_begin on the input\n";
        return 1;
    }
    std::erase_if(symbols, [&](const symbol& s) { return s.address < base; });

    std::printf("    .section .exo.symbols, \"a\"\n    .balign 8\n");
    std::printf("    .globl exo_symbol_count\nexo_symbol_count:\n    .long %zu\n", symbols.size());
    std::printf("    .globl exo_symbol_offsets\nexo_symbol_offsets:\n");
    for (const auto& s : symbols)
        std::printf("    .long %#llx\n", static_cast<unsigned long long>(s.address - base));
    std::printf("    .globl exo_symbol_names\nexo_symbol_names:\n");
    std::size_t place = 0;
    for (const auto& s : symbols) {
        std::printf("    .long %zu\n", place);
        place += s.name.size() + 1;
    }
    std::printf("    .globl exo_symbol_text\nexo_symbol_text:\n");
    for (const auto& s : symbols)
        std::printf("    .asciz \"%s\"\n", s.name.c_str());
    std::printf("    .section .note.GNU-stack, \"\", @progbits\n");
}
