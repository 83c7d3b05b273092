#include "picture.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

namespace plan {

namespace {

constexpr double width = 1100, height = 440;
constexpr int most_ranks_drawn = 10000;

// On a ground of its own. Stages are hues that differ for colour-blind eyes too (Okabe and Ito), what a rank holds is
// shades of grey. Stage2 is broad, since Stage1 often lies on it, and so is StageHybridState under StageHybrid.
constexpr const char* style = R"(<style>
  text { font: 13px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 16px; font-weight: 600 } .small { font-size: 12px } .soft { fill: #59636e }
  .ground { fill: #ffffff; stroke: #d1d9e0 } .grid { stroke: #d1d9e0 } .axis { stroke: #59636e }
  .limit { stroke: #cf222e; stroke-width: 1.5; stroke-dasharray: 6 4 } .limit-text { fill: #cf222e }
  .part0 { fill: #32465c } .part1 { fill: #6f8aa8 } .part2 { fill: #a9bdd3 } .part3 { fill: #dbe4ee }
  .curve { fill: none; stroke-width: 2.5; stroke-linejoin: round }
  path.Stage2, path.StageHybridState { stroke-width: 6 } path.absent { stroke-dasharray: 2 5; stroke-width: 1.5 }
  text.Stage0 { fill: #0072b2 } text.Stage1 { fill: #b87400 } text.Stage2 { fill: #00845f }
  text.Stage3 { fill: #8a5a9e } text.StageHybrid { fill: #b04a00 } text.StageHybridState { fill: #4d5560 }
  path.Stage0 { stroke: #0072b2 } path.Stage1 { stroke: #e69f00 } path.Stage2 { stroke: #009e73 }
  path.Stage3 { stroke: #8a5a9e } path.StageHybrid { stroke: #d55e00 } path.StageHybridState { stroke: #9aa4af }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .soft { fill: #9198a1 }
    .ground { fill: #0d1117; stroke: #3d444d } .grid { stroke: #2a313c } .axis { stroke: #9198a1 }
    .limit { stroke: #ff7b72 } .limit-text { fill: #ff7b72 }
    .part0 { fill: #dbe4ee } .part1 { fill: #94abc4 } .part2 { fill: #5f7894 } .part3 { fill: #364a61 }
    text.Stage0 { fill: #4fb0e8 } text.Stage1 { fill: #e8b04a } text.Stage2 { fill: #2fc49b }
    text.Stage3 { fill: #c39bd3 } text.StageHybrid { fill: #ff8c42 } text.StageHybridState { fill: #f0f6fc }
    path.Stage0 { stroke: #4fb0e8 } path.Stage1 { stroke: #e8b04a } path.Stage2 { stroke: #1f9c7a }
    path.Stage3 { stroke: #c39bd3 } path.StageHybrid { stroke: #ff8c42 } path.StageHybridState { stroke: #9ea7b1 }
  }
</style>
)";

class Drawing {
 public:
  void add(const std::string& text) { body_ += text + '\n'; }

  template <class... Values>
  void format(const char* pattern, Values... values) {
    char text[320];
    std::snprintf(text, sizeof text, pattern, values...);
    add(text);
  }

  void line(const char* look, double x1, double y1, double x2, double y2) {
    format(R"(<line class="%s" x1="%.1f" y1="%.1f" x2="%.1f" y2="%.1f"/>)", look, x1, y1, x2, y2);
  }
  void text(const std::string& look, const char* anchor, double x, double y, const std::string& what) {
    format(R"(<text class="%s" text-anchor="%s" x="%.1f" y="%.1f">%s</text>)", look.c_str(), anchor, x, y,
           what.c_str());
  }
  void box(const std::string& look, double x, double y, double w, double h) {
    format(R"(<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>)", look.c_str(), x, y, w, h);
  }

  const std::string& body() const { return body_; }

 private:
  std::string body_;
};

// An axis from 0 with round numbers on it.
struct Scale {
  double most, tick;

  explicit Scale(double largest) {
    const double rough = std::max(largest, 1e-12) / 5;
    const double power = std::pow(10.0, std::floor(std::log10(rough)));
    for (const double step : {1.0, 2.0, 2.5, 5.0, 10.0})
      if (tick = step * power; tick >= rough) break;
    most = std::ceil(largest * 1.04 / tick) * tick;
  }
};

// Where a panel's numbers lie.
struct Frame {
  double left, right, top, bottom;

  double y(double value, const Scale& scale) const { return bottom - (bottom - top) * value / scale.most; }
};

void axis(Drawing& drawing, const Frame& frame, const Scale& scale, std::string (*label)(double)) {
  for (int i = 0; i * scale.tick <= scale.most * 1.001; ++i) {
    const double y = frame.y(i * scale.tick, scale);
    drawing.line(i == 0 ? "axis" : "grid", frame.left, y, frame.right, y);
    drawing.text("small soft", "end", frame.left - 8, y + 4, i == 0 ? "0" : label(i * scale.tick));
  }
}

void memory(Drawing& drawing, const Question& question, const Answer& answer, const Frame& frame) {
  const double room = question.room();
  double largest = 0;
  for (const StageAnswer& stage : answer.stages) largest = std::max(largest, static_cast<double>(stage.plan.bytes()));
  // A device far larger than what is held would leave the bars flat: then its line is left out.
  const bool shows_room = room > 0 && room < 4 * largest;
  const Scale scale(shows_room ? std::max(largest, room) : largest);
  axis(drawing, frame, scale, bytes);

  constexpr const char* names[] = {"parameters", "gradients", "master weights and state", "in flight"};
  const double step = (frame.right - frame.left) / static_cast<double>(answer.stages.size());
  double middle = frame.left - step / 2;  // of a bar
  for (const StageAnswer& stage : answer.stages) {
    const tessera::Plan& plan = stage.plan;
    const index_t held[] = {plan.parameters.bytes(), plan.gradients.bytes() + plan.reduced_gradients.bytes(),
                            plan.master_weights.bytes() + plan.optimizer_state.bytes(), 0};
    const double flying = static_cast<double>(plan.bytes() - held[0] - held[1] - held[2]);
    middle += step;
    double sum = 0;
    for (int part = 0; part < 4; ++part) {
      const double n = part == 3 ? flying : static_cast<double>(held[part]);
      drawing.box("part" + std::to_string(part), middle - 28, frame.y(sum + n, scale), 56,
                  frame.y(sum, scale) - frame.y(sum + n, scale));
      sum += n;
    }
    const double above = frame.y(sum, scale) - 6, limit = frame.y(room, scale);
    const bool struck = shows_room && limit > above - 14 && limit < above + 5;
    drawing.text("", "middle", middle, struck ? limit - 6 : above, bytes(sum));
    // A long name in two lines: its bar's place is not as wide.
    const std::size_t line = stage.has_groups ? std::string("Stage").size() : stage.stage.size();
    drawing.text("small " + stage.stage, "middle", middle, frame.bottom + 18, stage.stage.substr(0, line));
    if (stage.has_groups)
      drawing.text("small " + stage.stage, "middle", middle, frame.bottom + 32, stage.stage.substr(line));
  }
  if (shows_room) {
    drawing.line("limit", frame.left, frame.y(room, scale), frame.right, frame.y(room, scale));
    // Its name stands below, where no bar is.
    drawing.line("limit", frame.left + 198, frame.bottom + 48, frame.left + 215, frame.bottom + 48);
    drawing.text("small limit-text", "start", frame.left + 220, frame.bottom + 52, bytes(room) + " free on a device");
  }
  const double columns[] = {0, 110, 0, 200}, rows[] = {0, 0, 18, 18};
  for (int part = 0; part < 4; ++part) {
    const double x = frame.left + columns[part], y = frame.bottom + 42 + rows[part];
    drawing.box("part" + std::to_string(part), x, y, 11, 11);
    drawing.text("small", "start", x + 17, y + 10, names[part]);
  }
}

struct Point {
  int ranks;
  double seconds;
  bool fits;
};

struct Curve {
  std::string stage;
  std::vector<Point> points{};
};

// The worlds that a stage can have, evenly on a logarithmic axis.
std::vector<int> worlds_drawn(const Question& question, const std::string& stage) {
  constexpr int steps = 32;
  const Worlds worlds(question, stage);
  std::vector<int> found;
  for (int s = 0; s <= steps; ++s) {
    const double aim = std::pow(most_ranks_drawn, static_cast<double>(s) / steps);
    const int count = worlds.count(static_cast<int>(aim));
    if (count > 0 && (found.empty() || found.back() != worlds[count - 1])) found.push_back(worlds[count - 1]);
  }
  return found;
}

void step_times(Drawing& drawing, const Question& question, const Answer& found, const Frame& frame) {
  std::vector<Curve> curves;
  double largest = 0;
  for (const StageAnswer& stage : found.stages) {
    Curve curve{stage.stage};
    for (const int ranks : worlds_drawn(question, stage.stage)) {
      const StageAnswer at = answer(question, stage.stage, ranks);
      curve.points.push_back({ranks, at.time.seconds, at.fits});
      largest = std::max(largest, at.time.seconds);
    }
    if (curve.points.size() > 1) curves.push_back(curve);
  }
  const Scale scale(largest);
  axis(drawing, frame, scale, seconds);
  const auto x = [&](double ranks) {
    return frame.left + (frame.right - frame.left) * std::log10(ranks) / std::log10(double{most_ranks_drawn});
  };
  for (int ranks = 1; ranks <= most_ranks_drawn; ranks *= 10) {
    drawing.line("axis", x(ranks), frame.bottom, x(ranks), frame.bottom + 5);
    drawing.text("small soft", "middle", x(ranks), frame.bottom + 20,
                 ranks < 1000 ? std::to_string(ranks) : std::to_string(ranks / 1000) + ",000");
  }
  drawing.text("small soft", "middle", (frame.left + frame.right) / 2, frame.bottom + 38,
               "ranks (dotted: does not fit)");
  if (question.ranks <= most_ranks_drawn) {
    drawing.line("axis", x(question.ranks), frame.top, x(question.ranks), frame.bottom);
    const bool at_axis = x(question.ranks) < frame.left + 24;  // whose highest number stands there
    drawing.text("small soft", at_axis ? "start" : "middle", x(question.ranks), frame.top - 5, ranks(question.ranks));
  }

  // A piece of a curve is dotted where the stage does not fit.
  for (auto curve = curves.rbegin(); curve != curves.rend(); ++curve) {
    const std::vector<Point>& points = curve->points;
    for (std::size_t i = 0; i + 1 < points.size();) {
      const bool fits = points[i].fits && points[i + 1].fits;
      std::string path;
      std::size_t j = i;
      for (;; ++j) {
        char text[48];
        std::snprintf(text, sizeof text, "%s%.1f %.1f", path.empty() ? "M" : " L", x(points[j].ranks),
                      frame.y(points[j].seconds, scale));
        path += text;
        if (j + 1 == points.size() || (j > i && (points[j].fits && points[j + 1].fits) != fits)) break;
      }
      drawing.add("<path class=\"curve " + curve->stage + (fits ? "" : " absent") + "\" d=\"" + path + "\"/>");
      i = j;
    }
  }

  // Names at the ends, pushed apart where curves meet.
  std::vector<std::pair<double, std::string>> ends;
  for (const Curve& curve : curves) ends.push_back({frame.y(curve.points.back().seconds, scale), curve.stage});
  std::stable_sort(ends.begin(), ends.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  double above = 0;
  for (auto& [y, stage] : ends) above = y = std::max(y, above + 15);
  const double over = std::max(0.0, above - frame.bottom);
  for (const auto& [y, stage] : ends) drawing.text("small " + stage, "start", frame.right + 7, y - over + 4, stage);
}

}  // namespace

std::string picture(const Question& question, const Answer& answer) {
  Drawing drawing;
  drawing.format(R"(<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %.0f" role="img">)", width, height);
  drawing.add("<title>What each stage holds, and how long its steps take</title>");
  drawing.add(style);
  drawing.box("ground\" rx=\"8", 0.5, 0.5, width - 1, height - 1);
  const std::string model =
      count(static_cast<double>(question.parameters)) + " parameters, " + question.rule + " in " + question.precision;
  drawing.text("title", "start", 24, 34, "Bytes a rank");
  const std::string groups =
      answer.has_groups() ? ", groups of " + std::to_string(question.group_size(question.ranks)) : "";
  drawing.text("small soft", "start", 24, 54, model + ", " + ranks(question.ranks) + groups);
  memory(drawing, question, answer, {80, 536, 86, 350});
  drawing.text("title", "start", 580, 34, "Time of a step");
  drawing.text(
      "small soft", "start", 580, 54,
      seconds(question.options.micro_batches * question.pass_seconds()) + " of forward and backward on each rank");
  step_times(drawing, question, answer, {640, 970, 86, 350});
  drawing.add("</svg>");
  return drawing.body();
}

}  // namespace plan
