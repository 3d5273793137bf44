// SPDX-License-Identifier: Apache-2.0
// What tests include of other people's, parsed once a build and not once a test.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tbb/blocked_range.h>
#include <tbb/global_control.h>
#include <tbb/parallel_for.h>
#include <tbb/partitioner.h>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <xsimd/xsimd.hpp>
