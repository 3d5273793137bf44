// SPDX-License-Identifier: Apache-2.0
#include <mistral/generate/session_file.hpp>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/checkpoint/load.hpp>
#include <mistral/checkpoint/save_packed.hpp>
#include <mistral/format/f32.hpp>
#include <mistral/format/q4_0.hpp>
#include <mistral/format/q8_0.hpp>
#include <mistral/parallel/parallel.hpp>

#include "../support/models.hpp"
#include "../support/random_rows.hpp"
#include "../support/scratch.hpp"

using namespace mistral;
using test::error_of;

namespace {

using Tiny = Transformer<test::tiny, F32>;  // a window of 8
using Full = Transformer<test::full, F32>;  // none

// A file of a session that has wrapped and can be rolled back by 3 tokens, which a test may change.
struct Saved {
  Tiny model = test::random_model<Tiny>(7);
  std::vector<TokenId> text;
  test::Scratch scratch;
  std::string bytes;

  Saved() {
    Random random(31);
    text = test::random_tokens(20, 97, random);
    Session<Tiny, bf16> session{model, 3};
    session.prefill(text);
    save_session(session, text, scratch.path("good"));
    bytes = scratch.read("good");
  }

  std::size_t header_bytes() const {
    std::uint64_t count = 0;
    std::memcpy(&count, bytes.data() + 16, 8);
    return static_cast<std::size_t>(count);
  }

  // in place of `from` in the header, `to`, as long as that; the checksum is made anew
  Saved& replace(const std::string& from, const std::string& to) {
    const std::size_t at = bytes.find(from, SessionFile::preamble_bytes);
    REQUIRE(at < SessionFile::preamble_bytes + header_bytes());
    REQUIRE(to.size() == from.size());
    bytes.replace(at, from.size(), to);
    const std::span<const char> header(bytes.data() + SessionFile::preamble_bytes, header_bytes());
    const std::uint64_t sum = checksum(std::as_bytes(header));
    std::memcpy(bytes.data() + 24, &sum, sizeof sum);
    return *this;
  }

  // what loading says, without the "[state] path: " in front
  std::string error_in(Session<Tiny, bf16>& session) const {
    const std::string path = scratch.write("bad", bytes);
    const std::string error = error_of([&] { load_session(session, path); });
    const std::string prefix = "[state] " + path + ": ";
    return error.starts_with(prefix) ? error.substr(prefix.size()) : error;
  }
  std::string error() const {
    Session<Tiny, bf16> session{model};
    return error_in(session);
  }
};

template <class Model>
void check_round_trips(std::size_t rollback) {
  Random random(rollback);
  const auto model = test::random_model<Model>(5);
  const test::Scratch scratch;
  const std::string path = scratch.path("state");
  for (const std::size_t length : {0u, 1u, 7u, 8u, 9u, 16u, 37u}) {
    CAPTURE(length);
    auto text = test::random_tokens(length, Model::config.vocab_size, random);
    Session<Model, bf16> one{model, rollback}, other{model, rollback};
    if (length > 0) one.prefill(text);
    const std::int64_t back = length > 0 ? one.revertible() / 2 : 0;
    one.rollback(back);
    text.resize(length - static_cast<std::size_t>(back));
    save_session(one, text, path);
    other.prefill(test::random_tokens(11, Model::config.vocab_size, random));  // what it was before doesn't matter
    CHECK(load_session(other, path) == text);
    CHECK(other.position() == one.position());
    CHECK(other.revertible() == one.revertible());
    one.rollback(one.revertible() / 2);
    other.rollback(other.revertible() / 2);
    const auto next = test::random_tokens(20, Model::config.vocab_size, random);
    CHECK(test::same_bits(other.prefill(next), one.prefill(next)));
  }
}

}  // namespace

TEST_CASE("a session that is restored from a file goes on to the same bits, and can be rolled back as far") {
  check_round_trips<Tiny>(0);
  check_round_trips<Tiny>(5);
  check_round_trips<Full>(0);
}

TEST_CASE("a session takes in what another keeps for a rollback as far as it was made for, and tokens are not needed") {
  const Saved saved;
  for (const auto& [rollback, revertible] : {std::pair{0u, 0}, std::pair{2u, 2}, std::pair{9u, 3}}) {
    Session<Tiny, bf16> session{saved.model, rollback};
    load_session(session, saved.scratch.path("good"));
    CHECK(session.revertible() == revertible);
    save_session(session, {}, saved.scratch.path("again"));
    Session<Tiny, bf16> again{saved.model, 9};
    CHECK(load_session(again, saved.scratch.path("again")).empty());
    CHECK(again.position() == 20);
    CHECK(again.revertible() == revertible);
    CHECK(test::same_bits(again.decode(3), session.decode(3)));
  }
  Session<Tiny, bf16> session{saved.model};
  session.decode(1);
  CHECK(error_of([&] { save_session(session, saved.text, saved.scratch.path("more")); }) ==
        "[state] tokens: expected none, or the 1 of the session, got 20");
}

