// SPDX-License-Identifier: Apache-2.0
#include <mistral/model.hpp>

int main() {}
