// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include <mistral/core/rows.hpp>

namespace mistral { inline namespace MISTRAL_ABI {

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
/// Whether a tape says of which layers its scores() is shown.
template <class Tape>
concept ChoosesScores = requires(Tape& tape, std::size_t layer) {
  static_cast<bool>(tape.wants_scores(layer));
};

/// Whether a tape has hooks that a block calls and that may throw.
template <class Tape>
inline constexpr bool watches_inside_blocks =
    WatchesScores<Tape> || WatchesHeads<Tape> || WatchesAttention<Tape> || WatchesFeedForward<Tape>;

/// Whether a tape has any hook.
template <class Tape>
inline constexpr bool watches = watches_inside_blocks<Tape> || WatchesResidual<Tape> || WatchesBetween<Tape> ||
                                WatchesGate<Tape> || WatchesLogits<Tape>;

/// Whether a forward calls a hook of the tape: another one is as none to it.
template <class Tape>
inline constexpr bool watches_forward =
    watches_inside_blocks<Tape> || WatchesResidual<Tape> || WatchesBetween<Tape> || WatchesGate<Tape>;

/// Marks a tape that may be without any hook: one that is derived from it.
struct WatchesNothing {};

namespace detail {

/// Whether T has members that can be called as a hook can, of a name that is nearly a hook's.
// clang-format off
#define MISTRAL_CALLED(name) requires(T& t, Argument x) { t.name(x); }
template <class T, class Argument>
concept NearlyResidual = MISTRAL_CALLED(residuals) || MISTRAL_CALLED(Residual) || MISTRAL_CALLED(on_residual) ||
    MISTRAL_CALLED(onResidual) || MISTRAL_CALLED(residual_stream) || MISTRAL_CALLED(residual_hook) ||
    MISTRAL_CALLED(resid) || MISTRAL_CALLED(residul) || MISTRAL_CALLED(residaul) || MISTRAL_CALLED(residial);
template <class T, class Argument>
concept NearlyScores = MISTRAL_CALLED(score) || MISTRAL_CALLED(Scores) || MISTRAL_CALLED(on_scores) ||
    MISTRAL_CALLED(onScores) || MISTRAL_CALLED(attention_scores) || MISTRAL_CALLED(attention_score) ||
    MISTRAL_CALLED(attn_scores) || MISTRAL_CALLED(scores_hook) || MISTRAL_CALLED(socres);
template <class T, class Argument>
concept NearlyHeads = MISTRAL_CALLED(head) || MISTRAL_CALLED(Heads) || MISTRAL_CALLED(on_heads) ||
    MISTRAL_CALLED(onHeads) || MISTRAL_CALLED(heads_output) || MISTRAL_CALLED(head_output) ||
    MISTRAL_CALLED(head_outputs) || MISTRAL_CALLED(heads_hook);
template <class T, class Argument>
concept NearlyAttention = MISTRAL_CALLED(attention_outputs) || MISTRAL_CALLED(attention_out) ||
    MISTRAL_CALLED(attn_output) || MISTRAL_CALLED(attn_out) || MISTRAL_CALLED(attentionOutput) ||
    MISTRAL_CALLED(AttentionOutput) || MISTRAL_CALLED(on_attention_output) || MISTRAL_CALLED(on_attention) ||
    MISTRAL_CALLED(atention_output) || MISTRAL_CALLED(attenton_output) || MISTRAL_CALLED(output_attention);
template <class T, class Argument>
concept NearlyFeedForward = MISTRAL_CALLED(feed_forward_outputs) || MISTRAL_CALLED(feedforward_output) ||
    MISTRAL_CALLED(feed_forward_out) || MISTRAL_CALLED(feed_forwards_output) || MISTRAL_CALLED(ffn_output) ||
    MISTRAL_CALLED(mlp_output) || MISTRAL_CALLED(feedForwardOutput) || MISTRAL_CALLED(FeedForwardOutput) ||
    MISTRAL_CALLED(on_feed_forward_output) || MISTRAL_CALLED(on_feed_forward) ||
    MISTRAL_CALLED(feed_foward_output) || MISTRAL_CALLED(output_feed_forward);
template <class T, class Argument>
concept NearlyLogits = MISTRAL_CALLED(logit) || MISTRAL_CALLED(Logits) || MISTRAL_CALLED(on_logits) ||
    MISTRAL_CALLED(onLogits) || MISTRAL_CALLED(on_logit) || MISTRAL_CALLED(logits_hook) || MISTRAL_CALLED(logtis) ||
    MISTRAL_CALLED(lgoits);
template <class T, class Argument>
concept NearlyWantsScores = MISTRAL_CALLED(want_scores) || MISTRAL_CALLED(wants_score) ||
    MISTRAL_CALLED(wantsScores) || MISTRAL_CALLED(wantScores) || MISTRAL_CALLED(wants_attention_scores);
#undef MISTRAL_CALLED
// clang-format on

}  // namespace detail

/// A hook that nobody calls is a mistake that doesn't compile. `CheckedTape<Tape>::value` is true or fails to compile
/// with a message that names the hook, or the hooks there are, for
///
/// - a member function of a hook's name that isn't const in a tape that is, or that takes something else;
/// - a tape without any hook that isn't derived from WatchesNothing, as NoTape is: all its hooks are misspelt;
/// - beside hooks, a member that can be called as a hook can and whose name is nearly that hook's: `residuals` with a
///   LayerRows. What else a tape has (data, functions of other arguments or other names) is its own: the language can't
///   list a type's members, so that a name which is far from any hook's is taken for a function of the tape's own.
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
  static_assert(ChoosesScores<Tape> ||
                    !(ChoosesScores<T> || requires { requires is_function<decltype(&T::wants_scores)>; }),
                "tape: wants_scores() would not be called: it takes a layer, a std::size_t, returns a bool, and is "
                "const where the tape is");
  static_assert(WatchesScores<T> || !ChoosesScores<T>,
                "tape: wants_scores() would not be called: it says of which layers scores() is shown, and there is no "
                "scores(const AttentionScores&)");