TEST_CASE("a file of a session that is cut anywhere, or has a bit turned anywhere, is an error that changes nothing") {
  Saved saved;
  const std::string good = saved.bytes;
  CHECK(saved.error() == "no error");
  Session<Tiny, bf16> session{saved.model};
  const std::vector<TokenId> text{1, 2, 3};
  session.prefill(text);
  // All of the header and the tokens, and every few bytes of the rings, which are all alike.
  const std::size_t rings = SessionFile::preamble_bytes + saved.header_bytes() + 20 * sizeof(TokenId) + 8;
  const auto next = [&](std::size_t i) { return i + (i < rings ? 1 : 7); };
  std::size_t accepted = 0;
  for (std::size_t size = 0; size < good.size(); size = next(size)) {
    saved.bytes = good.substr(0, size);
    if (saved.error_in(session) == "no error") ++accepted;
  }
  saved.bytes = good.substr(0, good.size() - 1);
  if (saved.error_in(session) == "no error") ++accepted;
  saved.bytes = good + "x";
  if (saved.error_in(session) == "no error") ++accepted;
  for (std::size_t i = 0; i < good.size(); i = next(i)) {
    saved.bytes = good;
    saved.bytes[i] = static_cast<char>(saved.bytes[i] ^ (1 << i % 8));
    const std::string error = saved.error_in(session);
    if (error == "no error" || error.find('\n') != std::string::npos) ++accepted;
  }
  CHECK(accepted == 0);
  CHECK(session.position() == 3);
  Session<Tiny, bf16> fresh{saved.model};
  fresh.prefill(text);
  CHECK(test::same_bits(session.decode(4), fresh.decode(4)));
}

TEST_CASE("a file of another model, another cache, or of no session is refused in a line that says why") {
  const Saved saved;
  const SessionFile file = SessionFile::open(saved.scratch.path("good"));
  const std::string prefix = "[state] " + saved.scratch.path("good") + ": ";
  CHECK(error_of([&] { file.check(test::tiny, "bf16"); }) == "no error");
  CHECK(error_of([&] { file.check(test::tiny, "q8"); }) == prefix + "field 'kv': expected the cache's q8, got 'bf16'");
  ModelConfig other = test::tiny;
  other.window_size = 5;
  CHECK(error_of([&] { file.check(other, "bf16"); }) ==
        prefix + "field 'config': field 'window_size': expected the model's 5, got 8");
  other = test::tiny;
  other.rope_theta = 1e6f;
  CHECK(error_of([&] { file.check(other, "bf16"); }) ==
        prefix + "field 'config': field 'rope_theta': expected the model's 1000000, got 10000");

  const auto weights = test::random_model<Tiny>(8);
  Session<Tiny, bf16> session{weights};
  const std::string error = error_of([&] { load_session(session, saved.scratch.path("good")); });
  CHECK(error.starts_with(prefix + "field 'model': expected '"));
  CHECK(error.find("' (the model's weights are others: load those that it was saved with), got '") !=
        std::string::npos);

  Saved foreign;
  foreign.bytes.replace(0, 8, std::string("MISTRAL\x1a", 8));
  CHECK(foreign.error() == "the magic: expected 'MISTSES\\x1a', got 'MISTRAL\\x1a'");
  Saved older;
  older.bytes[8] = 1;
  CHECK(older.error() == "the version: expected 2 (let the model read the text again), got 1");
  foreign.bytes = "short";
  CHECK(foreign.error() == "the file: expected at least 32 bytes, got 5");
}

namespace {

// What can be written to, of each of a model's weights.
struct WritableWeights {
  std::vector<std::pair<std::string, std::span<std::byte>>> all = {};

  template <WeightFormat F>
  void operator()(const std::string& name, Panels<F>& matrix, std::size_t) {
    all.emplace_back(name, matrix.own_bytes());
  }
  void operator()(const std::string& name, Buffer<float>& norm) {
    all.emplace_back(name, std::as_writable_bytes(norm.span()));
  }
};

// A session's file of a model, and whether sessions of others take it in.
template <class Model>
struct FileOf {
  test::Scratch scratch;

