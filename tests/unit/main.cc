// main() of the doctest programs (unit_tests, sim_tests). A run without a single test case fails:
// a filter that matches nothing proves nothing.
#define DOCTEST_CONFIG_IMPLEMENT_WITH_MAIN
#include <doctest/doctest.h>
