// SPDX-License-Identifier: Apache-2.0
#include <numeric>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/cache/ring_buffer.hpp>

#include "../support/random_rows.hpp"

using namespace mistral;

namespace {

template <class Spans>
std::vector<int> joined(const Spans& spans) {
  std::vector<int> out;
  for (const auto& span : spans) out.insert(out.end(), span.begin(), span.end());
  return out;
}

template <std::size_t W>
std::vector<int> content(const RingBuffer<int, W>& ring) {
  return joined(ring.spans());
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

// Pushes, rollbacks, copies and restores in random order, held against vectors: the entries, each a number of its own,
// and how many of them a buffer that keeps `undo` can give back. Copies go to and from buffers that keep less and more.
template <std::size_t W>
void check_random_histories(std::size_t undo) {
  CAPTURE(W);
  CAPTURE(undo);
  struct Tracked {
    RingBuffer<int, W> ring;
    std::size_t undo;
    std::vector<int> all = {};
    std::size_t oldest = 0;

    explicit Tracked(std::size_t kept) : ring(kept), undo(kept) {}
    void forget() { oldest = std::max(oldest, all.size() - std::min(all.size(), W + undo)); }
    std::size_t held() const { return std::min(all.size(), W); }
    std::size_t revertible() const { return oldest == 0 ? all.size() : all.size() - held() - oldest; }
    std::vector<int> last(std::size_t count) const {
      return {all.end() - static_cast<std::ptrdiff_t>(count), all.end()};
    }
    void check() const {
      REQUIRE(ring.position() == static_cast<std::int64_t>(all.size()));
      REQUIRE(ring.revertible() == static_cast<std::int64_t>(revertible()));
      REQUIRE(content(ring) == last(held()));
      REQUIRE(joined(ring.overwritten()) == std::vector<int>(all.begin() + static_cast<std::ptrdiff_t>(oldest),
                                                             all.end() - static_cast<std::ptrdiff_t>(held())));
    }
  };
  Random random(W * 100 + undo);
  Tracked buffers[]{Tracked(undo), Tracked(undo / 2), Tracked(undo + 3)};
  int next = 0;
  std::size_t after_wrap = 0;
  for (int round = 0; round < 2000; ++round) {
    Tracked& a = buffers[random.next() % 3];
    const Tracked& b = buffers[random.next() % 3];
    switch (random.next() % 8) {
      case 0:
        a.ring.assign(b.ring);
        a.all = b.all;
        a.oldest = b.oldest;
        a.forget();
        break;
      case 1: {
        const std::size_t least = std::min(b.all.size(), W);
        const std::size_t count = test::uniform(random, least, std::min(b.all.size(), W + undo + 5));
        const std::vector<int> entries = b.last(count);
        a.all = b.all;
        a.ring.restore(static_cast<std::int64_t>(a.all.size()), entries);
        a.oldest = a.all.size() - count;
        a.forget();
        break;
      }
      case 2:
        if (random.next() % 20 == 0) {
          a.ring.clear();
          a.all.clear();
          a.oldest = 0;
        }
        break;
      case 3:
      case 4: {
        const std::size_t count = test::uniform(random, 0, a.revertible());
        after_wrap += count > 0 && a.all.size() > W ? 1 : 0;
        a.ring.rollback(static_cast<std::int64_t>(count));
        a.all.resize(a.all.size() - count);
        break;
      }
      default: {
        std::vector<int> piece(random.next() % 4 == 0 ? test::uniform(random, 0, 2 * W + undo + 1) : 1);
        std::iota(piece.begin(), piece.end(), next);
        next += static_cast<int>(piece.size());
        a.ring.push(piece);
        a.all.insert(a.all.end(), piece.begin(), piece.end());
        a.forget();
      }
    }
    a.check();
  }
  if (undo > 0) CHECK(after_wrap > 50);
}

}  // namespace

TEST_CASE("a ring buffer is rolled back, copied and restored as if what was taken back had never been there") {
  for (const std::size_t undo : {0u, 1u, 2u, 7u, 8u, 20u}) {
    check_random_histories<1>(undo);
    check_random_histories<3>(undo);
    check_random_histories<8>(undo);
  }
}

TEST_CASE(
    "a ring buffer that keeps nothing can be rolled back until it wraps, and one that keeps two entries, by two at any "
    "time") {
  RingBuffer<int, 4> ring, kept(2);
  for (int i = 0; i < 4; ++i) ring.push(i);
  CHECK(ring.revertible() == 4);
  ring.push(4);
  CHECK(ring.revertible() == 0);
  for (int i = 0; i < 100; ++i) kept.push(i);
  CHECK(kept.revertible() == 2);
  kept.rollback(2);
  CHECK(content(kept) == std::vector<int>{94, 95, 96, 97});
  CHECK(kept.revertible() == 0);
}

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