  explicit FileOf(const Model& model) {
    Session<Model, float> session{model};
    session.prefill(std::vector<TokenId>{1, 2, 3});
    save_session(session, {}, scratch.path("state"));
  }
  std::string error(const Model& model) const {
    Session<Model, float> session{model};
    return error_of([&] { load_session(session, scratch.path("state")); });
  }
  bool taken_by(const Model& model) const { return error(model) == "no error"; }
};

template <WeightFormat F>
void check_every_weight() {
  CAPTURE(std::string(F::name));
  using Model = Transformer<test::tiny, F>;
  auto model = test::random_model<Model>(7);
  const FileOf<Model> file(model);
  CHECK(file.taken_by(model));
  WritableWeights weights;
  visit_weights(model, weights);
  CHECK(weights.all.size() == 3 + 9 * test::tiny.n_layers);
  CHECK(file.taken_by(model));  // nothing is kept of what may be written to, and the bytes are the same
  for (const auto& one : weights.all) {
    const auto& name = one.first;
    const auto& bytes = one.second;
    CAPTURE(name);
    for (const std::size_t at : {std::size_t{0}, bytes.size() / 2, bytes.size() - 1}) {
      bytes[at] ^= std::byte{0x10};
      CHECK(file.error(model).find("field 'model': expected '") != std::string::npos);
      bytes[at] ^= std::byte{0x10};
    }
  }
  CHECK(file.taken_by(model));
}

}  // namespace

TEST_CASE("a file is refused where any one bit of any weight is another") {
  check_every_weight<F32>();
  check_every_weight<Q4_0>();
}

TEST_CASE("a file is refused where a model was changed after it was made, however that was done") {
  using Model = Transformer<test::tiny, F32>;
  auto model = test::random_model<Model>(7);
  const FileOf<Model> file(model);
  randomize(model, 8);
  CHECK(!file.taken_by(model));
  randomize(model, 7);
  CHECK(file.taken_by(model));  // the same weights again

  std::vector<float> values(16 * 160);  // one panel of another matrix
  std::vector<const float*> rows;
  for (std::size_t r = 0; r < 16; ++r) {
    const std::span<float> row(values.data() + r * 160, 160);
    model.layers[1].feed_forward.w2.weight.unpack_row(16 + r, row);
    rows.push_back(row.data());
  }
  values[500] = std::nextafter(values[500], 9.0f);
  model.layers[1].feed_forward.w2.weight.pack(1, rows);
  CHECK(!file.taken_by(model));
  randomize(model, 7);
  CHECK(file.taken_by(model));

  model.layers[2].ffn_norm.weight.span()[63] = 1.5f;
  CHECK(!file.taken_by(model));
  model.layers[2].ffn_norm.weight.span()[63] = 1.0f;
  CHECK(file.taken_by(model));

  const Model moved = std::move(model);
  CHECK(file.taken_by(moved));
}

TEST_CASE("what a file knows a model by is the same on any number of threads, and from a packed file") {
  using Model = Transformer<test::tiny, Q8_0>;
  const auto model = test::random_model<Model>(7);
  const FileOf<Model> file(model);
  const test::Scratch scratch;
  save_packed(model, scratch.path("packed"));
  CHECK(file.taken_by(load<Model>(scratch.path("packed"))));
  save_packed(test::random_model<Model>(8), scratch.path("other"));
  CHECK(!file.taken_by(load<Model>(scratch.path("other"))));

  // A file of before digests were written is read instead.
  std::string bytes = scratch.read("packed");
  std::size_t found = 0;
  for (std::size_t at = bytes.find(R"(,"digest":")"); at != std::string::npos; at = bytes.find(R"(,"digest":")")) {
    bytes.replace(at, 28, 28, ' ');
    ++found;
  }
  CHECK(found == 2 + 7 * test::tiny.n_layers);
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data() + 16, 8);
  const std::uint64_t sum = checksum(std::as_bytes(std::span(bytes).subspan(PackedFile::preamble_bytes, size)));
  std::memcpy(bytes.data() + 24, &sum, 8);
  const auto older = load<Model>(scratch.write("older", bytes));
  for (const std::size_t threads : {1u, 2u, 5u}) {
    const parallel::ThreadLimit limit(threads);
    CHECK(file.taken_by(test::random_model<Model>(7)));
    CHECK(file.taken_by(older));
  }
}

TEST_CASE("a header that says what the file doesn't hold is an error, whatever its checksum says") {
  CHECK(Saved().replace(R"("position":20)", R"("position":99)").error() ==
        "field 'tokens': expected as many as the position, or 0, got 20");
  CHECK(Saved().replace(R"("position":20)", R"("position":-2)").error().starts_with("field 'position': expected "));
  CHECK(Saved().replace(R"("entries":11)", R"("entries":99)").error() ==
        "field 'entries': expected an integer from 0 to 20, got 99");
  CHECK(Saved().replace(R"("entries":11)", R"("entries":07)").error() != "no error");
  CHECK(Saved().replace(R"("entries":11)", R"("entries":7 )").error() == "field 'entries': expected at least 8, got 7");
  CHECK(Saved().replace(R"("entries":11)", R"("entries":12)").error().starts_with("the file: expected "));
  CHECK(Saved().replace(R"("tokens":20)", R"("tokens":0 )").error().starts_with("the tokens: the checksum: "));
  CHECK(Saved().replace(R"("kv":"bf16")", R"("kv":[1234])").error().starts_with("field 'kv': expected a string"));
}
