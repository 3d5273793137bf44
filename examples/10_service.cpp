// SPDX-License-Identifier: Apache-2.0
// A service: clients in threads of their own, one model:  10_service [CHECKPOINT], the folder of
// examples/own_model/breeze
//
// One thread steps the batch while there is something to do, and waits while there is not, which takes no processor
// time. Clients add their prompts at any moment; a request's tag says to whom its result belongs.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <mistral/generate/batch.hpp>
#include <mistral/model.hpp>

inline constexpr mistral::ModelConfig breeze{.dim = 128,
                                             .n_layers = 4,
                                             .head_dim = 32,
                                             .hidden_dim = 384,
                                             .n_heads = 4,
                                             .n_kv_heads = 2,
                                             .window_size = 64,
                                             .context_len = 1024,
                                             .vocab_size = 2048};
using Model = mistral::Transformer<breeze, mistral::F32>;

class Service {
 public:
  Service(const Model& model, const mistral::Tokenizer& tokenizer)
      : batch_(model, tokenizer, {.max_sequences = 4, .token_budget = 32}), stepping_([this] { serve(); }) {}

  // Takes no more, answers what it has taken, and ends. To end at once: batch_.cancel_all() after close().
  ~Service() {
    batch_.close();
    stepping_.join();
  }

  // From any thread. What the batch refuses (a wrong prompt, too many that wait) it throws here.
  std::future<mistral::Generated> submit(std::vector<mistral::TokenId> prompt, mistral::GenerateOptions options) {
    const std::lock_guard<std::mutex> lock(mutex_);  // the answer has its place before the result can come
    const std::uint64_t tag = next_tag_++;
    const auto place = answers_.try_emplace(tag).first;
    std::future<mistral::Generated> made = place->second.get_future();
    try {
      batch_.add({.prompt = std::move(prompt), .options = std::move(options), .tag = tag});
    } catch (...) {
      answers_.erase(place);
      throw;
    }
    return made;
  }

 private:
  void serve() {
    while (batch_.wait()) {
      for (mistral::BatchResult& result : batch_.step()) {
        std::promise<mistral::Generated> answer = take(result.tag);
        if (result.error) {
          answer.set_exception(result.error);
        } else {
          answer.set_value(std::move(result.made));
        }
      }
    }
  }

  std::promise<mistral::Generated> take(std::uint64_t tag) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return std::move(answers_.extract(tag).mapped());
  }

  mistral::SessionBatch<Model, float> batch_;
  std::mutex mutex_;  // of what follows
  std::map<std::uint64_t, std::promise<mistral::Generated>> answers_;
  std::uint64_t next_tag_ = 0;
  std::thread stepping_;  // last: it uses all the others
};

int main(int argc, char** argv) try {
  const std::string checkpoint = argc > 1 ? argv[1] : "examples/own_model/breeze";
  const Model model = mistral::load<Model>(checkpoint);
  const auto tokenizer = mistral::Tokenizer::load(checkpoint + "/tokenizer.model");

  // Each client asks twice, thinks in between, and gets the text that it would get alone.
  const char* const begins[] = {"And the king said", "Behold,", "In the beginning",
                                "The land",          "My son",  "Let there be"};
  std::vector<std::string> texts(std::size(begins));
  Service service(model, tokenizer);
  const auto client = [&](std::size_t i) {
    texts[i] = begins[i];
    for (std::uint64_t turn = 0; turn < 2; ++turn) {
      std::vector<mistral::TokenId> prompt = tokenizer.encode(texts[i]);
      prompt.insert(prompt.begin(), tokenizer.bos_id());
      mistral::GenerateOptions options{.max_tokens = 16};
      options.sampling = {.temperature = 0.8f, .top_p = 0.9f, .seed = turn};
      texts[i] += service.submit(std::move(prompt), std::move(options)).get().text;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  };
  std::vector<std::future<void>> clients;
  for (std::size_t i = 0; i < texts.size(); ++i) clients.push_back(std::async(std::launch::async, client, i));
  for (std::future<void>& ended : clients) ended.get();  // throws what the client threw
  for (const std::string& text : texts) std::printf("%s\n\n", text.c_str());
} catch (const mistral::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
