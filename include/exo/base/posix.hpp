// POSIX error numbers with the values of Linux on x86-64 (asm-generic/errno.h), spelled without the E so that they
// cannot collide with a hosted <cerrno>.

#pragma once

#include <cstdint>

namespace exo {

enum class posix : std::uint16_t {
    none = 0,
    perm = 1,
    noent = 2,
    srch = 3,
    intr = 4,
    io = 5,
    nxio = 6,
    toobig = 7,
    noexec = 8,
    badf = 9,
    child = 10,
    again = 11,
    nomem = 12,
    acces = 13,
    fault = 14,
    notblk = 15,
    busy = 16,
    exist = 17,
    xdev = 18,
    nodev = 19,
    notdir = 20,
    isdir = 21,
    inval = 22,
    nfile = 23,
    mfile = 24,
    notty = 25,
    txtbsy = 26,
    fbig = 27,
    nospc = 28,
    spipe = 29,
    rofs = 30,
    mlink = 31,
    pipe = 32,
    dom = 33,
    range = 34,
    deadlk = 35,
    nametoolong = 36,
    nolck = 37,
    nosys = 38,
    notempty = 39,
    loop = 40,
    time = 62,
    proto = 71,
    overflow = 75,
    uclean = 117,
    notsock = 88,
    opnotsupp = 95,
    afnosupport = 97,
    notconn = 107,
    timedout = 110,
    connrefused = 111,
};

} // namespace exo
