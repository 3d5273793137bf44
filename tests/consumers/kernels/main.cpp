// SPDX-License-Identifier: Apache-2.0
// The program of every consumer in one of the units that share their kernels.
#include "consumer_kernels.hpp"

int generated();

#define main consumer_main
#include "../main.cpp"
#undef main

int main() { return consumer_main() == 0 && generated() > 0 ? 0 : 1; }
