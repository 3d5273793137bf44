// SPDX-License-Identifier: Apache-2.0
#pragma once

/// \file
/// What all units leave to compiled_once.cpp. It stands in the tool's precompiled header.

#include <mistral/generate/compiled_once.hpp>

MISTRAL_COMPILED_ONCE(extern)
