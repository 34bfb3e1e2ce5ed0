// Unpredictable bytes from a seed: ChaCha20 (RFC 8439) with the key replaced after every use, so that what was handed
// out cannot be told from a later state. The caller mixes in what entropy there is, and locks.

#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

namespace exo {

class random_generator {
public:
    // Adds to the key; never makes it more predictable.
    void mix(std::span<const std::byte> entropy)
    {
        std::size_t at = 0;
        for (const std::byte b : entropy) {
            key_[at / 4] ^= std::to_integer<std::uint32_t>(b) << (at % 4 * 8);
            if (++at == sizeof(key_)) {
                at = 0;
                renew();
            }
        }
        renew();
    }

    void fill(std::span<std::byte> into)
    {
        while (!into.empty()) {
            // The first half of a block becomes the next key, the rest is handed out.
            std::uint32_t block[16];
            generate(block);
            for (std::size_t i = 0; i < 8; ++i)
                key_[i] = block[i];
            const std::size_t count = into.size() < 32 ? into.size() : 32;
            for (std::size_t i = 0; i < count; ++i)
                into[i] = static_cast<std::byte>(block[8 + i / 4] >> (i % 4 * 8));
            into = into.subspan(count);
        }
    }

private:
    void renew()
    {
        std::uint32_t block[16];
        generate(block);
        for (std::size_t i = 0; i < 8; ++i)
            key_[i] = block[i];
    }

    void generate(std::uint32_t (&block)[16])
    {
        ++counter_;
        const std::uint32_t start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, key_[0], key_[1], key_[2],
                                         key_[3], key_[4], key_[5], key_[6], key_[7],
                                         static_cast<std::uint32_t>(counter_),
                                         static_cast<std::uint32_t>(counter_ >> 32), 0, 0};
        for (std::size_t i = 0; i < 16; ++i)
            block[i] = start[i];
        const auto quarter = [&block](unsigned a, unsigned b, unsigned c, unsigned d) {
            block[a] += block[b], block[d] = std::rotl(block[d] ^ block[a], 16);
            block[c] += block[d], block[b] = std::rotl(block[b] ^ block[c], 12);
            block[a] += block[b], block[d] = std::rotl(block[d] ^ block[a], 8);
            block[c] += block[d], block[b] = std::rotl(block[b] ^ block[c], 7);
        };
        for (int round = 0; round < 10; ++round) {
            quarter(0, 4, 8, 12), quarter(1, 5, 9, 13), quarter(2, 6, 10, 14), quarter(3, 7, 11, 15);
            quarter(0, 5, 10, 15), quarter(1, 6, 11, 12), quarter(2, 7, 8, 13), quarter(3, 4, 9, 14);
        }
        for (std::size_t i = 0; i < 16; ++i)
            block[i] += start[i];
    }

    std::uint32_t key_[8]{};
    std::uint64_t counter_{};
};

} // namespace exo
