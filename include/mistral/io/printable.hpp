#pragma once

#include <mistral/core/printable.hpp>
