// SPDX-License-Identifier: Apache-2.0
// What most tests include, parsed once a build and not once a test, ours with it. So a test can lack an include that it
// needs; a header can't, since each is compiled alone (structure/).
#include "precompiled_foreign.hpp"

#include <mistral/model.hpp>

#include "kernels.hpp"
