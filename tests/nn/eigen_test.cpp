// SPDX-License-Identifier: Apache-2.0
// The maps of mistral/eigen.hpp: where Eigen stands.
#if __has_include(<Eigen/Core>)
#include <type_traits>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/eigen.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/nn/adapter.hpp>

#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::same_bits;

namespace {

using Model = Transformer<test::tiny, Lora<F32>>;

template <class T>
constexpr bool writable = !std::is_const_v<std::remove_pointer_t<decltype(std::declval<T>().data())>>;

// A const object gives a map that can't be written to; any other gives one that can.
static_assert(writable<decltype(as_eigen(std::declval<Rows<float>>()))>);
static_assert(!writable<decltype(as_eigen(std::declval<Rows<const float>>()))>);
static_assert(!writable<decltype(as_eigen(std::declval<std::span<const float>>()))>);
static_assert(writable<decltype(as_eigen(std::declval<Panels<F32>&>(), 0))>);
static_assert(!writable<decltype(as_eigen(std::declval<const Panels<F32>&>(), 0))>);

std::vector<float> row_of(const Panels<F32>& matrix, std::size_t r) {
  std::vector<float> out(matrix.cols());
  matrix.unpack_row(r, out);
  return out;
}

}  // namespace

TEST_CASE("logits and hidden states are mapped, not copied") {
  auto model = test::random_model<Model>(1);
  Session<Model> session{model};
  const std::vector<TokenId> text{1, 2, 3, 4};
  const Rows<const float> all = session.forward(text);
  const auto logits = as_eigen(all);
  CHECK(logits.rows() == 4);
  CHECK(logits.cols() == 97);
  CHECK(logits.row(3).data() == all.row(3).data());
  const auto last = session.decode(5);
  CHECK(as_eigen(last).data() == last.data());
  CHECK(as_eigen(last).size() == 97);

  // Logits are the head's weights times the normed stream: what is mapped is what its names say.
  Eigen::VectorXf stream;
  session.clear();
  const auto decoded = session.decode(7, ResidualHook{[&](const Residual& r) {
                                        if (r.layer == test::tiny.n_layers) stream = as_eigen(r.x).row(0).transpose();
                                      }});
  const Eigen::VectorXd x = stream.cast<double>();
  const double scale = 1.0 / std::sqrt(x.squaredNorm() / 64.0 + 1e-5);
  const Eigen::VectorXd normed = (x * scale).cwiseProduct(as_eigen(model.norm.weight.span()).cast<double>());
  const Eigen::MatrixXd head = to_eigen(model.output.weight).cast<double>();
  const Eigen::VectorXd expected = head * normed;
  const Eigen::VectorXd sizes =
      head.cwiseAbs() * normed.cwiseAbs();  // of the terms: a sum of 64 is off by so many ulps
  for (Eigen::Index i = 0; i < 97; ++i) {
    CHECK(std::abs(expected(i) - static_cast<double>(as_eigen(decoded)(i))) <= 70.0 * 0x1p-24 * sizes(i));
  }
}

TEST_CASE("a hook writes to the stream through a map") {
  auto model = test::random_model<Model>(2);
  Session<Model> session{model};
  const auto zeroed = session.decode(1, ResidualHook{[](const Residual& r) {
                                       if (r.layer == test::tiny.n_layers) as_eigen(r.x).setZero();
                                     }});
  CHECK(as_eigen(zeroed).cwiseAbs().maxCoeff() == 0.0f);
}

TEST_CASE("the keys of a head are mapped where they lie in the ring") {
  auto model = test::random_model<Model>(3);
  Session<Model> session{model};
  session.prefill(std::vector<TokenId>(11, 3));  // a window of 8: the ring has wrapped
  const auto& ring = session.cache().layer(1).keys[1];
  const auto [older, newer] = ring.spans();
  CHECK(as_eigen(older).rows() + as_eigen(newer).rows() == 8);
  float key[16];
  ring.at(ring.first_position()).read(key);
  for (Eigen::Index d = 0; d < 16; ++d) CHECK(as_eigen(older)(0, d) == key[d]);
  ring.at(10).read(key);
  for (Eigen::Index d = 0; d < 16; ++d) CHECK(as_eigen(newer)(as_eigen(newer).rows() - 1, d) == key[d]);
}

