#include <numeric>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/cache/ring_buffer.hpp>

#include "../support/random_rows.hpp"

using namespace mistral;

namespace {

template <class T, std::size_t W>
std::vector<T> content(const RingBuffer<T, W>& ring) {
  std::vector<T> out;
  for (const auto& span : ring.spans()) out.insert(out.end(), span.begin(), span.end());
  return out;
}

// Pushes 0, 1, 2, ... in pieces of random length, some longer than the buffer, and holds the content against a vector.
template <std::size_t W>
void check_random_pushes() {
  CAPTURE(W);
  Random random(W);
  RingBuffer<int, W> ring;
  std::vector<int> all;
  for (int round = 0; round < 300; ++round) {
    std::vector<int> piece(test::uniform(random, 0, 2 * W + 1));
    std::iota(piece.begin(), piece.end(), static_cast<int>(all.size()));
    ring.push(piece);
    all.insert(all.end(), piece.begin(), piece.end());
    const std::size_t held = std::min(all.size(), W);
    REQUIRE(ring.position() == static_cast<std::int64_t>(all.size()));
    REQUIRE(ring.size() == held);
    REQUIRE(ring.first_position() == static_cast<std::int64_t>(all.size() - held));
    REQUIRE(content(ring) == std::vector<int>(all.end() - static_cast<std::ptrdiff_t>(held), all.end()));
    for (std::size_t i = all.size() - held; i < all.size(); ++i) {
      REQUIRE(ring.at(static_cast<std::int64_t>(i)) == static_cast<int>(i));
    }
  }
}

}  // namespace

TEST_CASE("a ring buffer gives back the last W entries in order") {
  check_random_pushes<1>();
  check_random_pushes<2>();
  check_random_pushes<3>();
  check_random_pushes<8>();
  check_random_pushes<17>();
}

TEST_CASE("the entry at position i lies in slot i mod W") {
  RingBuffer<int, 4> ring;
  CHECK(content(ring).empty());
  for (int i = 0; i < 6; ++i) ring.push(i);
  const auto [older, newer] = ring.spans();  // slots: 4 5 2 3
  CHECK(std::vector<int>(older.begin(), older.end()) == std::vector<int>{2, 3});
  CHECK(std::vector<int>(newer.begin(), newer.end()) == std::vector<int>{4, 5});
  CHECK(newer.data() + 2 == older.data());
}

TEST_CASE("a cleared ring buffer begins at position 0 again") {
  RingBuffer<int, 3> ring;
  for (int i = 0; i < 5; ++i) ring.push(i);
  ring.clear();
  CHECK(ring.position() == 0);
  CHECK(content(ring).empty());
  ring.push(7);
  CHECK(content(ring) == std::vector<int>{7});
}

TEST_CASE("a ring buffer that is restored goes on as if it had been pushed to") {
  RingBuffer<int, 4> ring;
  for (int i = 0; i < 3; ++i) ring.push(i);
  for (const int position : {0, 2, 4, 7, 1000001}) {
    CAPTURE(position);
    std::vector<int> last;
    for (int i = std::max(0, position - 4); i < position; ++i) last.push_back(i);
    ring.restore(position, last);
    CHECK(ring.position() == position);
    CHECK(content(ring) == last);
    ring.push(position);
    CHECK(ring.at(position) == position);
    if (position > 0) CHECK(ring.at(position - 1) == position - 1);
    CHECK(ring.size() == std::min<std::size_t>(last.size() + 1, 4));
  }
}
