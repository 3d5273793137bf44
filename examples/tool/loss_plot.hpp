// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace mistral::tool {

/// A loss over the steps of a training.
using LossCurve = std::vector<std::pair<std::uint64_t, double>>;

/// An SVG of the training's loss and of the validation's; a curve without points is left out. Of a long training the
/// training's loss is drawn as means of several steps, which the picture says.
std::string loss_plot(const std::string& title, const LossCurve& training, const LossCurve& validation);

}  // namespace mistral::tool