TEST_CASE("floats in panels are mapped 16 rows at a time, and written to") {
  Random random(4);
  test::Matrix values(37, 21, random);
  Panels<F32> matrix = test::packed<F32>(values);
  for (std::size_t panel = 0; panel < 3; ++panel) {
    const auto map = as_eigen(std::as_const(matrix), panel);
    CHECK(map.rows() == (panel == 2 ? 5 : 16));
    for (Eigen::Index r = 0; r < map.rows(); ++r) {
      for (Eigen::Index c = 0; c < 21; ++c) {
        CHECK(map(r, c) == values.view().row(panel * 16 + static_cast<std::size_t>(r))[static_cast<std::size_t>(c)]);
      }
    }
  }
  as_eigen(matrix, 2).row(4) *= 2.0f;
  std::vector<float> doubled(values.view().row(36).begin(), values.view().row(36).end());
  for (float& v : doubled) v *= 2.0f;
  CHECK(same_bits(row_of(matrix, 36), doubled));
  CHECK(same_bits(row_of(matrix, 35), values.view().row(35)));
}

TEST_CASE("weights of any format are copied as the floats they stand for, and written back with their rounding") {
  Random random(5);
  test::Matrix values(37, 64, random);
  const Panels<Q4_0> matrix = test::packed<Q4_0>(values);  // values: what 4 bits made of them
  const EigenMatrix copy = to_eigen(matrix);
  CHECK(same_bits({copy.data(), 37 * 64}, values.values));
  Panels<F32> floats(37, 64);
  from_eigen(copy * 0.5f, floats);
  for (float& v : values.values) v *= 0.5f;
  const EigenMatrix halves = to_eigen(floats);
  CHECK(same_bits({halves.data(), 37 * 64}, values.values));
  CHECK(test::error_of([&] { from_eigen(copy.transpose(), floats); }) ==
        "[eigen] weights: expected [37, 64], got [64, 37]");
}

TEST_CASE("weights in a mapped file are read, and refuse to be written to") {
  Random random(6);
  test::Matrix values(16, 8, random);
  const auto file = std::make_shared<Panels<F32>>(test::packed<F32>(values));
  Panels<F32> matrix(16, 8);
  matrix.adopt(file->bytes().data(), file);
  CHECK(as_eigen(std::as_const(matrix), 0)(3, 2) == values.view().row(3)[2]);
  const std::string refused = "[eigen] weights to write to: expected memory of the model's own, got a mapped file";
  CHECK(test::error_of([&] { as_eigen(matrix, 0)(0, 0) = 1.0f; }) == refused);
  CHECK(test::error_of([&] { from_eigen(EigenMatrix::Zero(16, 8), matrix); }) == refused);
}

TEST_CASE("an adapter's matrices are mapped and written to, and their product is what it adds") {
  auto model = test::random_model<Model>(7);
  add_adapter(model, {.rank = 4, .alpha = 8.0f, .seed = 1});
  LoraMatrices& adapter = model.output.adapters[0];
  CHECK(as_eigen(adapter.a, 0).rows() == 4);
  CHECK(as_eigen(adapter.a, 0).cols() == 64);
  for (std::size_t panel = 0; panel < adapter.b.view().panel_count(); ++panel) {
    as_eigen(adapter.b, panel).setConstant(0.25f);
  }
  Session<Model> session{model};
  const auto tuned = session.decode(1);
  const std::vector<float> with(tuned.begin(), tuned.end());

  // The same as an adapter on the head alone, and as weights that hold it.
  const EigenMatrix sum = to_eigen(model.output.weight) + to_eigen(adapter);
  remove_adapter(model, 0);
  session.clear();
  const auto base = session.decode(1);
  const std::vector<float> without(base.begin(), base.end());
  from_eigen(sum, model.output.weight);
  session.clear();
  const auto merged = session.decode(1);
  float change = 0.0f;
  float error = 0.0f;
  for (std::size_t i = 0; i < 97; ++i) {
    change = std::max(change, std::abs(with[i] - without[i]));
    error = std::max(error, std::abs(with[i] - merged[i]));
  }
  CHECK(change > 0.1f);
  CHECK(error < 1e-5f * change * 64.0f);  // sums of 64 terms in another order
}
#endif
