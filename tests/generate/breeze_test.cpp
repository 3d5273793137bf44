// The model that the project holds itself, in examples/own_model/breeze.
#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <mistral/format/f32.hpp>
#include <mistral/generate/perplexity.hpp>
#include <mistral/generate/session.hpp>
#include <mistral/io/load.hpp>
#include <mistral/text/tokenizer.hpp>

#include "../../examples/tool/configs.hpp"
#include "../support/golden.hpp"
#include "../support/models.hpp"

using namespace mistral;

namespace {

using Model = Transformer<tool::breeze, F32>;

const std::string folder = MISTRAL_SOURCE_DIR "/examples/own_model/breeze";

std::vector<TokenId> with_bos(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<TokenId> ids = tokenizer.encode(text);
  ids.insert(ids.begin(), tokenizer.bos_id());
  return ids;
}

}  // namespace

TEST_CASE("the model of our own predicts a text that was held out, as well as it did when it was made") {
  const std::string text =
      "Mrs. Elton was first seen at church: but though devotion might be interrupted, curiosity could not "
      "be satisfied by a bride in a pew, and it must be left for the visits in form which were then to be "
      "paid, to settle whether she were very pretty indeed, or only rather pretty, or not pretty at all. "
      "Emma had feelings, less of curiosity than of pride or propriety, to make her resolve on not being "
      "the last to pay her respects; and she made a point of Harriet's going with her, that the worst of "
      "the business might be gone through as soon as possible. She could not enter the house again, could "
      "not be in the same room to which she had with such vain artifice retreated three months ago, to "
      "lace up her boot, without recollecting. A thousand vexatious thoughts would recur. Compliments, "
      "charades, and horrible blunders; and it was not to be supposed that poor Harriet should not be "
      "recollecting too; but she behaved very well, and was only rather pale and silent.";
  const auto model = load<Model>(folder);
  const auto tokenizer = Tokenizer::load(folder + "/tokenizer.model");
  const std::vector<TokenId> ids = with_bos(tokenizer, text);
  CHECK(tokenizer.decode(ids) == text);
  CHECK(ids.size() > 3 * tool::breeze.window_size);
  Session<Model, float> session{model};
  // A guess among all pieces would cost ln 2048 = 7.6 nats; the float sums of two machines differ by 1e-5 of a logit.
  CHECK(score_text(session, ids).loss() == doctest::Approx(3.90969).epsilon(1e-4));
}

TEST_CASE("the model of our own goes on past its window in the same words, and its logits are those of one forward") {
  const auto model = load<Model>(folder);
  const auto tokenizer = Tokenizer::load(folder + "/tokenizer.model");
  std::vector<TokenId> ids = with_bos(tokenizer, "And it came to pass");
  const std::size_t prompt = ids.size();
  Session<Model, float> session{model};
  std::vector<std::vector<float>> decoded;
  float margin = 1e9f;
  auto logits = session.prefill(ids);
  while (ids.size() < prompt + 200) {
    std::vector<float> sorted(logits.begin(), logits.end());
    decoded.push_back(sorted);
    std::nth_element(sorted.begin(), sorted.begin() + 1, sorted.end(), std::greater<>());
    margin = std::min(margin, *std::max_element(sorted.begin(), sorted.begin() + 2) - sorted[1]);
    ids.push_back(test::argmax(logits));
    logits = session.decode(ids.back());
  }
  CHECK(session.cache().wraps() == 3);
  CHECK(tokenizer.decode(ids) ==
        "And it came to pass, and said unto him, Say unto the LORD, I will not go up to the LORD, and will I "
        "go out of the LORD. And the LORD said unto Moses, Speak unto the LORD, saying, I will not be a man, "
        "and I will make thee a man to the LORD. And the LORD said unto Moses, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And the LORD said unto him, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And the LORD said unto him, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And the LORD said unto him, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And the LORD said unto him, Behold, I will not be a man, "
        "and I will not be in the land of Egypt. And");
  // No choice hangs on how a machine rounds its sums: the logits of two implementations are 3e-5 apart at most.
  CHECK(margin > 1e-4f);

  Session<Model, float> other{model};
  const auto all = other.forward(ids);
  std::size_t different = 0;
  for (std::size_t i = 0; i < decoded.size(); ++i) {
    if (!test::same_bits(all.row(prompt - 1 + i), decoded[i])) ++different;
  }
  CHECK(different == 0);
}
