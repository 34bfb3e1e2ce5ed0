#include <exo/base/errors.hpp>
#include <exo/base/result.hpp>

static exo::result<int> half(int n)
{
    if (n % 2 != 0)
        return exo::fail(exo::errors::invalid_argument, static_cast<unsigned>(n));
    return n / 2;
}

int main() { return *half(84) == 42 && half(3).error() == exo::errors::invalid_argument ? 0 : 1; }
