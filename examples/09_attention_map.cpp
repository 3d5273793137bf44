// SPDX-License-Identifier: Apache-2.0
// Draws what every head looks at:  09_attention_map [CHECKPOINT [TEXT [OUT.svg]]]
//
// A row for each layer, a map for each head: from the token at the left (a line) to the tokens above it (columns), the
// darker the more. The scores are a hook's: attention itself never writes them down.
#include <cstdio>
#include <fstream>
#include <string>
#include <vector>

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

struct Cell {
  std::size_t layer, head;
  std::int64_t query, key;
  float weight;
};

// Keeps what can be seen of the scores.
struct Map {
  std::vector<Cell> cells;
  void scores(const mistral::AttentionScores& s) {
    for (std::size_t i = 0; i < s.x.rows(); ++i) {
      for (std::size_t j = 0; j < s.x.cols(); ++j) {
        if (s.x.row(i)[j] < 0.01f) continue;
        cells.push_back({s.layer, s.head, s.position + static_cast<std::int64_t>(i),
                         s.first_key + static_cast<std::int64_t>(j), s.x.row(i)[j]});
      }
    }
  }
};

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return out;
}

int main(int argc, char** argv) try {
  const std::string checkpoint = argc > 1 ? argv[1] : "examples/own_model/breeze";
  const std::string path = argc > 3 ? argv[3] : "attention.svg";
  const Model model = mistral::load<Model>(checkpoint);
  const auto tokenizer = mistral::Tokenizer::load(checkpoint + "/tokenizer.model");
  std::vector<mistral::TokenId> text =
      tokenizer.encode(argc > 2 ? argv[2] : "And God said, Let there be light: and there was light.");
  text.insert(text.begin(), tokenizer.bos_id());
  mistral::Session<Model, float> session{model};
  Map map;
  session.prefill(text, map);

  constexpr std::size_t cell = 10, left = 80, gap = 24;  // pixels
  const std::size_t side = cell * text.size();
  std::ofstream svg(path);
  svg << "<svg xmlns=\"http://www.w3.org/2000/svg\" font-family=\"sans-serif\" font-size=\"8\" width=\""
      << left + breeze.n_heads * (side + gap) << "\" height=\"" << breeze.n_layers * (side + gap) << "\">\n";
  for (std::size_t layer = 0; layer < breeze.n_layers; ++layer) {
    for (std::size_t head = 0; head < breeze.n_heads; ++head) {
      const std::size_t x = left + head * (side + gap), y = gap + layer * (side + gap);
      svg << "<text x=\"" << x << "\" y=\"" << y - 4 << "\">layer " << layer << ", head " << head << "</text>\n"
          << "<rect x=\"" << x << "\" y=\"" << y << "\" width=\"" << side << "\" height=\"" << side
          << "\" fill=\"none\" stroke=\"#ccc\"/>\n";
    }
    for (std::size_t t = 0; t < text.size(); ++t) {
      svg << "<text x=\"" << left - 4 << "\" y=\"" << gap + layer * (side + gap) + (t + 1) * cell - 2
          << "\" text-anchor=\"end\">" << escaped(tokenizer.piece(text[t])) << "</text>\n";
    }
  }
  for (const Cell& c : map.cells) {
    svg << "<rect x=\"" << left + c.head * (side + gap) + static_cast<std::size_t>(c.key) * cell << "\" y=\""
        << gap + c.layer * (side + gap) + static_cast<std::size_t>(c.query) * cell << "\" width=\"" << cell
        << "\" height=\"" << cell << "\" fill=\"#036\" fill-opacity=\"" << c.weight << "\"/>\n";
  }
  svg << "</svg>\n";
  svg.close();
  if (!svg) {
    std::fprintf(stderr, "%s: can't be written\n", path.c_str());
    return 1;
  }
  std::printf("%s: %zu maps of %zu tokens\n", path.c_str(), breeze.n_layers * breeze.n_heads, text.size());
} catch (const mistral::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
