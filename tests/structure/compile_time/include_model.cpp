#include <mistral/model.hpp>

int main() {}
