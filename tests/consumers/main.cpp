// The program of every consumer: something real through the public headers.
#include <mistral/core/element.hpp>

#include <cstdio>

int main() {
  const mistral::bf16 third = mistral::from_float<mistral::bf16>(1.0f / 3.0f);
  std::printf("1/3 in bf16 is %.9g\n", static_cast<double>(mistral::to_float(third)));
  return mistral::to_float(third) == 0.333984375f ? 0 : 1;
}
