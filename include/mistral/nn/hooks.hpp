#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <mistral/core/rows.hpp>

namespace mistral::inline MISTRAL_ABI {

/// Activations of one sequence's rows at some place of a forward. What is written to them goes on from there.
struct LayerRows {
  std::size_t layer;      ///< of which block, from 0
  std::size_t sequence;   ///< index of the sequence in the forward
  std::int64_t position;  ///< position of the first row
  Rows<float> x;          ///< (rows, width)
};

/// The residual stream (rows, dim) as it enters block `layer`; layer == n_layers: as it leaves the last.
using Residual = LayerRows;

/// How much of each key one head of queries takes: softmax(q . k / sqrt(head_dim)) over the keys in the window.
struct AttentionScores {
  std::size_t layer;       ///< of which block, from 0
  std::size_t sequence;    ///< index of the sequence in the forward
  std::size_t head;        ///< of queries, less than n_heads
  std::int64_t position;   ///< position of the first row
  std::int64_t first_key;  ///< position of the first column's key
  Rows<const float> x;     ///< (rows, keys), until the hook returns; 0 outside of a row's window
};

/// The members that a tape may have (nn/tape.hpp), as concepts of its type: const where the tape is.
template <class Tape>
concept WatchesResidual = requires(Tape& tape, const Residual& x) {
  tape.residual(x);
};
template <class Tape>
concept WatchesScores = requires(Tape& tape, const AttentionScores& x) {
  tape.scores(x);
};
template <class Tape>
concept WatchesHeads = requires(Tape& tape, const LayerRows& x) {
  tape.heads(x);
};
template <class Tape>
concept WatchesAttention = requires(Tape& tape, const LayerRows& x) {
  tape.attention_output(x);
};
template <class Tape>
concept WatchesFeedForward = requires(Tape& tape, const LayerRows& x) {
  tape.feed_forward_output(x);
};
template <class Tape>
concept WatchesBetween = requires(Tape& tape, Rows<float> x) {
  tape.between(x);
};
template <class Tape>
concept WatchesGate = requires(Tape& tape, Rows<float> x) {
  tape.gate(x);
};
template <class Tape>
concept WatchesLogits = requires(Tape& tape, std::span<float> x) {
  tape.logits(x);
};

/// Whether a tape has hooks that a block calls and that may throw.
template <class Tape>
inline constexpr bool watches_inside_blocks =
    WatchesScores<Tape> || WatchesHeads<Tape> || WatchesAttention<Tape> || WatchesFeedForward<Tape>;

/// A hook that nobody calls is a mistake that doesn't compile: a member function of a hook's name that isn't const in a
/// tape that is, or that takes something else. `CheckedTape<Tape>::value` is true or fails to compile with a message
/// that names the hook.
template <class Tape>
struct CheckedTape {
 private:
  template <class T>
  static constexpr bool is_function = std::is_member_function_pointer_v<T>;
  using T = std::remove_const_t<Tape>;

  static_assert(WatchesResidual<Tape> ||
                    !(WatchesResidual<T> || requires { requires is_function<decltype(&T::residual)>; }),
                "tape: residual() would not be called: it takes a const Residual&, and is const where the tape is");
  static_assert(
      WatchesScores<Tape> || !(WatchesScores<T> || requires { requires is_function<decltype(&T::scores)>; }),
      "tape: scores() would not be called: it takes a const AttentionScores&, and is const where the tape is");
  static_assert(WatchesHeads<Tape> || !(WatchesHeads<T> || requires { requires is_function<decltype(&T::heads)>; }),
                "tape: heads() would not be called: it takes a const LayerRows&, and is const where the tape is");
  static_assert(
      WatchesAttention<Tape> ||
          !(WatchesAttention<T> || requires { requires is_function<decltype(&T::attention_output)>; }),
      "tape: attention_output() would not be called: it takes a const LayerRows&, and is const where the tape is");
  static_assert(
      WatchesFeedForward<Tape> ||
          !(WatchesFeedForward<T> || requires { requires is_function<decltype(&T::feed_forward_output)>; }),
      "tape: feed_forward_output() would not be called: it takes a const LayerRows&, and is const where the tape is");
  static_assert(WatchesBetween<Tape> ||
                    !(WatchesBetween<T> || requires { requires is_function<decltype(&T::between)>; }),
                "tape: between() would not be called: it takes Rows<float>, and is const where the tape is");
  static_assert(WatchesGate<Tape> || !(WatchesGate<T> || requires { requires is_function<decltype(&T::gate)>; }),
                "tape: gate() would not be called: it takes Rows<float>, and is const where the tape is");
  static_assert(WatchesLogits<Tape> || !(WatchesLogits<T> || requires { requires is_function<decltype(&T::logits)>; }),
                "tape: logits() would not be called: it takes a std::span<float>, and is const where the tape is");

 public:
  static constexpr bool value = true;  ///< or fails to compile
};

namespace detail {

/// Calls show(LayerRows) for the rows of each sequence. x: (tokens, width), the first sequence's rows first.
///   pushed   whether the rows are in the layer's ring already
template <class Sequence, class Show>
void show_rows(std::size_t layer, std::span<const Sequence> sequences, bool pushed, Rows<float> x, const Show& show) {
  std::size_t row = 0;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& s = sequences[i];
    std::int64_t position = s.cache == nullptr ? 0 : s.cache->layer(layer).keys[0].position();
    if (pushed && s.cache != nullptr) position -= static_cast<std::int64_t>(s.rows);
    show(LayerRows{layer, i, position, x.slice(row, s.rows)});
    row += s.rows;
  }
}

}  // namespace detail

}  // namespace mistral::inline MISTRAL_ABI
