// SPDX-License-Identifier: Apache-2.0
#include "loss_plot.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "console.hpp"

namespace mistral::tool {

namespace {

constexpr double width = 720, height = 400;
constexpr double left = 70, right = 110, top = 56, bottom = 52;

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<') {
      out += "&lt;";
    } else if (c == '&') {
      out += "&amp;";
    } else {
      out += c;
    }
  }
  return out;
}

// 1, 2 or 5 times a power of ten, so that a range has some five of it.
double tick_of(double range) {
  const double power = std::pow(10.0, std::floor(std::log10(range / 5.0)));
  for (const double times : {1.0, 2.0, 5.0}) {
    if (power * times >= range / 5.0) return power * times;
  }
  return power * 10.0;
}

// Means of so many steps that few points are left.
LossCurve thinned(const LossCurve& curve, std::size_t each) {
  LossCurve out;
  for (std::size_t i = 0; i < curve.size(); i += each) {
    const std::size_t end = std::min(curve.size(), i + each);
    double sum = 0.0;
    for (std::size_t k = i; k < end; ++k) sum += curve[k].second;
    out.emplace_back(curve[end - 1].first, sum / static_cast<double>(end - i));
  }
  return out;
}

}  // namespace

std::string loss_plot(const std::string& title, const LossCurve& training, const LossCurve& validation) {
  const std::size_t each = training.size() / 100 + 1;
  struct Series {
    const char* label;
    const char* colour;
    LossCurve points;
  };
  const Series series[] = {{"training", "#1f6fb4", thinned(training, each)}, {"validation", "#c4501b", validation}};

  double last = 1.0, least = INFINITY, most = -INFINITY;
  for (const Series& s : series) {
    for (const auto& [step, loss] : s.points) {
      last = std::max(last, static_cast<double>(step));
      least = std::min(least, loss);
      most = std::max(most, loss);
    }
  }
  if (least > most) least = 0.0, most = 1.0;
  const double tick = tick_of(std::max(most - least, 1e-3));
  least = std::floor(least / tick) * tick;
  most = std::max(std::ceil(most / tick) * tick, least + tick);
  const auto x_of = [&](double step) { return left + (width - left - right) * step / last; };
  const auto y_of = [&](double loss) {
    return height - bottom - (height - top - bottom) * (loss - least) / (most - least);
  };

  std::string out = format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"%.0f\" height=\"%.0f\" fill=\"#ffffff\"/>\n",
      width, height, width, height);
  out += "<title>" + escaped(title) + "</title>\n";
  out += format("<text x=\"%.0f\" y=\"24\" font-size=\"15\" font-weight=\"bold\" fill=\"#222222\">", left);
  out += escaped(title) + "</text>\n";
  out += format("<text x=\"%.0f\" y=\"42\" fill=\"#666666\">cross-entropy in nats a token", left);
  if (each > 1) out += format("; training: means of %zu steps", each);
  out += "</text>\n";
  const int decimals = std::max(0, static_cast<int>(-std::floor(std::log10(tick) + 1e-9)));
  for (int i = 0; i <= static_cast<int>(std::lround((most - least) / tick)); ++i) {
    const double level = least + i * tick;
    out += format("<path d=\"M%.1f %.1fH%.1f\" stroke=\"#dddddd\"/>\n", left, y_of(level), width - right);
    out += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\" fill=\"#444444\">%.*f</text>\n", left - 8,
                  y_of(level) + 4, decimals, level);
  }
  const double step_tick = std::max(1.0, tick_of(last));
  for (double step = 0.0; step <= last; step += step_tick) {
    out += format("<path d=\"M%.1f %.1fv5\" stroke=\"#444444\"/>\n", x_of(step), height - bottom);
    out += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"#444444\">%.0f</text>\n", x_of(step),
                  height - bottom + 19, step);
  }
  out += format("<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\" fill=\"#444444\">steps</text>\n", x_of(last / 2),
                height - bottom + 40);

  // labels stand at the ends of their curves, and apart from each other
  const bool both = !series[0].points.empty() && !series[1].points.empty();
  const double ends[] = {both ? y_of(series[0].points.back().second) : 0.0,
                         both ? y_of(series[1].points.back().second) : 0.0};
  const double apart = both && std::abs(ends[0] - ends[1]) < 16 ? 8 : 0;
  for (std::size_t i = 0; i < 2; ++i) {
    const Series& s = series[i];
    if (s.points.empty()) continue;
    out += "<polyline points=\"";
    for (const auto& [step, loss] : s.points) out += format("%.1f,%.1f ", x_of(static_cast<double>(step)), y_of(loss));
    out.back() = '"';
    out += format(" fill=\"none\" stroke=\"%s\" stroke-width=\"%zu\"/>\n", s.colour, i + 1);
    const auto& [step, loss] = s.points.back();
    const double away = ends[i] > ends[1 - i] ? apart : -apart;
    out += format("<text x=\"%.1f\" y=\"%.1f\" fill=\"%s\" font-weight=\"bold\">%s</text>\n",
                  x_of(static_cast<double>(step)) + 8, y_of(loss) + 4 + away, s.colour, s.label);
  }
  return out + "</svg>\n";
}

}  // namespace mistral::tool