  static_assert(watches<T> || std::is_base_of_v<WatchesNothing, T>,
                "tape: no member is a hook. The hooks are residual, scores (with wants_scores), heads, "
                "attention_output, feed_forward_output and logits, and for training between and gate; a tape that "
                "watches nothing on purpose is derived from WatchesNothing");
  static_assert(!detail::NearlyResidual<T, const Residual&> || WatchesResidual<T>,
                "tape: a member is nearly the hook residual(const Residual&), and would not be called");
  static_assert(!detail::NearlyScores<T, const AttentionScores&> || WatchesScores<T>,
                "tape: a member is nearly the hook scores(const AttentionScores&), and would not be called");
  static_assert(!detail::NearlyHeads<T, const LayerRows&> || WatchesHeads<T>,
                "tape: a member is nearly the hook heads(const LayerRows&), and would not be called");
  static_assert(!detail::NearlyAttention<T, const LayerRows&> || WatchesAttention<T>,
                "tape: a member is nearly the hook attention_output(const LayerRows&), and would not be called");
  static_assert(!detail::NearlyFeedForward<T, const LayerRows&> || WatchesFeedForward<T>,
                "tape: a member is nearly the hook feed_forward_output(const LayerRows&), and would not be called");
  static_assert(!detail::NearlyLogits<T, std::span<float>> || WatchesLogits<T>,
                "tape: a member is nearly the hook logits(std::span<float>), and would not be called");
  static_assert(!detail::NearlyWantsScores<T, std::size_t> || ChoosesScores<T>,
                "tape: a member is nearly wants_scores(std::size_t layer), and would not be called");

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

}}  // namespace mistral
