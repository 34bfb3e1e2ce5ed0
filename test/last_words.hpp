// What a function prints on its way to a panic, which it makes in a process of its own; nothing if it comes through.

#pragma once

#include <doctest/doctest.h>

#include <csignal>
#include <cstddef>
#include <cstdio>
#include <string>

#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

template <class Function>
std::string last_words(Function misuse)
{
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    std::fflush(nullptr);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ::dup2(ends[1], STDERR_FILENO);
        ::close(ends[0]);
        ::close(ends[1]);
        std::signal(SIGABRT, SIG_DFL); // the test framework reports it otherwise
        misuse();
        ::_exit(0);
    }
    ::close(ends[1]);
    std::string text;
    char piece[256];
    for (ssize_t got = 0; (got = ::read(ends[0], piece, sizeof piece)) > 0;)
        text.append(piece, static_cast<std::size_t>(got));
    ::close(ends[0]);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? text : "";
}
